"""Download a published archive, with retries, and check it.

Tested against a local server only, not against the publishers' own.
"""

import logging
import tempfile
import time
from pathlib import Path

from nontrivial.data.sources.archives import Archive
from nontrivial.data.sources.locations import check_fetched
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest

log = logging.getLogger("nontrivial")

ATTEMPTS = 4
PAUSE = 5.0  # seconds before the second attempt; doubled before each later one


def check_archive(path: Path, archive: Archive) -> None:
    """Check a file against the published checksum.

    Raises:
        UserError: the checksum differs, or the file was not fetched.
    """
    check_fetched([path])
    try:
        found = file_digest(path, "md5")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if found != archive.md5:
        raise UserError(
            f"{path}: wrong checksum (md5 {found}, published {archive.md5}); "
            "delete it, and the next run downloads it again"
        )


def download(
    archive: Archive, folder: Path, attempts: int = ATTEMPTS, pause: float = PAUSE
) -> Path:
    """Download an archive into ``folder`` and return its path.

    The file gets its name when it is complete.

    Args:
        archive: the archive and its checksum.
        folder: created if it is missing.
        attempts: number of attempts in all.
        pause: seconds before the second attempt.

    Raises:
        UserError: no attempt succeeded, or the folder cannot be written.
    """
    # Imports torch, which takes seconds.
    from torchvision.datasets.utils import download_url

    final = Path(folder) / archive.name
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".download-")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); set data_dir to a folder that you"
            f" can write to, or put {archive.name} there"
        ) from error
    with scratch as temporary:
        for attempt in range(1, attempts + 1):
            log.info("downloading %s (attempt %d of %d)", archive.url, attempt, attempts)
            try:
                download_url(archive.url, temporary, filename=archive.name, md5=archive.md5)
                (Path(temporary) / archive.name).replace(final)
                return final
            except (
                OSError,
                RuntimeError,
            ) as error:  # RuntimeError: torchvision found a wrong checksum
                reason = str(error)
                log.info("failed: %s", reason)
            if attempt < attempts:
                time.sleep(pause * 2 ** (attempt - 1))
    raise UserError(
        f"{archive.url}: download failed {attempts} times ({reason}; the file must have md5 "
        f"{archive.md5}); download {archive.name} into {folder} by hand"
    )
