"""All targets' files read into one table, in the order of the summary."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from nontrivial.errors import UserError
from nontrivial.parquet_columns import opened
from nontrivial.summary_schema import SUMMARY

READERS = 8  # files at a time; what is waited for is the disk


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
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(_read_target, files))
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
    return pa.concat_tables([tables[i] for i in order])


def _read_target(path: Path) -> pa.Table:
    with opened(path, SUMMARY.names) as file:
        # One thread here: the files are read side by side already.
        table = file.read(columns=SUMMARY.names, use_threads=False)
    if not table.num_rows:
        raise UserError(f"{path}: has no rows; delete the file and run again")
    try:
        return table.select(SUMMARY.names).cast(SUMMARY)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"{path}: a column has another type ({error}); delete the file and run again"
        ) from error


def _key(table: pa.Table) -> tuple:
    names = ("experiment", "training", "seed", "split", "intervention", "target")
    return tuple(table.column(name)[0].as_py() for name in names)
