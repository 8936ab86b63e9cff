"""The results of one experiment: a value, an interval and a verdict per target.

Figures, tables and claims all read the results with this module, so that they agree.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.formats.summary import PRIMARY, ROUNDING, primary_rows, read
from nontrivial.targets import ZEROING

METRIC_NAMES = {"accuracy": "accuracy", "dice": "Dice"}
TASKS = {metric: task for task, metric in PRIMARY.items()}


@dataclass(frozen=True)
class SeedOutcome:
    """One target of one trained network: a row of the summary. Intervals are None if undefined."""

    seed: int
    n: int
    value: float
    low: float | None
    high: float | None
    drop: float


@dataclass(frozen=True)
class Outcome:
    """One target, over all seeds of its experiment.

    Attributes:
        target: name.
        kind: ``baseline``, ``layer``, ``block``, ``shortcut`` or ``set``.
        reading: which reading of "adjacent", for blocks.
        kernels: module paths of the zeroed kernels, in forward order.
        order: position of the first of them in the forward pass; None for the baseline.
        role: role of a single kernel, else None.
        block: layer block that all kernels share, else None.
        live_weights: weights of the zeroed kernels that can meet data at this input size.
        total_weights: all weights of the zeroed kernels.
        status: ``ok``, ``cut`` (constant output, by construction) or ``no_effect``.
        value: the metric; mean over seeds.
        low: lower end of its 95% interval (over seeds if there are several, else of test sampling).
        high: upper end.
        drop: baseline - value; positive is worse.
        drop_low: lower end of its 95% interval.
        drop_high: upper end.
        verdict: ``non-trivial``, ``trivial``, ``undecided``, or None without an interval.
        p_holm: p-value corrected over the experiment's targets; None with several seeds.
        seeds: results of each seed, in increasing order.
    """

    target: str
    kind: str
    reading: str | None
    kernels: tuple[str, ...]
    order: int | None
    role: str | None
    block: int | None
    live_weights: int | None
    total_weights: int | None
    status: str
    value: float
    low: float | None
    high: float | None
    drop: float
    drop_low: float | None
    drop_high: float | None
    verdict: str | None
    p_holm: float | None
    seeds: tuple[SeedOutcome, ...]


@dataclass(frozen=True)
class ExperimentOutcomes:
    """All targets of one experiment under the primary metric.

    Attributes:
        experiment: name.
        training: name of the training that its networks come from.
        dataset: name.
        network: name.
        stem: ``torchvision``, ``cifar`` or ``custom``.
        split: the split that was evaluated.
        metric: ``accuracy`` or ``dice``.
        margin: the largest drop that does not matter.
        demonstration: whether the data allow no inference.
        units: number of test samples or subjects per seed; None if the seeds differ.
        baseline: the unchanged network.
        targets: all other targets, in canonical order.
    """

    experiment: str
    training: str
    dataset: str
    network: str
    stem: str
    split: str
    metric: str
    margin: float
    demonstration: bool
    units: int | None
    baseline: Outcome
    targets: tuple[Outcome, ...]

    @property
    def task(self) -> str:
        """``classification`` or ``segmentation``."""
        return TASKS[self.metric]

    @property
    def seed_count(self) -> int:
        """Number of trained networks."""
        return len(self.baseline.seeds)

    def of_kind(self, *kinds: str) -> list[Outcome]:
        """Return the targets of these kinds, in canonical order."""
        return [outcome for outcome in self.targets if outcome.kind in kinds]


def read_results(summary: Path, across_seeds: Path) -> tuple[pa.Table, pa.Table]:
    """Read both tables of results.

    Raises:
        UserError: a file cannot be read, lacks a column or has an impossible row.
    """
    return read(summary), read(across_seeds)


def select_outcomes(
    summary: pa.Table, across_seeds: pa.Table, experiment: str
) -> ExperimentOutcomes:
    """Return the results of one experiment under zeroing.

    Raises:
        UserError: the summary has no rows of it, or the two tables contradict each other.
    """
    seeds: dict[str, list[dict]] = {}
    for row in _primary_rows(summary, experiment):
        seeds.setdefault(row["target"], []).append(row)
    if not seeds:
        known = ", ".join(sorted(set(summary["experiment"].to_pylist()))) or "none"
        raise UserError(
            f"summary.parquet: no rows for experiment {experiment!r}; it has {known};"
            " add the experiment to the configuration and run the workflow"
        )
    across = {row["target"]: row for row in _primary_rows(across_seeds, experiment)}
    if "baseline" not in seeds or not _fit(seeds, across):
        raise UserError(
            f"summary.parquet and across_seeds.parquet do not have the same results of"
            f" {experiment!r}; delete both and run the workflow again"
        )
    outcomes = [_outcome(rows, across[target]) for target, rows in seeds.items()]
    baseline = next(outcome for outcome in outcomes if outcome.kind == "baseline")
    row = across["baseline"]
    return ExperimentOutcomes(
        experiment=experiment,
        training=row["training"],
        dataset=row["dataset"],
        network=row["network"],
        stem=row["stem"],
        split=row["split"],
        metric=row["metric"],
        margin=row["margin"],
        demonstration=row["demonstration"],
        units=row["n"],
        baseline=baseline,
        targets=tuple(outcome for outcome in outcomes if outcome is not baseline),
    )


def describe(outcomes: ExperimentOutcomes) -> str:
    """Describe the basis of the numbers: test units, seeds, and what the intervals cover."""
    unit = "subject" if outcomes.metric == "dice" else "sample"
    if outcomes.units is None:
        units = f"{outcomes.split} {unit}s differ between seeds"
    else:
        units = f"n = {count(outcomes.units, f'{outcomes.split} {unit}')}"
    seeds = count(outcomes.seed_count, "seed")
    if outcomes.baseline.low is None:
        covered = "no intervals"
        if outcomes.metric == "dice" and not outcomes.demonstration:
            covered += ": too few subjects"
    elif outcomes.seed_count > 1:
        covered = "95% t intervals over seeds"
    else:
        covered = f"95% intervals cover {outcomes.split} sampling only, not training"
    return f"{units}, {seeds}, {covered}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 seed``, ``10,000 samples``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _primary_rows(table: pa.Table, experiment: str) -> list[dict]:
    chosen = pc.and_(
        pc.and_(
            pc.equal(table["experiment"], experiment), pc.equal(table["intervention"], ZEROING)
        ),
        primary_rows(table),
    )
    return table.filter(chosen).to_pylist()


def _fit(seeds: dict[str, list[dict]], across: dict[str, dict]) -> bool:
    """Tell whether the rows over seeds are the means of the rows per seed."""
    return set(across) == set(seeds) and all(
        across[target]["seeds"] == len(rows) == len(seeds["baseline"])
        and all(
            abs(fmean(row[name] for row in rows) - across[target][name]) < ROUNDING
            for name in ("value", "drop")
        )
        for target, rows in seeds.items()
    )


def _outcome(rows: list[dict], across: dict) -> Outcome:
    return Outcome(
        target=across["target"],
        kind=across["kind"],
        reading=across["reading"],
        kernels=tuple(across["kernels"]),
        order=across["order"],
        role=across["role"],
        block=across["block"],
        live_weights=across["live_weights"],
        total_weights=across["total_weights"],
        status=across["status"],
        value=across["value"],
        low=across["value_low"],
        high=across["value_high"],
        drop=across["drop"],
        drop_low=across["drop_low"],
        drop_high=across["drop_high"],
        verdict=across["verdict"],
        p_holm=across["p_holm"],
        seeds=tuple(
            SeedOutcome(
                seed=row["seed"],
                n=row["n"],
                value=row["value"],
                low=row["value_low"],
                high=row["value_high"],
                drop=row["drop"],
            )
            for row in sorted(rows, key=lambda row: row["seed"])
        ),
    )
