"""Who goes into train, val and test: by subject, or class-balanced; seeded, for all time.

Order comes from SHA-256 of (seed, key), not from a random generator: it is the same in every
version of every library, and a new subject does not reshuffle the others.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

from nontrivial.data.prepared import SPLITS
from nontrivial.errors import UserError


def check_fractions(fractions: dict[str, float]) -> None:
    """Check that the fractions of train, val and test are positive and sum to one.

    Raises:
        UserError: they do not.
    """
    if set(fractions) != set(SPLITS) or any(value <= 0 for value in fractions.values()):
        raise UserError("fractions: give train, val and test, each greater than 0")
    if not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        total = sum(fractions.values())
        raise UserError(f"fractions: train, val and test sum to {total:g}; make it 1")


def counts(number: int, fractions: dict[str, float], unit: str) -> dict[str, int]:
    """Return how many of ``number`` go where: val and test rounded, at least 1; the rest train.

    ``unit`` says what is counted, for the error.

    Raises:
        UserError: there are too few.
    """
    check_fractions(fractions)
    val, test = (max(1, round(fractions[split] * number)) for split in ("val", "test"))
    if number - val - test < 1:
        raise UserError(
            f"{max(number, 0)} {unit} are too few to split into train, val and test; "
            "give at least 3, or other fractions"
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
    """Check (subject, split) pairs: no subject may be in two splits.

    Raises:
        UserError: one is; named with its splits.
    """
    seen: dict[str, str] = {}
    for subject, split in members:
        if seen.setdefault(subject, split) != split:
            raise UserError(
                f"subject {subject} is in two splits ({seen[subject]} and {split}); "
                "put all its volumes in one"
            )


def balanced(labels: Sequence[int], number: int, classes: int, seed: int) -> set[int]:
    """Choose ``number`` rows, the same number of every class (the first classes take the rest).

    Args:
        labels: class number by row.
        number: rows to choose.
        classes: number of classes.
        seed: of the choice.

    Raises:
        UserError: a class has too few rows.
    """
    chosen: set[int] = set()
    for label, rows in enumerate(_rows_by_class(labels, classes)):
        wanted = number // classes + (label < number % classes)
        if wanted >= len(rows):
            raise UserError(
                f"class {label} has {len(rows)} image(s), too few to set {wanted} aside; "
                "ask for fewer"
            )
        chosen.update(_shuffled(rows, seed)[:wanted])
    return chosen


def by_class(
    labels: Sequence[int], fractions: dict[str, float], classes: int, seed: int
) -> list[str]:
    """Return the split of every row, each class divided by the fractions.

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
