"""Read the numbers and claims of the paper (arXiv 2009.09938)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from nontrivial.errors import UserError

CITATION = '"Is Each Layer Non-trivial in CNN?", student abstract, arXiv 2009.09938'
TASK_NAMES = {"cifar10": "CIFAR-10 classification", "t1": "T1 segmentation"}

# Shown beside the paper's numbers.
READING_CAPTIONS = (
    "The captions of the paper's Tables 1 and 2 are swapped: ResNet34 has exactly three shortcut"
    " kernels, in blocks 2 to 4, so the table without block 1 is the one on shortcuts."
)
READING_INVERTED = (
    'The paper\'s sentence "non-trivial if the performances change slightly" is inverted: here a'
    " layer is non-trivial if zeroing its kernel hurts."
)
READING_ADJACENT = (
    'The paper does not define "adjacent". Readings: first-unit keeps the first residual unit of'
    " the block (the default); next keeps the decomposition kernel and the next one; both-sides"
    " also keeps the block's last kernel; none keeps only the decomposition kernel."
)
READING_DATA = "The paper's T1 data are cardiac maps (Fahmy et al. 2019, 210 patients; myocardium)."
PAPERS_SOURCE = {"cifar10": "cifar10", "t1": "fahmy2019"}


@dataclass(frozen=True)
class PaperValue:
    """One number of the paper.

    Attributes:
        table: number of the paper's table.
        task: ``cifar10`` or ``t1``.
        metric: ``accuracy`` or ``dice``.
        kind: ``baseline``, ``block`` or ``shortcut``.
        block: number of the block; None for the baseline.
        value: the number.
    """

    table: int
    task: str
    metric: str
    kind: str
    block: int | None
    value: float


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and the rule that decides it.

    Attributes:
        id: short name.
        task: ``any``, ``classification`` or ``segmentation``.
        claim: the claim, paraphrased.
        rule: name of a rule in :mod:`nontrivial.display.claims`.
        parameters: parameters of the rule.
        decided_by: the rule in words.
    """

    id: str
    task: str
    claim: str
    rule: str
    parameters: dict
    decided_by: str


def read_paper_values(path: Path) -> list[PaperValue]:
    """Return the paper's numbers, ``resources/paper/results.csv``.

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    try:
        return [
            PaperValue(
                table=int(row["table"]),
                task=row["task"],
                metric=row["metric"],
                kind=row["kind"],
                block=int(row["block"]) if row["block"] else None,
                value=float(row["value"]),
            )
            for row in _rows(path)
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not the table of the paper's numbers ({error!r}); restore the file"
        ) from error


def read_claims(path: Path) -> list[Claim]:
    """Return the paper's claims, ``resources/paper/claims.csv``.

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    try:
        return [
            Claim(
                id=row["id"],
                task=row["task"],
                claim=row["claim"],
                rule=row["rule"],
                parameters=json.loads(row["parameters"]),
                decided_by=row["decided_by"],
            )
            for row in _rows(path)
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a table of claims ({error!r}); restore the file") from error


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
