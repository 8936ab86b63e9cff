"""All targets' files read into one table, in the order of the summary."""

import json
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
from nontrivial.formats.parquet_columns import opened
from nontrivial.formats.sound_rows import conform, require_sound
from nontrivial.formats.summary import PRIMARY, SUMMARY

PART = 500  # files read at a time by one process

# What the rows of one target have in common, and the rows of no other have.
KEY = ("experiment", "training", "seed", "split", "intervention", "target")


def read_list(path: Path) -> list[Path]:
    """Return the files that a list names, ``{"files": [...]}``.

    Raises:
        UserError: the list cannot be read or names nothing.
    """
    try:
        files = [Path(name) for name in json.loads(Path(path).read_text("utf-8"))["files"]]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a list") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: not a list of the form {{"files": [...]}} ({error!r})') from error
    if not files:
        raise UserError(f"{path}: names no file; configure at least one experiment")
    return files


def read_targets(files: Sequence[Path], processes: int = 1) -> pa.Table:
    """Return the rows of all targets, sorted by experiment, training and seed.

    Within these the order of ``files`` holds (the canonical order of targets), and the order
    of rows in each file.

    Args:
        files: one per target.
        processes: how many may read at a time.

    Raises:
        UserError: a file cannot be read, lacks columns or is empty, holds what cannot be right
            or not exactly one target, or two hold one target.
    """
    lists = [files[i : i + PART] for i in range(0, len(files), PART)]
    parts = list(_read_parts(lists, min(processes, len(lists))))
    keys = [key for part in parts for key in part.keys]
    counts = np.array([count for part in parts for count in part.counts])
    seen: dict[tuple, Path] = {}
    for key, path in zip(keys, files, strict=True):
        if key in seen:
            raise UserError(
                f"{path}: holds the same target as {seen[key]} ({key[0]}, seed {key[2]}, "
                f"{key[-1]}); list each once"
            )
        seen[key] = path
    together = pa.concat_tables([part.table for part in parts]).combine_chunks()
    order = sorted(range(len(files)), key=lambda i: keys[i][:3])
    if order != list(range(len(files))):
        starts = np.cumsum(counts) - counts
        rows = [np.arange(starts[i], starts[i] + counts[i]) for i in order]
        together = together.take(np.concatenate(rows))
    ends = np.cumsum(counts[order]).tolist()

    def source(row: int) -> Path:
        return files[order[bisect_right(ends, row)]]

    require_sound(together, source)
    _require_one_target_each(together, [0, *ends[:-1]], ends, source)
    return together


@dataclass(frozen=True)
class _Part:
    """The rows of some files, in their order; of each file its key and how many rows it has."""

    table: pa.Table
    keys: list[tuple]
    counts: list[int]


def _read_parts(parts: Sequence[Sequence[Path]], processes: int) -> Iterator[_Part]:
    # Processes, no threads: opening so small a file is work, not waiting, and threads that take
    # turns at it need up to twice the time (measured on a local disk).
    if processes == 1:
        yield from map(_read_part, parts)
        return
    with ProcessPoolExecutor(processes, get_context("fork"), end_with_parent) as pool:
        yield from pool.map(_read_part, parts)


def _read_part(files: Sequence[Path]) -> _Part:
    tables = [_read_target(path) for path in files]
    keys = [_key(table, path) for table, path in zip(tables, files, strict=True)]
    counts = [table.num_rows for table in tables]
    # The cast renames what a file may spell in another way (the items of a list): equal bytes.
    # As one piece, because the columns of so many small tables take ten times their rows' room.
    return _Part(pa.concat_tables(tables).combine_chunks().cast(SUMMARY), keys, counts)


def _read_target(path: Path) -> pa.Table:
    with opened(path, SUMMARY.names) as file:
        # Whole files: naming the columns costs three times what reading them all does.
        table = file.read(use_threads=False)
    if not table.num_rows:
        raise UserError(f"{path}: has no rows; delete the file and run again")
    if not table.schema.equals(SUMMARY):
        try:
            table = conform(table, SUMMARY)
        except ValueError as error:
            raise UserError(f"{path}: {error}; delete the file and run again") from error
    return table


def _require_one_target_each(
    table: pa.Table, starts: Sequence[int], ends: Sequence[int], source: Callable[[int], Path]
) -> None:
    first = pa.array(np.repeat(starts, np.subtract(ends, starts)))
    for name in KEY:
        column = table[name]
        row = pc.index(pc.not_equal(column, column.take(first)), True).as_py()
        if row >= 0:
            raise UserError(
                f"{source(row)}: its rows have more than one {name}; delete the file and run again"
            )
    is_metric = pc.is_in(table["metric"], pa.array(list(PRIMARY.values())))
    primary = pc.and_(is_metric, pc.is_null(table["class"])).to_numpy()
    wrong = np.flatnonzero(np.add.reduceat(primary.astype(int), starts) != 1)
    if wrong.size:
        raise UserError(
            f"{source(starts[wrong[0]])}: does not hold exactly one row of accuracy or Dice over "
            "all classes; delete the file and run again"
        )


def _key(table: pa.Table, path: Path) -> tuple:
    key = tuple(table.column(name)[0].as_py() for name in KEY)
    if None in key:
        empty = KEY[key.index(None)]
        raise UserError(f"{path}: {empty} is empty; delete the file and run again")
    return key
