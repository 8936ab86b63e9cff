"""The last result of a job, kept aside, so that the same one need not be made twice.

Snakemake removes the outputs of a job before it runs, and it runs every job below one that ran,
even if that one made the same again. A job that cost much finds its last result here and takes
it back if it was made from the same things; if the job fails, its outputs are missing and so
stale, and the last result is still here. The copies are hard links: they take no room.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

FOLDER = ".kept"


def kept(path: Path) -> Path:
    """Return where the kept copy of an output is."""
    return path.parent / FOLDER / path.name


def keep(outputs: Sequence[Path]) -> None:
    """Keep a job's outputs in place of those kept before; the last one vouches for the others."""
    for path in outputs:
        kept(path).parent.mkdir(exist_ok=True)
        kept(path).unlink(missing_ok=True)
    for path in outputs:
        _place(path, kept(path))


def recall(outputs: Sequence[Path]) -> None:
    """Put the kept outputs back under their own names, in order."""
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        _place(kept(path), path)


def _place(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # not every file system has hard links
        shutil.copy2(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # a rename onto a link of the same file does nothing
