"""Write files that appear under their final name only when they are complete."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PART = re.compile(r"\..+\.part(\.[^.]+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success.

    The temporary file is flushed to disk before the rename and removed when the block raises, so
    readers see the old content, the new content or no file, never a part. It has the suffix of
    ``path``, from which some writers infer the format. Parent folders are made.

    Raises:
        OSError: the file cannot be written, for example because the disk is full. The error names
            ``path`` where the system names no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=f".part{path.suffix}"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove partial files of ``path`` that killed processes left; no other may be writing it."""
    for part in Path(path).parent.glob(f".{path.name}.*.part{path.suffix}"):
        part.unlink(missing_ok=True)


def remove_abandoned(folder: Path, spared: str, elsewhere: str) -> None:
    """Remove partial files that killed processes left below a folder.

    Args:
        folder: a folder in which no process writes now.
        spared: prefix of the names of files whose partial files are left alone.
        elsewhere: a file name; folders further down that contain it are left alone.

    Raises:
        OSError: a file cannot be removed.
    """
    for path, folders, names in os.walk(folder):
        if elsewhere in names and Path(path) != Path(folder):
            folders.clear()
            continue
        for name in names:
            if _PART.fullmatch(name) and not name.startswith(f".{spared}"):
                Path(path, name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
