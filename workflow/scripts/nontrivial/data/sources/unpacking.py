"""Unpack archives that are not trusted."""

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from nontrivial.errors import UserError

LONGEST_NAME = 200  # characters of a member's path; the published archives have up to 60
MOST_EXPANDED = 20  # content over archive size; CIFAR-10 has 1.1
TOO_MUCH = "holds far too much data for its size"
CHUNK = 1 << 20  # bytes in memory at a time
SMALL = 1 << 20  # bytes that any archive may hold, as a tiny one is mostly padding


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of plain files into a folder.

    Raises:
        UserError: the archive is truncated or damaged (a compressed one is read to its end, so that
            its checksum is compared), has members other than files and folders below ``folder``, or
            holds far more data than its size suggests.
    """
    room = archive.stat().st_size * MOST_EXPANDED + SMALL
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                room -= member.size
                if problem := TOO_MUCH if room < 0 else _refused(member):
                    raise _unsafe(archive, problem)
                tar.extract(member, folder, filter="data")
            _read_to_end(cast(IO[bytes], tar.fileobj), archive, room)
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
        reason = (str(error) or type(error).__name__).splitlines()[0]  # tarfile tries all formats
        raise UserError(
            f"{archive}: not a complete tar archive ({reason}); delete it and download it again"
        ) from error


def _read_to_end(content: IO[bytes], archive: Path, room: int) -> None:
    """Read what follows the last member, because the checksum of a compressed archive is there."""
    while part := content.read(CHUNK):
        room -= len(part)
        if room < 0:
            raise _unsafe(archive, TOO_MUCH)


def _unsafe(archive: Path, problem: str) -> UserError:
    return UserError(f"{archive}: {problem}; delete it and download it again")


def _refused(member: tarfile.TarInfo) -> str | None:
    """Return why a member must not be unpacked, or None."""
    name = member.name
    shown = repr(name[:LONGEST_NAME])
    if not (member.isreg() or member.isdir()):
        return f"its member {shown} is neither a file nor a folder"
    if len(name) > LONGEST_NAME or not name.isprintable():
        return f"its member {shown} has a name that is too long or not printable"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return f"its member {shown} would be written outside the folder"
    return None
