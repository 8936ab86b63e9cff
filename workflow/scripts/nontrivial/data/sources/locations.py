"""Find the raw files of a data set below the data folder, in any of their common forms."""

import csv
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.archives import CIFAR10, HIPPOCAMPUS
from nontrivial.errors import UserError

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_BATCHES = {  # md5 by file name: torchvision.datasets.CIFAR10
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
VOLUME_SUFFIXES = (
    *(".nii.gz", ".nii", ".mgz", ".mgh"),
    *(".img.gz", ".img", ".hdr.gz", ".hdr"),  # two files, a pair
)
VOLUME_FORMS = ".nii, .nii.gz, .mgh, .mgz, or a pair of .hdr and .img"
DECATHLON_HIPPOCAMPUS = "Task04_Hippocampus"
# What git-annex and Git LFS leave in place of a file that was not fetched, and its largest size.
POINTERS = (b"annex/objects/", b"version https://git-lfs")
MOST_POINTER_BYTES = 512


@dataclass(frozen=True)
class Cifar10Files:
    """The files of CIFAR-10.

    Attributes:
        form: ``batches``, ``archive``, ``parquet`` or ``folders``.
        folder: the folder that holds them.
        train: files of the official training images; the archive itself, if it is one.
        test: files of the official test images.
    """

    form: str
    folder: Path
    train: list[Path]
    test: list[Path]


def volume_name(path: Path) -> str | None:
    """Return a volume's file name without suffix; None for hidden files and other suffixes."""
    name = Path(path).name
    if name.startswith("."):  # archives made on macOS hold a "._" file beside every file
        return None
    for suffix in VOLUME_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def volume_files(folder: Path) -> list[Path]:
    """Return the volumes of a folder, sorted by name; none if the folder does not exist.

    A link to a file that does not exist is returned too, so that no volume vanishes. The header of
    a pair is returned only if its voxels are missing.
    """
    volumes = [path for path in _listing(folder) if volume_name(path)]
    present = set(volumes)
    return [path for path in volumes if path == halves(path)[-1] or halves(path)[-1] not in present]


def halves(path: Path) -> tuple[Path, ...]:
    """Return the files of a volume: itself, or the header and the voxels of a pair.

    The half that ``path`` does not name may be compressed or not. If neither form exists, it has
    the form of ``path``.
    """
    name, zipped = path.name, path.name[-3:] if path.name.lower().endswith(".gz") else ""
    stem, suffix = os.path.splitext(name.removesuffix(zipped))
    if suffix.lower() not in (".hdr", ".img"):
        return (path,)
    header = suffix.lower() == ".hdr"
    other = ".img" if header else ".hdr"
    other = other.upper() if suffix.isupper() else other
    forms = [path.with_name(f"{stem}{other}{end}") for end in (zipped, "" if zipped else ".gz")]
    half = next((form for form in forms if os.path.isfile(form)), forms[0])
    return (path, half) if header else (half, path)


def named_volumes(setting: str, data_dir: Path) -> list[Path]:
    """Return the volumes of ``images`` or ``labels``: a folder, or a path with wildcards.

    Raises:
        UserError: the path has wildcards and is not valid.
    """
    if name_patterns.is_pattern(setting):
        return [match.path for match in name_patterns.find(setting, data_dir)]
    return volume_files(data_dir / setting)


def check_fetched(paths: Iterable[Path]) -> None:
    """Check that no file is a dangling link or a pointer of git-annex or Git LFS.

    A file that does not exist at all is not reported.

    Raises:
        UserError: some are; the message names the first and says how many more there are.
    """
    dangling, pointers = [], []
    for path in dict.fromkeys(paths):
        try:
            status = os.stat(path)
            is_small = stat.S_ISREG(status.st_mode) and status.st_size <= MOST_POINTER_BYTES
            if is_small and _is_pointer(path):
                pointers.append(path)
        except OSError:
            if os.path.islink(path):
                dangling.append(path)
        except ValueError:  # a null byte in the name: other checks report it
            continue
    if dangling:
        raise UserError(
            f"{excerpt(dangling, 1)}: a link to a file or folder that does not exist; fetch the"
            " data (datalad get, git annex get), or remove the link"
        )
    if pointers:
        raise UserError(
            f"{excerpt(pointers, 1)}: a pointer of git-annex or Git LFS, not the data; fetch the"
            " data (datalad get, git annex get, git lfs pull)"
        )


def check_whole(volumes: Iterable[Path]) -> None:
    """Check that volumes were fetched, as ``check_fetched`` does, and that no half is missing.

    Raises:
        UserError: some were not, or are half a pair; the message names the first and says how many
            more there are.
    """
    found = {path: halves(path) for path in volumes}
    check_fetched(half for files in found.values() for half in files)
    missing = [
        f"{half}: does not exist, but {path.name} needs it"
        for path, files in found.items()
        for half in files
        if half != path and not os.path.isfile(half)
    ]
    if missing:
        raise UserError(f"{excerpt(missing, 1)}; copy it")


def found_nearby(data_dir: Path, is_right: Callable[[Path], bool]) -> str | None:
    """Return where the data are and what to set, if one level above or below ``data_dir``."""
    above = Path(os.path.normpath(data_dir / ".."))
    below = (
        sorted(path for path in data_dir.iterdir() if path.is_dir()) if data_dir.is_dir() else []
    )
    right = [folder for folder in (above, *below) if is_right(folder)]
    if len(right) > 1:
        return f"{excerpt(right)} have it; set data_dir to one of them"
    return f"{right[0]} has it; set data_dir: {right[0]}" if right else None


def check_there(named: Mapping[str, str], data_dir: Path, advice: str = "") -> None:
    """Check that files and folders exist, or files that paths with wildcards match.

    Args:
        named: path by the key of the configuration that gives it, absolute or relative to
            ``data_dir``.
        data_dir: folder of the raw data.
        advice: what else to do, for the message.

    Raises:
        UserError: one does not, or a link to it dangles; the message says which ``data_dir`` would
            be right for all of them, if one is.
    """
    for key, name in named.items():
        if _exists(key, name, data_dir):
            continue
        path = data_dir / name
        check_fetched([path, *path.parents])
        is_folder = key in ("images", "labels", "decathlon")
        lacks = f"no such {'folder' if is_folder else 'file'}"
        problem = f"{path}: {'no file matches' if _is_pattern(key, name) else lacks}"
        nearby = found_nearby(
            data_dir, lambda folder: all(_exists(key, name, folder) for key, name in named.items())
        )
        if nearby:
            raise UserError(f"{problem}, but {nearby}")
        raise UserError(f"{problem}; check data_dir ({data_dir.absolute()}) and {key}{advice}")


def find_cifar10(data_dir: Path) -> Cifar10Files | None:
    """Find CIFAR-10 under ``data_dir`` or its ``cifar10`` subfolder; None if it is not there.

    Per folder the forms are tried in this order: official batches, official archive, Parquet
    (``train-*`` and ``test-*``, also below ``plain_text``), one folder per class.
    """
    for base in (Path(data_dir) / "cifar10", Path(data_dir)):
        batches = base / "cifar-10-batches-py"
        if batches.is_dir():
            files = [batches / name for name in CIFAR10_BATCHES]
            return Cifar10Files("batches", batches, files[:-1], files[-1:])
        if _is_there(base / CIFAR10.name):
            return Cifar10Files("archive", base, [base / CIFAR10.name], [])
        for folder in (base, base / "plain_text"):
            tables = [path for path in _listing(folder) if path.suffix == ".parquet"]
            train = [path for path in tables if path.name.startswith("train-")]
            test = [path for path in tables if path.name.startswith("test-")]
            if train and test:
                return Cifar10Files("parquet", folder, train, test)
        if all((base / split / CIFAR10_CLASSES[0]).is_dir() for split in ("train", "test")):
            return Cifar10Files(
                "folders", base, _class_files(base / "train"), _class_files(base / "test")
            )
    return None


def find_hippocampus(data_dir: Path) -> tuple[str, Path] | None:
    """Return (form, path) of the hippocampus volumes, or None if there are none.

    ``folders`` is ``hippocampus`` with ``images`` and ``labels``, ``decathlon`` the unpacked
    decathlon folder, ``archive`` its tar file.
    """
    data_dir = Path(data_dir)
    if (data_dir / "hippocampus" / "images").is_dir():
        return "folders", data_dir / "hippocampus"
    if (data_dir / DECATHLON_HIPPOCAMPUS).is_dir():
        return "decathlon", data_dir / DECATHLON_HIPPOCAMPUS
    if _is_there(data_dir / HIPPOCAMPUS.name):
        return "archive", data_dir / HIPPOCAMPUS.name
    return None


def decathlon_files(folder: Path) -> list[Path]:
    """Return a decathlon folder's ``dataset.json`` and the training files it lists, if readable."""
    index = Path(folder) / "dataset.json"
    if not index.is_file():
        return []
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["training"]
        named = [folder / entry[kind] for entry in entries for kind in ("image", "label")]
    except (ValueError, KeyError, TypeError, RecursionError):  # prepare reports what is wrong
        named = []
    return [index, *named]


def table_files(table: Path) -> list[Path]:
    """Return a table of volumes and the files it lists, if readable."""
    if not table.is_file():
        return []
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (ValueError, csv.Error):  # prepare reports what is wrong
        rows = []
    named = [(row.get(kind) or "").strip() for row in rows for kind in ("image", "label")]
    return [table, *(table.parent / name for name in named if name)]


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if name_patterns.is_file_or_link(entry)]
    return [folder / name for name in sorted(names)]


def _is_pattern(key: str, name: str) -> bool:
    return key in ("images", "labels") and name_patterns.is_pattern(name)


def _exists(key: str, name: str, folder: Path) -> bool:
    if _is_pattern(key, name):
        return bool(name_patterns.find(name, folder))
    return (folder / name).exists()


def _is_there(path: Path) -> bool:
    # A dangling link is there, so that nothing is downloaded over it.
    return path.is_file() or path.is_symlink()


def _is_pointer(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(MOST_POINTER_BYTES)
    return any(pointer in head for pointer in POINTERS)


def _class_files(folder: Path) -> list[Path]:
    return [
        path
        for name in CIFAR10_CLASSES
        for path in _listing(folder / name)
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    ]
