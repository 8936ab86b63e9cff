"""Write and read Parquet files with page checksums, and report a bad file in one line.

Parquet has a checksum for each page. Arrow writes and verifies them only on request, which this
module makes for every file of ours. A reader of one row group verifies only what it reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.errors import UserError

REMEDY = "delete it and run the workflow again"


class Writer:
    """Writes one row group at a time; :meth:`close` completes the file."""

    def __init__(self, path: Path, schema: pa.Schema, **options: object) -> None:
        """Open the file; ``options`` are those of ``pyarrow.parquet.ParquetWriter``."""
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, **options)

    def write_table(self, table: pa.Table) -> None:
        """Append a table as one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self, metadata: dict[str, str] | None = None) -> None:
        """Write the footer with optional file metadata."""
        self._writer.add_key_value_metadata(metadata or {})
        self._writer.close()


def write(table: pa.Table, path: Path, **options: object) -> None:
    """Write a table as one row group; ``options`` are those of :class:`Writer`."""
    writer = Writer(path, table.schema, **options)
    writer.write_table(table)
    writer.close()


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file and verify its pages as they are read.

    Files without checksums open too.

    Raises:
        UserError: the file is missing, damaged or not Parquet. This includes what Arrow raises
            while the file is open.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the workflow") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable Parquet file ({reason}); {REMEDY}") from error


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema from a whole file, in the schema's order and types.

    Raises:
        UserError: the file cannot be read, lacks a column, or has one of another type.
    """
    with opened(path) as file:
        require_columns(file, schema.names, path)
        table = file.read(columns=schema.names, use_threads=False)
    return conform(table, schema, path)


def select(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the part of a schema with these columns."""
    return pa.schema([schema.field(name) for name in names])


def require_columns(file: pq.ParquetFile, names: Sequence[str], path: Path) -> None:
    """Refuse an open file that lacks one of these columns.

    Raises:
        UserError: a column is missing.
    """
    present = set(file.schema_arrow.names)  # Arrow parses the schema at each access
    missing = [name for name in names if name not in present]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; {REMEDY}")


def conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Return the columns of a schema, in its order and types; ``path`` is for errors.

    Raises:
        UserError: a column has another type.
    """
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        column = table.column(field.name)
        if not _is_alike(column.type, field.type):  # or a number would be cast to text, say
            raise UserError(
                f"{path}: column {field.name} has the wrong type ({column.type} instead of"
                f" {field.type}); {REMEDY}"
            )
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: column {field.name} has the wrong type ({reason}); {REMEDY}"
            ) from error
    return pa.table(columns, schema=schema)


def as_arrays(table: pa.Table, path: Path) -> dict[str, np.ndarray]:
    """Return the columns as arrays, each (rows,); ``path`` is for errors.

    Raises:
        UserError: a column has nulls.
    """
    arrays = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise UserError(f"{path}: column {name} has {column.null_count} empty fields; {REMEDY}")
        arrays[name] = column.to_numpy()
    return arrays


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    kinds = (pa.types.is_string, pa.types.is_boolean)
    return pa.types.is_null(found) or all(kind(found) == kind(wanted) for kind in kinds)
