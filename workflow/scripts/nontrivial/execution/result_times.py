"""Modification times of results, put right where the clock has gone back since they were made.

Snakemake takes a result for current that is not older than what it was made from, and refuses
one that is: with inputs from the future, every job would fail.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nontrivial.execution import results_lock

_SECOND = 10**9  # nanoseconds


def leave_the_future(results: Path) -> float:
    """Move the times of all results back by as much as the newest is ahead of the clock.

    Which of two is newer stays as it was. Less than a second is left alone: so much may the
    clock of a file server be ahead. Of the files of other users only the owners can do so.

    Returns:
        How far they were moved, in seconds; 0 if none was ahead.

    Raises:
        OSError: the folder cannot be read or written.
    """
    ahead = max((s.st_mtime_ns for _, s in _files(results)), default=0) - time.time_ns()
    if ahead < _SECOND:
        return 0
    moved = set()
    for path, status in _files(results):
        if status.st_ino not in moved:  # kept results are hard links
            moved.add(status.st_ino)
            _set_time(path, status, max(_SECOND, status.st_mtime_ns - ahead))
    return ahead / _SECOND


def mark_stale(paths: Iterable[str]) -> None:
    """Make files look older than anything else, those of them that exist.

    A run does so with all that it is about to make anew: if the clock goes back and the run is
    killed, what it did not come to is not taken for newer than what it did.

    Raises:
        OSError: a file cannot be changed.
    """
    for path in paths:
        with suppress(FileNotFoundError):
            _set_time(path, os.stat(path), 0)


def _set_time(path: str, status: os.stat_result, modified: int) -> None:
    """Set when a file was modified; when it was read stays, for those who tidy up by that."""
    with suppress(FileNotFoundError, PermissionError):
        os.utime(path, ns=(status.st_atime_ns, modified))


def _files(results: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files of a results folder, but those of other runs' folders in it."""
    folders = [os.fspath(results)]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
        if found.pop(results_lock.NAME, None) and folder != os.fspath(results):
            continue
        for entry in found.values():
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield entry.path, entry.stat()
