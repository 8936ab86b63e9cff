"""Read the target files of all experiments into one table."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.execution.parent_process import end_with_parent
from nontrivial.formats import parquet
from nontrivial.formats.summary import TARGET_SCHEMA, Flag, check, names, primary_rows

FILES_AT_A_TIME = 500  # per process
OVER_SEEDS = -1  # in place of null in an array of seeds
_SEPARATOR = "\t"  # no kernel's path has one: kernel tables are tab-separated


def read_targets(files: Sequence[Path], processes: int = 1) -> pa.Table:
    """Return the rows of all target files, in the order of ``files`` and of rows in each.

    They have the summary's columns and ``margins``.

    Args:
        files: one per target.
        processes: how many may read at a time.

    Raises:
        UserError: a file cannot be read, lacks columns or is empty, has an impossible row, or
            does not hold exactly one target with all its seeds; or two files hold one target.
    """
    batches = [files[i : i + FILES_AT_A_TIME] for i in range(0, len(files), FILES_AT_A_TIME)]
    parts = list(_read_parts(batches, min(processes, len(batches))))
    table = pa.concat_tables([part.table for part in parts]).combine_chunks()
    ends = np.cumsum([count for part in parts for count in part.counts])
    limits = ends.tolist()

    def source(row: int) -> Path:
        return files[bisect_right(limits, row)]

    starts = np.concatenate([[0], ends[:-1]])
    _require_distinct_targets(table, starts, source)
    check(table, source)
    _require_one_target_each(table, starts, ends, source)
    _require_all_seeds(table, starts, source)
    return table


@dataclass(frozen=True)
class _Part:
    """The rows of some files in order, and how many each has."""

    table: pa.Table
    counts: list[int]


def _read_parts(batches: Sequence[Sequence[Path]], processes: int) -> Iterator[_Part]:
    # Processes, not threads: opening a small file is CPU work under the interpreter's lock, and
    # threads take up to twice the time (measured on a local disk).
    if processes == 1:
        yield from map(_read_part, batches)
        return
    with ProcessPoolExecutor(processes, get_context("fork"), end_with_parent) as pool:
        yield from pool.map(_read_part, batches)


def _read_part(files: Sequence[Path]) -> _Part:
    tables = [_read_target(path) for path in files]
    counts = [table.num_rows for table in tables]
    # One chunk: the columns of many small tables take ten times the memory of their rows. The
    # cast unifies names that do not count in a comparison, those of a list's items.
    return _Part(pa.concat_tables(tables).combine_chunks().cast(TARGET_SCHEMA), counts)


def _read_target(path: Path) -> pa.Table:
    with parquet.opened(path) as file:
        parquet.require_columns(file, TARGET_SCHEMA.names, path)
        # All columns: naming them takes three times as long.
        table = file.read(use_threads=False)
    if not table.num_rows:
        raise UserError(f"{path}: has no rows; {parquet.REMEDY}")
    return parquet.conform(table, TARGET_SCHEMA, path)


def _require_one_target_each(
    table: pa.Table, starts: np.ndarray, ends: np.ndarray, source: Callable[[int], Path]
) -> None:
    first = pa.array(np.repeat(starts, ends - starts))
    for name in names(Flag.SHARED):
        column = _comparable(table[name])
        wanted = column.take(first)
        differ = pc.fill_null(
            pc.not_equal(column, wanted), pc.not_equal(pc.is_null(column), pc.is_null(wanted))
        )
        row = pc.index(differ, True).as_py()
        if row >= 0:
            raise UserError(f"{source(row)}: its rows have more than one {name}; {parquet.REMEDY}")


def _require_all_seeds(table: pa.Table, starts: np.ndarray, source: Callable[[int], Path]) -> None:
    """Refuse a file without one primary row per seed and one over all of these seeds."""
    seeds = pc.fill_null(table["seed"], OVER_SEEDS).to_numpy()
    is_first = np.append(True, seeds[1:] != seeds[:-1])
    is_first[starts] = True
    blocks = np.flatnonzero(is_first)  # first rows of a seed's rows, or of those over seeds
    primary = np.add.reduceat(primary_rows(table).to_numpy().astype(int), blocks)
    over = seeds[blocks] == OVER_SEEDS
    covered = np.where(over, table["seeds"].to_numpy()[blocks], 0)
    files = np.searchsorted(starts, blocks, side="right") - 1

    def per_file(values: np.ndarray) -> np.ndarray:
        return np.bincount(files, weights=values)

    wrong = (
        (per_file(primary != 1) > 0)
        | (per_file(over) != 1)
        | (per_file(covered) != per_file(~over))
    )
    if wrong.any():
        raise UserError(
            f"{source(int(starts[np.argmax(wrong)]))}: does not have accuracy or Dice over all"
            f" classes once per seed and once over all seeds; {parquet.REMEDY}"
        )


def _require_distinct_targets(
    table: pa.Table, starts: np.ndarray, source: Callable[[int], Path]
) -> None:
    keys = names(Flag.IDENTITY, Flag.SHARED)
    first: dict[tuple, int] = {}
    columns = table.select(keys).take(pa.array(starts)).to_pydict().values()
    for start, key in zip(starts.tolist(), zip(*columns, strict=True), strict=True):
        other = first.setdefault(key, start)
        if other != start:
            raise UserError(
                f"{source(start)}: contains the same target as {source(other)}"
                f" ({', '.join(str(value) for value in key if value is not None)}); list each once"
            )


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join(column, _SEPARATOR) if pa.types.is_list(column.type) else column
