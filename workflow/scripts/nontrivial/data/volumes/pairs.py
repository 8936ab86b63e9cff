"""Pair image volumes with label volumes and subjects: from folders, a decathlon or a table."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nontrivial.data.sources.locations import volume_files, volume_name
from nontrivial.data.tables import read_tsv
from nontrivial.errors import UserError
from nontrivial.formats.dataset import SPLITS


@dataclass(frozen=True)
class Pair:
    """An image volume with its label volume.

    Attributes:
        name: file name without suffix, used in error messages.
        subject: the subject, or any other unit that must stay in one split.
        source: path of the image as written to the sample table.
        image: its file.
        label: file of its label.
        split: its split if the data specify one, else None.
    """

    name: str
    subject: str
    source: str
    image: Path
    label: Path
    split: str | None = None


def from_folders(images: Path, labels: Path) -> list[Pair]:
    """Pair the volumes of two folders by name, which is the subject; suffixes may differ.

    Raises:
        UserError: a folder is missing or empty, or a volume has no counterpart.
    """
    image_of, label_of = _by_name(images), _by_name(labels)
    for left, right, kind in ((image_of, label_of, "label"), (label_of, image_of, "image")):
        alone = sorted(left.keys() - right.keys())
        if alone:
            there = labels if kind == "label" else images
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise UserError(
                f"{left[alone[0]]}{more}: has no {kind} of the same name in {there}; "
                "add it, or remove the other"
            )
    return [
        Pair(name, name, f"{path.parent.name}/{path.name}", path, label_of[name])
        for name, path in sorted(image_of.items())
    ]


def from_decathlon(folder: Path) -> list[Pair]:
    """Pair the training volumes that a Medical Segmentation Decathlon folder lists.

    Raises:
        UserError: ``dataset.json`` or a file it lists is missing or invalid.
    """
    index = folder / "dataset.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["training"]
        files = [(folder / entry["image"], folder / entry["label"]) for entry in entries]
    except OSError as error:
        raise UserError(f"{index}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f'{index}: not the index of a decathlon folder; "training" must list images and labels'
        ) from error
    return _checked([_pair(image, label, index) for image, label in files], index)


def from_table(table: Path) -> list[Pair]:
    """Pair the volumes of a TSV file with columns subject, image, label and, optionally, split.

    Paths are relative to the table's folder.

    Raises:
        UserError: the table or a file it lists is missing or invalid.
    """
    rows = read_tsv(table, ["subject", "image", "label"])
    with_split = bool(rows) and "split" in rows[0]
    pairs = []
    for number, row in enumerate(rows, start=2):  # line 1 is the header
        split = row["split"] if with_split else None
        if with_split and split not in SPLITS:
            raise UserError(
                f"{table}, line {number}: split is {split!r}; it must be train, val or test"
            )
        pair = _pair(table.parent / row["image"], table.parent / row["label"], table)
        pairs.append(replace(pair, subject=row["subject"], source=row["image"], split=split))
    return _checked(pairs, table)


def subjects_by_pattern(pattern: str) -> Callable[[Pair], str]:
    """Return a function that reads a pair's subject from its file name.

    Raises:
        UserError: the pattern is not a regular expression; later, a name does not match it.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"subject_pattern: {pattern!r} is not a regular expression ({error})"
        ) from error

    def subject(pair: Pair) -> str:
        match = compiled.search(pair.image.name)
        if not match or not match[1 if compiled.groups else 0]:
            raise UserError(f"{pair.image}: its name does not match subject_pattern {pattern!r}")
        return match[1 if compiled.groups else 0]

    return subject


def subjects_by_table(table: Path) -> Callable[[Pair], str]:
    """Return a function that looks up a pair's subject in a TSV file.

    Its columns are ``image``, the file name with or without suffix, and ``subject``.

    Raises:
        UserError: the table is invalid; later, a volume is not in it.
    """
    of: dict[str, str] = {}
    for row in read_tsv(table, ["image", "subject"]):
        name = volume_name(Path(row["image"])) or row["image"]
        if of.setdefault(name, row["subject"]) != row["subject"]:
            raise UserError(f"{table}: image {name} has two subjects; keep one")

    def subject(pair: Pair) -> str:
        if pair.name not in of:
            raise UserError(f"{table}: there is no row for image {pair.image.name}; add one")
        return of[pair.name]

    return subject


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check data_dir and the data set's section")
    found: dict[str, Path] = {}
    for path in volume_files(folder):
        name = volume_name(path) or path.name
        if name in found:
            raise UserError(f"{path}: the folder also holds {found[name].name}; keep one")
        found[name] = path
    if not found:
        raise UserError(f"{folder}: there is no volume (.nii, .nii.gz or .mgz)")
    return found


def _pair(image: Path, label: Path, origin: Path) -> Pair:
    for path in (image, label):
        if not path.name.isprintable():
            raise UserError(f"{origin}: the file name {path.name!r} is not printable; rename it")
    name = volume_name(image)
    if name is None or volume_name(label) is None:
        raise UserError(f"{origin}: {image.name} and {label.name} must be .nii, .nii.gz or .mgz")
    return Pair(name, name, f"{image.parent.name}/{image.name}", image, label)


def _checked(pairs: list[Pair], origin: Path) -> list[Pair]:
    if not pairs:
        raise UserError(f"{origin}: lists no volume")
    seen: set[Path] = set()
    for pair in pairs:
        if pair.image in seen:
            raise UserError(f"{origin}: lists the image {pair.image} twice; keep one")
        seen.add(pair.image)
        for kind, path in (("image", pair.image), ("label", pair.label)):
            if not os.path.isfile(path):  # unlike Path.is_file, it accepts names that are too long
                raise UserError(f"{origin}: lists the {kind} {path}, which does not exist")
    return pairs
