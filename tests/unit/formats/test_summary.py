import made_results
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.errors import UserError
from nontrivial.formats import parquet, summary
from nontrivial.formats.summary import Flag, names

# Others read these columns by name, in this order.
FIXED = (
    "experiment training dataset network stem seed split intervention parameters draw part target"
    " kind reading kernels sites order role block live_weights total_weights status metric class"
    " unit n value value_low value_high baseline drop drop_low drop_high drop_share df p_value"
    " p_holm margin epoch p_nontrivial p_nontrivial_holm p_trivial p_trivial_holm verdict"
)


def table(**changes):
    rows = made_results.rows("e", "resnet18", seeds=(0, 1))[:4]
    rows[0] |= changes
    return pa.Table.from_pylist(rows, schema=summary.SCHEMA)


def test_the_fixed_columns_come_first_and_in_order():
    assert summary.SCHEMA.names[: len(FIXED.split())] == FIXED.split()
    assert len(set(summary.SCHEMA.names)) == len(summary.SCHEMA.names)


def test_columns_by_flag():
    assert names(Flag.FAMILY) == ["experiment", "seed", "split", "intervention", "metric", "epoch"]
    assert names(Flag.HYPOTHESIS) == ["parameters", "draw", "part", "kernels"]
    assert names(Flag.IDENTITY) == [
        *["experiment", "seed", "split", "intervention", "draw", "part", "target"],
        *["metric", "class", "unit", "epoch"],
    ]
    assert set(names(Flag.SETTING)) <= set(names(Flag.SHARED))


def test_good_rows_pass():
    summary.check(table(), lambda row: "file")


def test_rows_over_seeds_need_no_number_of_units():
    summary.check(table(seed=None, n=None, status=None), lambda row: "file")


@pytest.mark.parametrize("status", summary.STATUSES)
def test_every_status_passes_and_two_may_lack_a_value(status):
    summary.check(table(status=status), lambda row: "file")
    empty = dict.fromkeys(["value", "drop", "value_low", "value_high"])
    lacks = table(status=status, **empty)
    if status in ("undefined", "not_finite"):
        summary.check(lacks, lambda row: "file")
    else:
        with pytest.raises(UserError, match="value is empty"):
            summary.check(lacks, lambda row: "file")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("status", "fine", "status is not one of ok, cut, no_effect, undefined, not_finite"),
        ("verdict", "good", "verdict is not one of non-trivial, trivial, harmful, undecided"),
        ("empty", -1, "empty is negative"),
        ("false_positive_ml", -0.5, "false_positive_ml is negative"),
        ("n_for_trivial", -1, "n_for_trivial is negative"),
        ("p_trivial", 1.5, "p_trivial is not between 0 and 1"),
    ],
)
def test_values_that_cannot_be(column, value, problem):
    with pytest.raises(UserError, match=problem):
        summary.check(table(**{column: value}), lambda row: "file")


def test_margins_read_back_and_are_checked(tmp_path):
    rows = made_results.margin_rows(made_results.rows("e", "resnet18"))
    path = tmp_path / "margins.parquet"

    def written(rows):
        pq.write_table(pa.Table.from_pylist(rows, schema=summary.MARGINS_SCHEMA), path)
        return summary.read_margins(path)

    assert len(written(rows)) == len(rows)
    with pytest.raises(UserError, match=r"margins\.parquet: a target has two rows of one margin"):
        written([*rows, rows[0]])
    for value in (1.5, float("nan")):
        with pytest.raises(UserError, match="p_trivial is not between 0 and 1"):
            written([{**rows[0], "p_trivial": value}])


@pytest.mark.parametrize("name", names(Flag.REQUIRED) + names(Flag.REQUIRED_PER_SEED)[1:])
def test_a_required_field_that_is_null(name):
    with pytest.raises(UserError, match=rf"file0: row of target .*: {name} is empty"):
        summary.check(table(**{name: None}), lambda row: f"file{row}")


def test_two_rows_of_one_target_and_metric():
    rows = table()
    with pytest.raises(UserError, match="file4: target baseline has two rows of accuracy"):
        summary.check(pa.concat_tables([rows, rows.slice(0, 1)]), lambda row: f"file{row}")


def test_a_target_file_reads_back(tmp_path):
    rows = made_results.rows("e", "resnet18")
    summary.write_target(tmp_path / "t.parquet", rows)
    read = parquet.read(tmp_path / "t.parquet", summary.TARGET_SCHEMA)
    empty = dict.fromkeys(summary.TARGET_SCHEMA.names)
    assert [as_stored(row) for row in read.to_pylist()] == [
        as_stored({**empty, **row}) for row in rows
    ]


def as_stored(row):
    """Return the row with the margins' fields that a target file has."""
    fields = [field.name for field in summary.MARGIN_LIST.value_type]
    margins = row["margins"]
    if margins is not None:
        margins = [{name: margin[name] for name in fields} for margin in margins]
    return {**row, "margins": margins}
