import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.errors import UserError
from nontrivial.formats.examples import SCHEMA, Example, read, write


def example(sample=3, **changes):
    maps = dict.fromkeys(
        ("image", "truth", "predicted"), np.arange(6, dtype=np.uint8).reshape(2, 3)
    )
    return Example(
        **{"sample": sample, "subject": "s", "slice": 9, "target": "t", **maps, **changes}
    )


def test_examples_read_back(tmp_path):
    path = tmp_path / "examples.parquet"
    write(path, [example(3), example(4, predicted=np.ones((2, 3), np.int64))])
    first, second = read(path, classes=6)
    assert (first.sample, first.subject, first.slice, first.target) == (3, "s", 9, "t")
    assert np.array_equal(first.truth, [[0, 1, 2], [3, 4, 5]])
    assert np.array_equal(second.predicted, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": b"12345"}, "row 0: image has 5 pixels instead of 2 x 3"),
        ({"height": 0}, "row 0: image has 6 pixels instead of 0 x 3"),
        ({"subject": None}, "row 0 has empty fields"),
        ({"truth": bytes([9] * 6)}, "row 0 has a class beyond the 6 of dataset.json"),
    ],
)
def test_impossible_examples_are_refused(tmp_path, changes, message):
    path = tmp_path / "examples.parquet"
    write(path, [example()])
    row = pq.read_table(path).to_pylist()[0] | changes
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), path)
    with pytest.raises(UserError, match=message):
        read(path, classes=6)


def test_no_examples(tmp_path):
    write(tmp_path / "examples.parquet", [])
    with pytest.raises(UserError, match="no slice"):
        read(tmp_path / "examples.parquet", classes=2)
