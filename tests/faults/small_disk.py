"""A disk of a few hundred MiB with the results of a finished run, which tests fill up."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Workflow

BALLAST = "ballast.log"  # not a result


@dataclass
class Disk:
    """The disk, and the workflow whose results are on it."""

    workflow: Workflow

    @property
    def results(self) -> Path:
        """The results folder, on which the disk is mounted."""
        return self.workflow.path("results")

    def fill(self, leave: int) -> None:
        """Fill the disk up to a number of free bytes."""
        status = os.statvfs(self.results)
        free = status.f_bavail * status.f_frsize
        with (self.results / BALLAST).open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free - leave)

    def empty(self) -> None:
        """Remove what filled the disk."""
        (self.results / BALLAST).unlink()

    def remount(self, option: str) -> None:
        """Make the disk read-only (``ro``) or writable (``rw``)."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.results], check=True)


@contextlib.contextmanager
def mounted(finished: Workflow, folder: Path) -> Iterator[Disk]:
    """Yield a disk with a copy of a finished run; unmount it when the block is left.

    Skips the test where file systems cannot be mounted.
    """
    shutil.copytree(finished.folder, folder, ignore=lambda *_: ["results"])
    disk = Disk(Workflow(folder))
    disk.results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", disk.results]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        subprocess.run(["cp", "-a", f"{finished.path('results')}/.", disk.results], check=True)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk.results], check=True)
