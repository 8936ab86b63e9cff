"""Assign subjects or samples to train, val and test, reproducibly.

The order is that of SHA-256 of (seed, key), not of a random number generator: it does not depend
on the version of a library, and a new subject does not reshuffle the others.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

from nontrivial.data.excerpt import excerpt
from nontrivial.errors import UserError
from nontrivial.formats.dataset import SPLITS


def check_fractions(fractions: dict[str, float]) -> None:
    """Check that the fractions of train, val and test are positive and sum to one.

    Raises:
        UserError: they are not, or they do not.
    """
    if set(fractions) != set(SPLITS) or any(value <= 0 for value in fractions.values()):
        raise UserError("fractions: set train, val and test, each greater than 0")
    if not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        total = sum(fractions.values())
        raise UserError(f"fractions: train, val and test sum to {total:g}; they must sum to 1")


def counts(number: int, fractions: dict[str, float], unit: str) -> dict[str, int]:
    """Return the size of each split: val and test rounded, at least 1; train the rest.

    Example:
        >>> counts(10, {"train": 0.7, "val": 0.1, "test": 0.2}, "subjects")
        {'train': 7, 'val': 1, 'test': 2}

    Args:
        number: of units to split.
        fractions: by split.
        unit: plural noun for the error message.

    Raises:
        UserError: there are too few units.
    """
    check_fractions(fractions)
    val, test = (max(1, round(fractions[split] * number)) for split in ("val", "test"))
    if number - val - test < 1:
        raise UserError(
            f"{max(number, 0)} {unit} are too few to split into train, val and test; "
            "provide at least 3, or change the fractions"
        )
    return {"train": number - val - test, "val": val, "test": test}


def by_subject(subjects: Iterable[str], fractions: dict[str, float], seed: int) -> dict[str, str]:
    """Return the split of every subject; each subject is in exactly one.

    Raises:
        UserError: there are too few subjects.
    """
    order = _shuffled(sorted(set(subjects)), seed)
    number = counts(len(order), fractions, "subjects")
    cuts = (number["val"], number["val"] + number["test"])
    return {
        subject: "val" if place < cuts[0] else "test" if place < cuts[1] else "train"
        for place, subject in enumerate(order)
    }


def check_disjoint(members: Iterable[tuple[str, str]]) -> None:
    """Check that no subject of (subject, split) pairs is in two splits.

    Raises:
        UserError: a subject is; the message names the first and says how many more there are.
    """
    seen: dict[str, str] = {}
    twice: dict[str, str] = {}
    for subject, split in members:
        if seen.setdefault(subject, split) != split:
            twice.setdefault(subject, f"{subject} is in two splits ({seen[subject]} and {split})")
    if twice:
        raise UserError(
            f"subject {excerpt([*twice.values()], 1)}; put all volumes of a subject into one"
        )


def balanced(labels: Sequence[int], number: int, classes: int, seed: int) -> set[int]:
    """Return ``number`` rows, equally many of every class; the first classes get the remainder.

    Args:
        labels: class number by row.
        number: rows to choose.
        classes: number of classes.
        seed: random seed of the choice.

    Raises:
        UserError: a class has too few rows.
    """
    rows_of = _rows_by_class(labels, classes)
    shares = [number // classes + (label < number % classes) for label in range(classes)]
    few = [
        f"class {label} has {len(rows)} image(s), too few to hold out {share}"
        for label, (rows, share) in enumerate(zip(rows_of, shares, strict=True))
        if share >= len(rows)
    ]
    if few:
        raise UserError(f"{excerpt(few, 1)}; hold out fewer")
    return {
        row
        for rows, share in zip(rows_of, shares, strict=True)
        for row in _shuffled(rows, seed)[:share]
    }


def by_class(
    labels: Sequence[int], fractions: dict[str, float], classes: int, seed: int
) -> list[str]:
    """Return the split of every row; each class is divided by the fractions.

    Raises:
        UserError: a class has too few rows.
    """
    split = ["train"] * len(labels)
    for rows in _rows_by_class(labels, classes):
        number = counts(len(rows), fractions, "images of a class")
        order = _shuffled(rows, seed)
        for place, row in enumerate(order[: number["val"] + number["test"]]):
            split[row] = "val" if place < number["val"] else "test"
    return split


def _rows_by_class(labels: Sequence[int], classes: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(classes)]
    for row, label in enumerate(labels):
        rows[label].append(row)
    return rows


def _shuffled(keys: Sequence, seed: int) -> list:
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
