"""Unpacking archives that come from elsewhere."""

import tarfile
import zlib
from pathlib import Path

from nontrivial.errors import UserError


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a folder, with the ``data`` filter (nothing leaves the folder).

    Raises:
        UserError: the archive is cut short, damaged or holds a member that the filter refuses.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{archive}: not a complete tar archive ({error}); delete it and fetch it again"
        ) from error
