import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.array_stream import array_stream


@settings(max_examples=25)
@given(st.lists(st.integers(0, 5), max_size=6), st.sampled_from(["uint8", "float32", "int64"]))
def test_the_file_equals_what_numpy_saves(tmp_path_factory, lengths, dtype):
    folder = tmp_path_factory.mktemp("array")
    rows = np.arange(sum(lengths) * 6).reshape(-1, 2, 3).astype(dtype)
    with array_stream(folder / "streamed.npy", (2, 3), dtype) as stream:
        for part in np.split(rows, np.cumsum(lengths)):
            stream.append(part)
    np.save(folder / "saved.npy", rows)
    assert (folder / "streamed.npy").read_bytes() == (folder / "saved.npy").read_bytes()


def test_views_are_written_in_order(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(4, 2, 3)[::-1]
    with array_stream(tmp_path / "a.npy", (2, 3), "float32") as stream:
        stream.append(rows)
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")

    def fail():
        with array_stream(path, (2,), "uint8") as stream:
            stream.append(np.zeros((1, 2), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("rows", [np.zeros((1, 3), np.uint8), np.zeros((1, 2), np.float32)])
def test_rows_of_another_shape_or_dtype_are_refused(tmp_path, rows):
    with (
        pytest.raises(ValueError, match="rows"),
        array_stream(tmp_path / "a.npy", (2,), "uint8") as stream,
    ):
        stream.append(rows)
