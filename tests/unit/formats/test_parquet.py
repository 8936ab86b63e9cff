"""Parquet files whose damaged pages are detected."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.errors import UserError
from nontrivial.formats import parquet

TABLE = pa.table(
    {
        "target": pa.array(["baseline", "layer-conv1", "layer-conv1", None]),
        "value": pa.array([0.5, 0.25, None, -1.0]),
        "kernels": pa.array([[], ["conv1"], ["conv1", "conv2"], None]),
        "order": pa.array([None, 1, 2, 3], pa.int32()),
    }
).replace_schema_metadata({"about": "it"})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "table.parquet"
    parquet.write(TABLE, path)
    return path


def read(path):
    with parquet.opened(path) as file:
        return file.read()


def pages(path):
    """Return (start, end) of the bytes of each column's pages."""
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        columns = [group.column(i) for i in range(group.num_columns)]
    starts = [c.dictionary_page_offset or c.data_page_offset for c in columns]
    return [(s, s + c.total_compressed_size) for s, c in zip(starts, columns, strict=True)]


def test_a_table_reads_back_here_and_elsewhere(path):
    for table in (read(path), pq.read_table(path)):
        assert table.equals(TABLE)
        assert table.schema.metadata[b"about"] == b"it"


def test_equal_tables_give_equal_bytes(path, tmp_path):
    parquet.write(TABLE, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


def test_a_changed_byte_of_a_page_is_detected_or_harmless(path):
    whole = path.read_bytes()
    changes = detected = 0
    for start, end in pages(path):
        for place in range(start, end):
            damaged = bytearray(whole)
            damaged[place] ^= 0x15
            path.write_bytes(damaged)
            changes += 1
            try:
                assert read(path).equals(TABLE), place
            except UserError:
                detected += 1
    # The rest are sizes and statistics in page headers, which the reader does not use.
    assert detected > 0.8 * changes


def test_a_file_cut_short_anywhere_is_detected(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"table\.parquet: not a readable Parquet file"):
            read(path)


def test_a_reader_of_one_row_group_detects_damage_in_it(tmp_path):
    path = tmp_path / "groups.parquet"
    writer = parquet.Writer(path, TABLE.schema, compression="zstd")
    for _ in range(2):
        writer.write_table(TABLE)
    writer.close({"report": "cheap"})
    with parquet.opened(path) as file:
        assert file.metadata.metadata[b"report"] == b"cheap"
        column = file.metadata.row_group(1).column(1)
        end = column.dictionary_page_offset + column.total_compressed_size
    damaged = bytearray(path.read_bytes())
    damaged[end - 1] ^= 1
    path.write_bytes(damaged)
    with parquet.opened(path) as file:
        assert file.read_row_group(0).equals(TABLE)
    with pytest.raises(UserError), parquet.opened(path) as file:
        file.read_row_group(1)


def test_a_file_without_checksums_is_read(path):
    pq.write_table(TABLE, path)
    assert read(path).equals(TABLE)


def test_read_returns_the_columns_of_the_schema_in_its_order_and_types(path):
    schema = pa.schema([("order", pa.int64()), ("value", pa.float32())])
    table = parquet.read(path, schema)
    assert table.schema.equals(schema)
    assert table["order"].to_pylist() == [None, 1, 2, 3]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (("other", pa.int32()), "no column other"),
        (("target", pa.int32()), r"column target has the wrong type \(string instead of int32\)"),
        (("order", pa.string()), r"column order has the wrong type \(int32 instead of string\)"),
        (("value", pa.int32()), "column value has the wrong type"),
        (("value", pa.bool_()), "column value has the wrong type"),
    ],
)
def test_other_columns_are_refused(path, field, message):
    with pytest.raises(UserError, match=message):
        parquet.read(path, pa.schema([field]))


def test_a_column_with_nulls_is_no_array(path):
    with pytest.raises(UserError, match="column value has 1 empty fields"):
        parquet.as_arrays(TABLE.select(["value"]), path)
