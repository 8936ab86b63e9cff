"""Assign subjects to pairs of volumes: by a regular expression, by a table, or by their names."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence, Sized
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.locations import volume_name
from nontrivial.data.sources.name_patterns import normalized
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
    matches = [compiled.search(normalized(pair.image.name)) for pair in found]
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
        of[normalized(volume_name(Path(row["image"])) or row["image"])].add(
            normalized(row["subject"])
        )
    if twice := [name for name, subjects in of.items() if len(subjects) > 1]:
        raise UserError(f"{table}: image {excerpt(twice, 1)} has two subjects; keep one")
    names = [normalized(volume_name(pair.image) or pair.name) for pair in found]
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
    groups = sessions.alike(_names(found))
    if not groups:
        return
    subject, members = next(iter(groups.items()))
    image_of = {pair.subject: pair.image for pair in reversed(found)}
    is_certain = all(sessions.known(one) for several in groups.values() for one in several)
    verb = "are" if is_certain else "look like"
    way_out = ". If each image is a subject of its own, set one_subject_per_file: true"
    raise UserError(
        f"{image_of[members[0]]} and {image_of[members[1]].name} {verb} scans of one subject,"
        f" {subject}{_more(groups)}, so one subject could be in both train and test."
        f" {_grouping_line(found, settings, data_dir)}{'' if is_certain else way_out}"
    )


def check_pattern(found: Sequence[Pair], pattern: str) -> None:
    """Check that ``subject_pattern`` does not divide the scans of a subject of a well-known study.

    Raises:
        UserError: it does; the message contains a pattern that does not, if there is one.
    """
    if not (divided := _divided(found)):
        return
    subject, subjects = next(iter(divided.items()))
    unnamed = [replace(pair, subject=volume_name(pair.image) or pair.name) for pair in found]
    raise UserError(
        f"subject_pattern: {pattern!r} makes {excerpt(subjects, 2)} of one subject,"
        f" {subject}{_more(divided)}, so one subject could be in both train and test."
        f" {_expression_line(unnamed)}"
    )


def warnings(found: Sequence[Pair], settings: dict) -> list[str]:
    """Return what may be wrong with subjects that keys assign, a sentence or two each.

    ``one_subject_per_file`` is taken at its word.
    """
    if settings["one_subject_per_file"]:
        return []
    keys = [key for key in ("table", "subject_pattern", "subject_table") if settings[key]]
    if not keys:
        return _repeated_subjects(found)
    groups = sessions.alike(_names(found)) or _divided(found)
    if not groups:
        return []
    subject, members = next(iter(groups.items()))
    return [
        f"{keys[0]} makes {excerpt(members, 2)} different subjects, which look like scans of one,"
        f" {subject}{_more(groups)}. If so, one subject may be in both train and test; change"
        f" {keys[0]}."
    ]


def _divided(found: Sequence[Pair]) -> dict[str, list[str]]:
    """Return the known identifiers in file names to which several subjects belong, with these."""
    subjects: dict[str, list[str]] = defaultdict(list)
    for pair in found:
        scan = sessions.known(pair.image.name)
        if scan and pair.subject not in subjects[scan.subject]:
            subjects[scan.subject].append(pair.subject)
    return {subject: several for subject, several in subjects.items() if several[1:]}


def _repeated_subjects(found: Sequence[Pair]) -> list[str]:
    """Warn of subjects of one name in several folders, such as sites, named by other wildcards."""
    folders: dict[str, list[str]] = defaultdict(list)
    for pair in found:
        if pair.above and pair.above not in folders[pair.subject]:
            folders[pair.subject].append(pair.above)
    repeated = {subject: above for subject, above in folders.items() if above[1:]}
    if not repeated:
        return []
    subject, above = next(iter(repeated.items()))
    return [
        f"Subject {subject}{_more(repeated)} is in several folders ({excerpt(above)}) and counts as"
        " one subject. If each folder has subjects of its own, write another wildcard in place of"
        " {subject} and set one_subject_per_file: true; with several images of a subject, list them"
        " in a table."
    ]


def _more(groups: Sized) -> str:
    return f" (and {len(groups) - 1} more subjects likewise)" if len(groups) > 1 else ""


def _grouping_line(found: Sequence[Pair], settings: dict, data_dir: Path) -> str:
    """Return what to set so that the scans of each subject are together, tried on the files."""
    images, labels = settings["images"] or "", settings["labels"] or ""
    if not name_patterns.is_pattern(images):
        return _expression_line(found)
    if template := sessions.template(_names(found)):
        images, labels = (text.replace("{subject}", template) for text in (images, labels))
        with suppress(UserError):
            if _fits(found, pairs.from_patterns(images, labels, data_dir)):
                return f'Set images: "{images}" and labels: "{labels}"'
    return "Set table to a TSV file with the columns subject, image and label, without images"


def _expression_line(found: Sequence[Pair]) -> str:
    for expression in sessions.expressions(_names(found)):
        with suppress(UserError):
            if "'" not in expression and _fits(found, by_pattern(found, expression)):
                return f"Set subject_pattern: '{expression}'"
    return "Set subject_table to a TSV file with the columns image and subject"


def _names(found: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(pair.subject for pair in found))


def _fits(found: Sequence[Pair], grouped: Sequence[Pair]) -> bool:
    """Return whether new pairs of the same images put the scans of each subject together."""
    subject_of = {pair.image: pair.subject for pair in grouped}
    if subject_of.keys() != {pair.image for pair in found}:
        return False
    by_name = {pair.subject: subject_of[pair.image] for pair in found}
    return sessions.groups_alike([*by_name], by_name)
