"""Unpacking archives that come from elsewhere."""

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from nontrivial.errors import UserError

LONGEST_NAME = 200  # characters of a member's path; the archives we know have 60
MOST_EXPANDED = 20  # times the archive's own size; CIFAR-10 has 1.1
SMALL = 1 << 20  # bytes that any archive may hold: a tiny one is mostly padding


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of plain files into a folder.

    Raises:
        UserError: the archive is cut short or damaged, holds more than files and folders inside
            of ``folder``, or far more data than its size lets expect.
    """
    room = archive.stat().st_size * MOST_EXPANDED + SMALL
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                room -= member.size
                if problem := "holds far too much for its size" if room < 0 else _refused(member):
                    raise UserError(f"{archive}: {problem}; delete it and fetch it again")
                tar.extract(member, folder, filter="data")
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        ValueError,
        MemoryError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]  # then: form by form
        raise UserError(
            f"{archive}: not a complete tar archive ({reason}); delete it and fetch it again"
        ) from error


def _refused(member: tarfile.TarInfo) -> str | None:
    """Return why a member is not unpacked; None if it is."""
    name = member.name
    shown = repr(name[:LONGEST_NAME])
    if not (member.isreg() or member.isdir()):
        return f"its member {shown} is neither a file nor a folder"
    if len(name) > LONGEST_NAME or not name.isprintable():
        return f"its member {shown} has a name that is too long or not printable"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return f"its member {shown} would leave the folder"
    return None
