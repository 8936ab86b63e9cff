"""Pair image volumes with label volumes and subjects: from names, a decathlon or a table.

No volume is read. The Snakefile imports this module at every start, so it uses the standard library
only.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.locations import (
    VOLUME_FORMS,
    check_fetched,
    check_there,
    check_whole,
    volume_files,
    volume_name,
)
from nontrivial.data.sources.name_patterns import SUBJECT, Match, normalized
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
        above: values of the wildcards in the folders above ``{subject}``, such as the site.
    """

    name: str
    subject: str
    source: str
    image: Path
    label: Path
    split: str | None = None
    above: str = ""


def from_folders(images: Path, labels: Path) -> list[Pair]:
    """Pair the volumes of two folders by name, which is the subject; suffixes may differ.

    Names are compared after Unicode normalization (NFC), because macOS stores others.

    Raises:
        UserError: a folder is missing or empty, or a volume has no counterpart or was not fetched.
    """
    image_of, label_of = _by_name(images), _by_name(labels)
    for left, right, kind in ((image_of, label_of, "label"), (label_of, image_of, "image")):
        if alone := sorted(left.keys() - right.keys()):
            there = labels if kind == "label" else images
            raise UserError(
                f"{excerpt([left[name] for name in alone], 1)}: has no {kind} of the same name in"
                f" {there}; add it, or remove the other"
            )
    check_whole([*image_of.values(), *label_of.values()])
    pairs = [
        Pair(name, name, f"{path.parent.name}/{path.name}", path, label_of[key])
        for key, path in image_of.items()
        for name in [volume_name(path) or path.name]
    ]
    return sorted(pairs, key=lambda pair: pair.name)


def from_patterns(images: str, labels: str, data_dir: Path) -> list[Pair]:
    """Pair the volumes that two patterns match, by the wildcards that both have.

    The value of ``{subject}`` is the subject; without it, each image is a subject of its own. The
    source of a pair is the image's path, which holds the values of all other wildcards. Pairs are
    sorted by it, without its suffix.

    Raises:
        UserError: a pattern is not valid or matches nothing, or an image has no label or several,
            a label has no image, or a volume was not fetched.
    """
    common = common_wildcards(images, labels)
    found_images, found_labels = (
        name_patterns.search(pattern, data_dir) for pattern in (images, labels)
    )
    check_fetched([*found_images.dangling, *found_labels.dangling])
    if not (found_images.matches and found_labels.matches):
        check_there({"images": images, "labels": labels}, data_dir)
    # A wildcard of images may match the suffix of a label: {frame} does 01_gt.
    label_files = {match.path for match in found_labels.matches}
    only_images = [match for match in found_images.matches if match.path not in label_files]
    image_of = _by_values(only_images or found_images.matches, common)
    label_of = _by_values(found_labels.matches, common)
    for left, right, kind, there in (
        (image_of, label_of, "label", labels),
        (label_of, image_of, "image", images),
    ):
        alone = [match.path for key in left for match in left[key] if key not in right]
        if alone:
            raise UserError(
                f"{excerpt(alone, 1)}: has no {kind} that matches {there!r} with the same"
                f" {', '.join(common)}; add it, remove the other, or change the patterns"
            )
    several = [key for key, found in label_of.items() if len(found) > 1]
    if several:
        found = [match.path for match in label_of[several[0]]]
        of = excerpt([image_of[key][0].path for key in several], 1)
        raise UserError(
            f"{of}: {len(found)} labels match ({excerpt(found, 2)}); write in images and labels"
            " the same wildcards"
        )
    above = name_patterns.above(SUBJECT, images)
    pairs = []
    for key, matches in image_of.items():
        for match in matches:
            name = str(Path(match.inside).with_name(volume_name(match.path) or match.path.name))
            subject = match.values.get(SUBJECT, name)
            label = label_of[key][0].path
            folders = "/".join(match.values[wildcard] for wildcard in above)
            pairs.append(Pair(name, subject, match.inside, match.path, label, above=folders))
    check_whole(path for pair in pairs for path in (pair.image, pair.label))
    return sorted(pairs, key=lambda pair: pair.name)


