"""Downloading a published archive, with its checksum and with retries.

Tried against a server on this machine only; the publishers' own hosts were not reachable while
this was written.
"""

import logging
import tempfile
import time
from pathlib import Path

from nontrivial.data.sources.archives import Archive
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest

log = logging.getLogger("nontrivial")

ATTEMPTS = 4
PAUSE = 5.0  # seconds before the second attempt; doubled before each further one


def check_archive(path: Path, archive: Archive) -> None:
    """Check a file against the published digest.

    Raises:
        UserError: it is another file, or cut short.
    """
    try:
        found = file_digest(path, "md5")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if found != archive.md5:
        raise UserError(
            f"{path}: wrong checksum (md5 {found}, published {archive.md5}); "
            "delete it, it will be downloaded again"
        )


def download(
    archive: Archive, folder: Path, attempts: int = ATTEMPTS, pause: float = PAUSE
) -> Path:
    """Download an archive into ``folder`` and return its path, named when it is complete.

    Args:
        archive: what to download, and its digest.
        folder: made if it is missing.
        attempts: how often to try in all.
        pause: seconds before the second attempt.

    Raises:
        UserError: no attempt succeeded, or the folder can't be written.
    """
    # Imports torch, which takes seconds: only when there is something to download.
    from torchvision.datasets.utils import download_url

    final = Path(folder) / archive.name
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".download-")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); set data_dir to a folder of yours "
            f"or put {archive.name} there"
        ) from error
    with scratch as temporary:
        for attempt in range(1, attempts + 1):
            log.info("downloading %s (attempt %d of %d)", archive.url, attempt, attempts)
            try:
                download_url(archive.url, temporary, filename=archive.name, md5=archive.md5)
                (Path(temporary) / archive.name).replace(final)
                return final
            except (OSError, RuntimeError) as error:  # torchvision: RuntimeError, wrong checksum
                reason = str(error)
                log.info("failed: %s", reason)
            if attempt < attempts:
                time.sleep(pause * 2 ** (attempt - 1))
    raise UserError(
        f"{archive.url}: download failed {attempts} times ({reason}; the file must have md5 "
        f"{archive.md5}); put {archive.name} into {folder} yourself"
    )
