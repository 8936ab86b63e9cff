"""Columns of a Parquet file as arrays, with clear words where the file is not what it should be."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.errors import UserError
from nontrivial.formats import checked_parquet

INTEGER, NUMBER, TEXT = "whole numbers", "numbers", "text"
_KINDS = {INTEGER: pa.types.is_integer, NUMBER: pa.types.is_floating, TEXT: pa.types.is_string}


@contextmanager
def opened(path: Path, columns: Sequence[str] | Mapping[str, str]) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that must have the columns; errors while it is read are mended too.

    Args:
        path: the file.
        columns: names, or what each must hold by name (:data:`INTEGER` and the like).

    Raises:
        UserError: the file is missing, damaged, no Parquet, or lacks a column, or one holds
            something else.
    """
    try:
        with checked_parquet.opened(path) as file:
            present = set(file.schema_arrow.names)  # asked once: the file parses it each time
            missing = [name for name in columns if name not in present]
            if missing:
                raise UserError(
                    f"{path}: no column {', '.join(missing)}; delete the file and run again"
                )
            if isinstance(columns, Mapping):
                _require_kinds(file.schema_arrow, columns, path)
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the job that writes it") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a readable Parquet file ({reason}); delete it and run again"
        ) from error


def read_columns(path: Path, columns: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the columns of a whole file, each (rows,).

    Args:
        path: the file.
        columns: what each must hold, by name (:data:`INTEGER` and the like).

    Raises:
        UserError: the file cannot be read, lacks a column, or a column has empty fields or
            holds something else.
    """
    with opened(path, columns) as file:
        return as_arrays(file.read(columns=list(columns)), path)


def as_arrays(table: pa.Table, path: Path) -> dict[str, np.ndarray]:
    """Return a table's columns as arrays; ``path`` is named in errors.

    Raises:
        UserError: a column has empty fields.
    """
    arrays = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise UserError(
                f"{path}: column {name} has {column.null_count} empty fields; "
                "delete the file and run again"
            )
        arrays[name] = column.to_numpy()
    return arrays


def _require_kinds(schema: pa.Schema, columns: Mapping[str, str], path: Path) -> None:
    for name, kind in columns.items():
        found = schema.field(name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        if not _KINDS[kind](found):
            raise UserError(
                f"{path}: column {name} holds {found} instead of {kind};"
                " delete the file and run again"
            )
