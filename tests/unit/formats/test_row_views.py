"""Views of rows hold what the rows hold, and share it."""

import pyarrow as pa
import pytest
from made_results import rows

from nontrivial.formats.row_views import row_views
from nontrivial.formats.summary import SUMMARY
from nontrivial.inference.across_seeds import across_seeds
from nontrivial.inference.families import corrected


@pytest.fixture
def summary():
    table = pa.Table.from_pylist(rows("a", "resnet34", seeds=(0, 1, 2)), schema=SUMMARY)
    return pa.concat_tables([table.slice(0, 40), table.slice(40)])  # in pieces, as files come


def test_values_of_every_row(summary):
    views = row_views(summary)
    assert [dict(view) for view in views] == summary.to_pylist()
    assert len(views[0]) == len(SUMMARY)


def test_statistics_of_views_are_those_of_rows(summary):
    views, plain = row_views(summary), summary.to_pylist()
    assert corrected(views) == corrected(plain)
    assert across_seeds(views) == across_seeds(plain)


def test_equal_lists_and_texts_are_one_object(summary):
    views = row_views(summary)
    first, last = views[-1], views[len(views) // 3 - 1]
    assert first["target"] is last["target"]
    assert first["kernels"] is last["kernels"]


@pytest.mark.parametrize(
    "values", [[[], [""], ["a"], ["a", ""], None, ["a"]], [["a", "b"], ["a b"], []]]
)
def test_lists_that_look_alike(values):
    table = pa.table({"kernels": pa.array(values, pa.list_(pa.string()))})
    assert [view["kernels"] for view in row_views(table)] == values


def test_no_rows():
    assert row_views(SUMMARY.empty_table()) == []