def from_decathlon(folder: Path) -> list[Pair]:
    """Pair the training volumes that a Medical Segmentation Decathlon folder lists.

    Raises:
        UserError: ``dataset.json`` or a file it lists is missing or invalid.
    """
    index = folder / "dataset.json"
    check_fetched([index])
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["training"]
        files = [(folder / entry["image"], folder / entry["label"]) for entry in entries]
    except OSError as error:
        raise UserError(f"{index}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f'{index}: not the index of a decathlon folder; "training" must list images and labels'
        ) from error
    return _pairs(files, index)


def from_table(table: Path) -> list[Pair]:
    """Pair the volumes of a TSV file with columns subject, image, label and, optionally, split.

    Paths are relative to the table's folder.

    Raises:
        UserError: the table or a file it lists is missing or invalid.
    """
    rows = read_tsv(table, ["subject", "image", "label"])
    wrong = [
        f"line {number}: split is {row['split']!r}"
        for number, row in enumerate(rows, start=2)  # line 1 is the header
        if "split" in row and row["split"] not in SPLITS
    ]
    if wrong:
        raise UserError(f"{table}, {excerpt(wrong, 1)}; it must be train, val or test")
    files = [(table.parent / row["image"], table.parent / row["label"]) for row in rows]
    return [
        replace(
            pair, subject=normalized(row["subject"]), source=row["image"], split=row.get("split")
        )
        for pair, row in zip(_pairs(files, table), rows, strict=True)
    ]


def common_wildcards(images: str, labels: str) -> list[str]:
    """Return the wildcards that two patterns both have, by which they are matched.

    Raises:
        UserError: a pattern is not valid, they have none in common, or only one has ``{subject}``.
    """
    of_images, of_labels = name_patterns.wildcards(images), name_patterns.wildcards(labels)
    for pattern in (images, labels):
        if volume_name(Path(pattern)) is None:
            raise UserError(f"{pattern!r} must end in {VOLUME_FORMS}")
    common = [name for name in of_images if name in of_labels]
    if not common or (SUBJECT in of_images) != (SUBJECT in of_labels):
        raise UserError(
            f"images {images!r} and labels {labels!r} are matched by their common wildcards; write"
            " {subject} in both"
        )
    return common


def _by_values(matches: Sequence[Match], names: Sequence[str]) -> dict[tuple, list[Match]]:
    found: dict[tuple, list[Match]] = defaultdict(list)
    for match in matches:
        found[tuple(match.values[name] for name in names)].append(match)
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check data_dir and the data set's section")
    found: dict[str, list[Path]] = defaultdict(list)
    for path in volume_files(folder):
        found[normalized(volume_name(path) or path.name)].append(path)
    if not found:
        raise UserError(
            f"{folder}: has no volume ({VOLUME_FORMS}); copy the volumes here, or change the folder"
        )
    if twice := [paths for paths in found.values() if len(paths) > 1]:
        more = f" (and {len(twice) - 1} more volumes likewise)" if len(twice) > 1 else ""
        raise UserError(f"{twice[0][0]}: the folder also holds {twice[0][1].name}{more}; keep one")
    return {name: paths[0] for name, paths in found.items()}


def _pairs(files: Sequence[tuple[Path, Path]], origin: Path) -> list[Pair]:
    """Return the pairs of (image, label) that a table or an index lists."""
    if not files:
        raise UserError(f"{origin}: lists no volume")
    both = [path for pair in files for path in pair]
    if bad := [repr(path.name) for path in both if not path.name.isprintable()]:
        raise UserError(f"{origin}: the file name {excerpt(bad, 1)} is not printable; rename it")
    if bad := [path.name for path in both if volume_name(path) is None]:
        raise UserError(f"{origin}: {excerpt(bad, 1)} must be {VOLUME_FORMS}")
    number = Counter(os.path.normpath(image) for image, _ in files)
    if bad := [image for image in number if number[image] > 1]:
        raise UserError(f"{origin}: lists the image {excerpt(bad, 1)} twice; keep one")
    check_whole(both)
    # Unlike Path.is_file, os.path.isfile accepts names that are too long.
    if missing := [str(path) for path in dict.fromkeys(both) if not os.path.isfile(path)]:
        raise UserError(
            f"{origin}: lists {excerpt(missing, 1)}, which does not exist; the copy may be"
            f" incomplete ({len(missing)} of {len(set(both))} files)"
        )
    return [
        Pair(name, name, f"{image.parent.name}/{image.name}", image, label)
        for image, label in files
        for name in [volume_name(image) or image.name]
    ]
