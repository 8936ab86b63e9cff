"""Reuse of a job's earlier result when the job runs again with the same inputs.

Snakemake removes the outputs of a job before it runs, and it runs every job below one that ran,
even if that one produced the same content again. An expensive job therefore keeps a copy of its
outputs, beside them in ``.kept``, and puts it back if its inputs are the same. If the job fails,
its outputs are missing, and the copy is still there. Copies are hard links and take no space.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = ".kept"


@contextmanager
def reused(outputs: Sequence[Path], identity: str) -> Iterator[bool]:
    """Put the kept outputs back if they have this identity; otherwise keep what the block writes.

    Yields whether the outputs are back, in which case the block has nothing to do::

        with reused([output], identity) as is_done:
            if not is_done:
                write(output)

    Outputs are kept only if the block does not raise.

    Args:
        outputs: the files that the job writes, the one that vouches for the others last.
        identity: digest of everything that determines their content.

    Raises:
        OSError: an output was not written, or cannot be copied.
    """
    if _is_kept(outputs, identity):
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            _place(_kept(path), path)
        yield True
        return
    outputs[-1].unlink(missing_ok=True)  # it must not vouch for what the block writes
    yield False
    record = _record(outputs)
    record.parent.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)  # it must not vouch for a mixture of two results
    for path in outputs:
        _place(path, _kept(path))
    content = {"identity": identity, "sha256": [_digest(_kept(path)) for path in outputs]}
    temporary = record.with_name(f".{record.name}.part")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(record)


def _is_kept(outputs: Sequence[Path], identity: str) -> bool:
    """Return whether intact copies of all outputs are there, with this identity."""
    try:
        content = json.loads(_record(outputs).read_text(encoding="utf-8"))
        if content["identity"] != identity:
            return False
        return content["sha256"] == [_digest(_kept(path)) for path in outputs]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _kept(path: Path) -> Path:
    return path.parent / FOLDER / path.name


def _record(outputs: Sequence[Path]) -> Path:
    kept = _kept(outputs[0])
    return kept.with_name(f"{kept.name}.json")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # not every file system has hard links
        shutil.copy2(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # a rename onto a link of the same file does nothing
