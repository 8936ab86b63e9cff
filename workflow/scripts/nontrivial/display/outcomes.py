"""What the results say of each target of one experiment: one number, one interval, one verdict.

Figures, tables and claims all read the results through here, so that they can't disagree on
which interval counts: over seeds where there are several, else over the test samples.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.formats.summary import PRIMARY, ROUNDING, primary_rows, read

ZEROING = "zero"
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
    p_holm: float | None


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
        live_weights: weights that can ever see a pixel, of the zeroed kernels.
        total_weights: all weights of the zeroed kernels.
        status: ``ok``, ``cut`` (constant output, by construction) or ``no_effect``.
        value: the metric; mean over seeds.
        low: lower end of its 95% interval (over seeds if several, else over test samples).
        high: upper end.
        drop: baseline - value; positive is worse.
        drop_low: lower end of its 95% interval.
        drop_high: upper end.
        verdict: ``non-trivial``, ``trivial``, ``undecided``, or None where nothing can be inferred.
        seeds: what each seed got, by seed.
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
    seeds: tuple[SeedOutcome, ...]


@dataclass(frozen=True)
class ExperimentOutcomes:
    """All targets of one experiment under the primary metric.

    Attributes:
        experiment: name.
        training: name of the training it takes its networks from.
        dataset: name.
        network: name.
        stem: ``torchvision``, ``cifar`` or ``custom``.
        split: the split that the numbers come from.
        metric: ``accuracy`` or ``dice``.
        margin: a drop up to this counts as none.
        demonstration: whether the data allow no inference.
        units: number of test samples or subjects per seed; None if the seeds differ.
        baseline: the network as trained.
        targets: all others, in canonical order.
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
        """Number of trained networks behind each number."""
        return len(self.baseline.seeds)

    def of_kind(self, *kinds: str) -> list[Outcome]:
        """Return the targets of these kinds, in canonical order."""
        return [outcome for outcome in self.targets if outcome.kind in kinds]


def read_results(summary: Path, across_seeds: Path) -> tuple[pa.Table, pa.Table]:
    """Read both tables of results.

    Raises:
        UserError: a file can't be read, lacks a column or holds what cannot be right.
    """
    return read(summary), read(across_seeds)


def select_outcomes(
    summary: pa.Table, across_seeds: pa.Table, experiment: str
) -> ExperimentOutcomes:
    """Return what the results say of one experiment, zeroing only.

    Raises:
        UserError: the summary has no rows for it, or the two tables do not fit together.
    """
    seeds: dict[str, list[dict]] = {}
    for row in _primary_rows(summary, experiment):
        seeds.setdefault(row["target"], []).append(row)
    if not seeds:
        known = ", ".join(sorted(set(summary["experiment"].to_pylist()))) or "none"
        raise UserError(
            f"summary: no rows for experiment {experiment!r}; it has {known};"
            " add the experiment to the configuration and run the workflow"
        )
    across = {row["target"]: row for row in _primary_rows(across_seeds, experiment)}
    if "baseline" not in seeds or not _fit(seeds, across):
        raise UserError(
            f"summary and table over seeds do not hold the same results of {experiment!r},"
            " each seed of each target, with a baseline; delete both and aggregate again"
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
    """Say in a line what the numbers rest on: test units, seeds, what the intervals cover."""
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
    """Return a number with its noun, thousands separated: ``1 seed``, ``10,000 samples``."""
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
    """Tell whether the rows over seeds are the means of the rows of all seeds."""
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
        seeds=tuple(
            SeedOutcome(
                seed=row["seed"],
                n=row["n"],
                value=row["value"],
                low=row["value_low"],
                high=row["value_high"],
                drop=row["drop"],
                p_holm=row["p_holm"],
            )
            for row in sorted(rows, key=lambda row: row["seed"])
        ),
    )
