"""All targets' files read into one table, in the order of the summary."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from nontrivial.errors import UserError
from nontrivial.statistics.parquet_columns import opened
from nontrivial.statistics.summary_schema import SUMMARY


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


def read_targets(files: Sequence[Path]) -> pa.Table:
    """Return the rows of all targets, sorted by experiment, training and seed.

    Within these the order of ``files`` holds (the canonical order of targets), and the order
    of rows in each file.

    Raises:
        UserError: a file cannot be read, lacks columns or is empty, or two hold one target.
    """
    # One after the other: opening so small a file is work, not waiting, and threads that take
    # turns at it need up to twice the time (measured on a local disk).
    tables = [_read_target(path) for path in files]
    keys = [_key(table) for table in tables]
    seen: dict[tuple, Path] = {}
    for key, path in zip(keys, files, strict=True):
        if key in seen:
            raise UserError(
                f"{path}: holds the same target as {seen[key]} ({key[0]}, seed {key[2]}, "
                f"{key[-1]}); list each once"
            )
        seen[key] = path
    order = sorted(range(len(tables)), key=lambda i: keys[i][:3])
    # The cast renames what a file may spell in another way (the items of a list): equal bytes.
    return pa.concat_tables([tables[i] for i in order]).cast(SUMMARY)


def _read_target(path: Path) -> pa.Table:
    with opened(path, SUMMARY.names) as file:
        # Whole files: naming the columns costs three times what reading them all does.
        table = file.read(use_threads=False)
    if not table.num_rows:
        raise UserError(f"{path}: has no rows; delete the file and run again")
    if table.schema.equals(SUMMARY):
        return table
    try:
        return table.select(SUMMARY.names).cast(SUMMARY)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"{path}: a column has another type ({error}); delete the file and run again"
        ) from error


def _key(table: pa.Table) -> tuple:
    names = ("experiment", "training", "seed", "split", "intervention", "target")
    return tuple(table.column(name)[0].as_py() for name in names)
