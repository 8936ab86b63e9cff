"""Parquet files in which a changed byte is noticed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.formats import checked_parquet

TABLE = pa.table(
    {
        "target": pa.array(["baseline", "layer-conv1", "layer-conv1", None]),
        "value": pa.array([0.5, 0.25, None, -1.0]),
        "kernels": pa.array([[], ["conv1"], ["conv1", "conv2"], None]),
        "order": pa.array([None, 1, 2, 3], pa.int32()),
    }
).replace_schema_metadata({"about": "it"})
DAMAGE = (OSError, pa.ArrowException)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "table.parquet"
    checked_parquet.write(TABLE, path)
    return path


def test_a_table_reads_back_here_and_elsewhere(path):
    for table in (checked_parquet.read(path), pq.read_table(path)):
        assert table.equals(TABLE)
        assert table.schema.metadata[b"about"] == b"it"


def test_equal_tables_give_equal_bytes(path, tmp_path):
    checked_parquet.write(TABLE, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_whichever_byte_is_changed_the_rows_are_the_same_or_it_is_noticed(path):
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        for change in (0xFF, 0x01, 0x04):
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            try:
                assert checked_parquet.read(path).equals(TABLE), (place, change)
            except pa.ArrowInvalid as error:
                assert "\n" not in str(error)  # noqa: PT017  (most changes raise, not all)
                noticed += 1
    # What is left are sizes and statistics in front of a page, of which nothing follows.
    assert noticed > 0.9 * 3 * len(whole)


def test_a_file_cut_short_anywhere_is_noticed(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(pa.ArrowInvalid):
            checked_parquet.read(path)


def test_a_reader_of_one_row_group_notices_damage_in_it(tmp_path):
    path = tmp_path / "groups.parquet"
    writer = checked_parquet.Writer(path, TABLE.schema, compression="zstd")
    for _ in range(2):
        writer.write_table(TABLE)
    writer.close({"report": "cheap"})
    with checked_parquet.opened(path) as file:
        assert file.metadata.metadata[b"report"] == b"cheap"
        column = file.metadata.row_group(1).column(1)
        end = column.dictionary_page_offset + column.total_compressed_size
    damaged = bytearray(path.read_bytes())
    damaged[end - 1] ^= 1
    path.write_bytes(damaged)
    with checked_parquet.opened(path) as file:
        assert file.read_row_group(0).equals(TABLE)
        with pytest.raises(DAMAGE):
            file.read_row_group(1)


def test_a_file_without_checksums_is_read(path):
    pq.write_table(TABLE, path)
    assert checked_parquet.read(path).equals(TABLE)
