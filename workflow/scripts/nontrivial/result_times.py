"""Modification times of results, put right where the clock has gone back since they were made.

Snakemake takes a result for current that is not older than what it was made from, and refuses
one that is: with inputs from the future, every job would fail.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

_SECOND = 10**9  # nanoseconds


def leave_the_future(results: Path) -> float:
    """Move the times of all results back by as much as the newest is ahead of the clock.

    Which of two is newer stays as it was.

    Returns:
        How far they were moved, in seconds; 0 if none was ahead.

    Raises:
        OSError: the folder cannot be written.
    """
    ahead = max((s.st_mtime_ns for _, s in _files(results)), default=0) - time.time_ns()
    if ahead <= 0:
        return 0
    moved = set()
    for path, status in _files(results):
        if status.st_ino not in moved:  # kept results are hard links
            moved.add(status.st_ino)
            earlier = status.st_mtime_ns - ahead
            os.utime(path, ns=(earlier, earlier))
    return ahead / _SECOND


def mark_stale(paths: Iterable[str]) -> None:
    """Make files look older than anything else, those of them that exist.

    A run does so with all that it is about to make anew: if the clock goes back and the run is
    killed, what it did not come to is not taken for newer than what it did.

    Raises:
        OSError: a file cannot be changed.
    """
    for path in paths:
        if os.path.exists(path):
            os.utime(path, (0, 0))


def _files(folder: Path) -> Iterable[tuple[str, os.stat_result]]:
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path, entry.stat()
