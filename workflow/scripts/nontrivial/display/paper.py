"""Read the numbers and claims of the paper (arXiv 2009.09938)."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nontrivial.display.outcomes import ExperimentOutcomes, MarginOutcome, Outcome
from nontrivial.errors import UserError
from nontrivial.formats.summary import ROUNDING

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


def as_outcomes(
    values: Sequence[PaperValue], task: str, margins: Sequence[float]
) -> ExperimentOutcomes:
    """Return the paper's numbers of a task in the form of an experiment's results.

    They are point values. A drop above a margin is non-trivial, one below it trivial; a drop that
    equals the margin has no verdict.

    Args:
        values: the paper's numbers.
        task: ``cifar10`` or ``t1``.
        margins: margins of the verdicts; the first one is the experiment's.
    """
    chosen = [value for value in values if value.task == task]
    baseline = next(value for value in chosen if value.kind == "baseline")

    def outcome(value: PaperValue) -> Outcome:
        drop = baseline.value - value.value
        known = {
            "target": value.kind if value.block is None else f"{value.kind}-{value.block}",
            "kind": value.kind,
            "kernels": (f"{value.kind} {value.block}",),
            "block": value.block,
            "status": "ok",
            "value": value.value,
            "drop": drop,
            "margins": {margin: _point_verdict(drop, margin) for margin in margins},
            "seeds": (),
        }
        return Outcome(**(_unknown(Outcome) | known))

    known = {
        "experiment": "paper",
        "dataset": PAPERS_SOURCE[task],
        "network": "paper",
        "metric": baseline.metric,
        "margin": margins[0],
        "demonstration": False,
        "baseline": outcome(baseline),
        "targets": tuple(outcome(value) for value in chosen if value.kind != "baseline"),
        "without_value": (),
    }
    return ExperimentOutcomes(**(_unknown(ExperimentOutcomes) | known))


def _unknown(kind: type) -> dict[str, Any]:
    """Return every field of a data class as None: the paper does not report it."""
    return {field.name: None for field in fields(kind)}


def _point_verdict(drop: float, margin: float) -> MarginOutcome:
    verdict = None
    if abs(drop - margin) > ROUNDING:
        verdict = "non-trivial" if drop > margin else "trivial"
    p_nontrivial, p_trivial = float(verdict != "non-trivial"), float(verdict != "trivial")
    return MarginOutcome(p_nontrivial, p_nontrivial, p_trivial, p_trivial, verdict)


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
