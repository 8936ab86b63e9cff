"""List the raw files of a data set and digest their content, so that Snakemake sees changes.

The Snakefile imports this module at every start, so it uses the standard library only. A file is
hashed again when its size or modification time differs from the cached one, older or newer.
"""

import contextlib
import json
import logging
import os
from pathlib import Path

from nontrivial.data.sources import locations
from nontrivial.data.sources.archives import CIFAR10, HIPPOCAMPUS, Archive
from nontrivial.data.volumes import pairs, subjects
from nontrivial.data.volumes.selection import find_pairs, from_decathlon
from nontrivial.errors import UserError
from nontrivial.execution import atomic
from nontrivial.formats.canonical import canonical, digest, file_digest

log = logging.getLogger("nontrivial")

EMBEDDED = ("digits", "mni152")
ARCHIVES = {"cifar10": CIFAR10, "hippocampus": HIPPOCAMPUS}
MISSING = "missing"
FAHMY2019_ADVICE = ", or download the file from doi:10.7910/DVN/DHEUAV"


def check_files(settings: dict, data_dir: Path, is_prepared: bool = False) -> None:
    """Check what can be checked of a data set's raw files without reading volumes or pictures.

    Data that are not there and can be downloaded are fine, unless ``data_dir`` is one folder off.

    Without raw files that were not downloaded, prepared data are stale, and Snakemake would delete
    them before it starts the job that cannot make them again.

    Args:
        settings: the data set's section of the configuration, defaults filled in.
        data_dir: folder of the raw data.
        is_prepared: whether the data set was prepared before, for the message.

    Raises:
        UserError: a file or folder is missing, was not fetched or cannot be read, or names,
            subjects or classes are wrong.
    """
    data_dir = Path(data_dir)
    try:
        if settings["source"] == "nifti":
            for warning in subjects.warnings(find_pairs(settings, data_dir), settings):
                log.warning("warning: %s", warning)
        elif settings["source"] == "fahmy2019":
            locations.check_there({"file": settings["file"]}, data_dir, FAHMY2019_ADVICE)
            locations.check_fetched([data_dir / settings["file"]])
        elif settings["source"] in ARCHIVES:
            _check_downloadable(settings, data_dir)
    except OSError as error:
        raise UserError(_unreadable(error, data_dir)) from error
    except UserError as error:
        if not is_prepared or source_files(settings, data_dir):
            raise
        raise UserError(
            f"{error}. Without the raw data, the prepared data are stale. All results stay as they"
            " are until the raw data are back"
        ) from error


def source_files(settings: dict, data_dir: Path) -> list[Path]:
    """Return the raw files of a data set, sorted; none if embedded or not downloaded yet.

    Args:
        settings: the data set's section of the configuration, defaults filled in.
        data_dir: folder of the raw data.

    Raises:
        UserError: a folder cannot be read.
    """
    try:
        candidates = _candidates(settings, Path(data_dir))
        files = {half for path in candidates for half in locations.halves(path)}
        return sorted(path for path in files if path.is_file())
    except OSError as error:
        raise UserError(_unreadable(error, data_dir)) from error


def source_identity(settings: dict, data_dir: Path, cache: Path, save: bool = True) -> str:
    """Return a string that changes when the content of the raw data changes, and only then.

    It is a digest of relative paths and contents, the published checksum of an archive (before
    and after its download), a constant for embedded data, or ``missing``.

    Args:
        settings: the data set's section of the configuration, defaults filled in.
        data_dir: folder of the raw data.
        cache: JSON file of digests; ignored if it cannot be read or written.
        save: whether to add new digests to the cache.

    Raises:
        UserError: a file or folder cannot be read.
    """
    source = settings["source"]
    if source in EMBEDDED:
        return f"embedded {source}"
    files = source_files(settings, data_dir)
    archive = ARCHIVES.get(source)
    if not files:
        return _published(archive) if archive else MISSING
    hashes = _Hashes(cache)
    try:
        if archive and [path.name for path in files] == [archive.name]:
            found = Archive(archive.name, archive.url, hashes.of(files[0], "md5"))
            return _published(found)
        return digest([[_relative(path, data_dir), hashes.of(path, "sha256")] for path in files])
    except OSError as error:
        raise UserError(_unreadable(error, data_dir)) from error
    finally:
        if save:
            hashes.save()


def _check_downloadable(settings: dict, data_dir: Path) -> None:
    source = settings["source"]
    find = locations.find_cifar10 if source == "cifar10" else locations.find_hippocampus
    if not find(data_dir):
        if nearby := locations.found_nearby(data_dir, lambda folder: bool(find(folder))):
            raise UserError(f"{data_dir.absolute()}: the data set is not here, but {nearby}")
        return
    form, path = locations.find_hippocampus(data_dir) or ("", data_dir)
    if source == "hippocampus" and form == "folders":
        pairs.from_folders(path / "images", path / "labels")
    elif source == "hippocampus" and form == "decathlon":
        from_decathlon(path, settings)
    else:
        locations.check_fetched(_candidates(settings, data_dir))


def _candidates(settings: dict, data_dir: Path) -> list[Path]:
    source = settings["source"]
    if source == "cifar10":
        found = locations.find_cifar10(data_dir)
        return [*found.train, *found.test] if found else []
    if source == "hippocampus":
        form, path = locations.find_hippocampus(data_dir) or (None, data_dir)
        if form == "folders":
            return [p for kind in ("images", "labels") for p in locations.volume_files(path / kind)]
        return locations.decathlon_files(path) if form == "decathlon" else [path]
    if source == "fahmy2019":
        return [data_dir / settings["file"]]
    if source == "nifti":
        return _volume_candidates(settings, data_dir)
    return []


def _volume_candidates(settings: dict, data_dir: Path) -> list[Path]:
    files: list[Path] = []
    for kind in ("images", "labels"):
        if settings.get(kind):
            files += locations.named_volumes(settings[kind], data_dir)
    if settings.get("decathlon"):
        files += locations.decathlon_files(data_dir / settings["decathlon"])
    if settings.get("table"):
        files += locations.table_files(data_dir / settings["table"])
    if settings.get("subject_table"):
        files.append(data_dir / settings["subject_table"])
    return files


def _published(archive: Archive) -> str:
    return f"{archive.name} md5 {archive.md5}"


def _relative(path: Path, data_dir: Path) -> str:
    inside = os.path.relpath(path, data_dir)
    return str(path) if inside.startswith("..") else Path(inside).as_posix()


def _unreadable(error: OSError, data_dir: Path) -> str:
    where = error.filename or data_dir
    return f"{where}: cannot be read ({error.strerror}); check its permissions and data_dir"


class _Hashes:
    """Digests of files, cached by absolute path, size and modification time."""

    def __init__(self, cache: Path) -> None:
        self._path = Path(cache)
        self._changed = False
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entries = {}
        self._entries = entries if isinstance(entries, dict) else {}

    def of(self, path: Path, algorithm: str) -> str:
        """Return the hex digest of a file, from the cache if its entry is up to date."""
        status = path.stat()
        key = f"{algorithm} {path.absolute()}"
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._entries.get(key)
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
            return str(entry[2])
        value = file_digest(path, algorithm)
        self._entries[key] = [*stamp, value]
        self._changed = True
        return value

    def save(self) -> None:
        """Write the cache if a file was hashed; a failure only costs time at the next start."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            atomic.write_text(self._path, canonical(self._entries))
