"""Assign subjects to pairs of volumes: by a regular expression, by a table, or by their names."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.locations import volume_name
from nontrivial.data.tables import read_tsv
from nontrivial.data.volumes import pairs, sessions
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """Return ``subject_pattern`` as a compiled regular expression.

    Raises:
        UserError: it is not a regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"subject_pattern: {pattern!r} is not a regular expression ({error})"
        ) from error


def by_pattern(found: Sequence[Pair], pattern: str) -> list[Pair]:
    """Return pairs with the subjects that a regular expression reads from the image's file name.

    The subject is the first group, or the whole match of an expression without groups.

    Raises:
        UserError: the pattern is not a regular expression, or a name does not match it.
    """
    compiled = compiled_pattern(pattern)
    group = 1 if compiled.groups else 0
    matches = [compiled.search(pair.image.name) for pair in found]
    named = [match[group] if match else None for match in matches]
    if without := [pair.image for pair, name in zip(found, named, strict=True) if not name]:
        raise UserError(
            f"{excerpt(without, 1)}: its name does not match subject_pattern {pattern!r};"
            " change the pattern, or the name"
        )
    return [replace(pair, subject=name) for pair, name in zip(found, named, strict=True) if name]


def by_table(found: Sequence[Pair], table: Path) -> list[Pair]:
    """Return pairs with the subjects that a TSV file gives.

    Its columns are ``image``, the file name with or without suffix, and ``subject``.

    Raises:
        UserError: the table is invalid, or a volume is not in it.
    """
    of: dict[str, set[str]] = defaultdict(set)
    for row in read_tsv(table, ["image", "subject"]):
        of[volume_name(Path(row["image"])) or row["image"]].add(row["subject"])
    if twice := [name for name, subjects in of.items() if len(subjects) > 1]:
        raise UserError(f"{table}: image {excerpt(twice, 1)} has two subjects; keep one")
    names = [volume_name(pair.image) or pair.name for pair in found]
    missing = [pair.image.name for pair, name in zip(found, names, strict=True) if name not in of]
    if missing:
        raise UserError(f"{table}: there is no row for image {excerpt(missing, 1)}; add one")
    return [
        replace(pair, subject=next(iter(of[name]))) for pair, name in zip(found, names, strict=True)
    ]


def each_file(found: Sequence[Pair]) -> list[Pair]:
    """Return the pairs, each a subject of its own, as ``one_subject_per_file`` says.

    Raises:
        UserError: ``{subject}`` has the same value in two images.
    """
    number = Counter(pair.subject for pair in found)
    if several := [subject for subject, images in number.items() if images > 1]:
        raise UserError(
            f"subject {excerpt(several, 1)} has {number[several[0]]} images; remove"
            " one_subject_per_file, or change the pattern of images"
        )
    return list(found)


def check_sessions(found: Sequence[Pair], settings: dict, data_dir: Path) -> None:
    """Check that no two subjects look like sessions, runs or other scans of one subject.

    Raises:
        UserError: some do; the message contains the line of the configuration that groups them.
    """
    names = list(dict.fromkeys(pair.subject for pair in found))
    groups = sessions.alike(names)
    if not groups:
        return
    subject, members = next(iter(groups.items()))
    image_of = {pair.subject: pair.image for pair in reversed(found)}
    more = f" (and {len(groups) - 1} more subjects likewise)" if len(groups) > 1 else ""
    raise UserError(
        f"{image_of[members[0]]} and {image_of[members[1]].name} look like scans of one subject,"
        f" {subject}{more}, so one subject could be in both train and test. Set"
        f" {_grouping_line(found, names, settings, data_dir)}. If each image is a subject of its"
        " own, set one_subject_per_file: true"
    )


def _grouping_line(found: Sequence[Pair], names: list[str], settings: dict, data_dir: Path) -> str:
    """Return the line that groups the scans of each subject, after trying it on the files."""
    for images, labels in _patterns(found, names, settings):
        try:
            grouped = pairs.from_patterns(images, labels, data_dir)
        except UserError:
            continue
        subject_of = {pair.image: pair.subject for pair in grouped}
        ours = {pair.subject: subject_of.get(pair.image) for pair in found}
        if len(grouped) == len(found) and sessions.groups_alike(names, ours):
            return f'images: "{images}" and labels: "{labels}"'
    for expression in sessions.expressions(names):
        try:
            grouped = by_pattern(found, expression)
        except UserError:
            continue
        ours = {old.subject: new.subject for old, new in zip(found, grouped, strict=True)}
        if sessions.groups_alike(names, ours):
            return f"subject_pattern: '{expression}'"
    return "subject_table to a TSV file with the columns image and subject"


def _patterns(found: Sequence[Pair], names: list[str], settings: dict) -> list[tuple[str, str]]:
    """Return patterns of images and labels to try: those in use, with ``{subject}`` replaced."""
    images, labels = settings["images"], settings["labels"]
    if not images:  # a decathlon folder lists its files
        return []
    if not name_patterns.is_pattern(images):
        suffixes = {(_suffix(pair.image), _suffix(pair.label)) for pair in found}
        if len(suffixes) > 1:
            return []
        ends = suffixes.pop()
        images, labels = (
            f"{folder.rstrip('/')}/{{subject}}{end}"
            for folder, end in zip((images, labels), ends, strict=True)
        )
    return [
        (images.replace("{subject}", template), labels.replace("{subject}", template))
        for template in sessions.templates(names)
    ]


def _suffix(path: Path) -> str:
    return path.name[len(volume_name(path) or "") :]
