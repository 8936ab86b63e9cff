"""Read gzip files to the end, because readers of volumes ignore the checksum there."""

import gzip
import io
import zlib
from pathlib import Path

from nontrivial.errors import UserError

SUFFIXES = (".gz", ".mgz")
MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20  # bytes in memory at a time
ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)


def is_compressed(path: Path) -> bool:
    """Return whether a file must be a gzip file, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def opened(path: Path) -> io.BufferedIOBase:
    """Open a file to read its content, decompressed if it is a gzip file by its name.

    The content is not checked before ``read_to_end``.

    Raises:
        OSError: the file cannot be opened.
    """
    return gzip.open(path, "rb") if is_compressed(path) else path.open("rb")


def read_to_end(stream: io.BufferedIOBase, path: Path) -> None:
    """Read the rest of a gzip file, which compares its content with checksums and lengths.

    Other files have no checksum and are left alone.

    Args:
        stream: from ``opened``. What was read from it before is covered too.
        path: its file.

    Raises:
        UserError: the content does not match, the file is truncated, or other bytes follow.
    """
    if not is_compressed(path):
        return
    try:
        while stream.read(CHUNK):
            pass
    except ERRORS as error:
        raise UserError(
            f"{path}: is damaged: {_problem(error)}. Copy or download it again."
        ) from error


def check(path: Path) -> None:
    """Check a file as ``read_to_end`` does; ignore it if it cannot be opened or is no gzip file.

    Raises:
        UserError: it is a damaged gzip file.
    """
    if not is_compressed(path):
        return
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return
        with opened(path) as stream:
            read_to_end(stream, path)
    except OSError:
        return


def _problem(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "its gzip stream has no end"
    if isinstance(error, zlib.error):
        return "its gzip stream cannot be decompressed"
    if "Not a gzipped file" in str(error):
        return "other bytes follow its gzip stream"
    if "CRC" in str(error) or "length" in str(error):
        return "its gzip checksum does not match"
    return f"its gzip stream is invalid ({error})"
