"""The results of one experiment: a value, an interval and a verdict per target.

Figures, tables and claims all read the results with this module, so that they agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.formats.summary import PRIMARY, ROUNDING, primary_rows, read, read_margins
from nontrivial.inference.comparison import FEWEST_SUBJECTS, SEEDS_WITHOUT_VERDICT
from nontrivial.inference.paired_tests import smallest_p
from nontrivial.targets import ZEROING

TWO_SIDED_LEVEL = 0.05  # of corrected tests of a drop of 0
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
    empty: int | None = None  # subjects without foreground, left out


@dataclass(frozen=True)
class MarginOutcome:
    """The tests and the verdict of one target at one margin; None as in :class:`Outcome`."""

    p_nontrivial: float | None
    p_nontrivial_holm: float | None
    p_trivial: float | None
    p_trivial_holm: float | None
    verdict: str | None


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
        status: ``ok``, ``cut`` (constant output, by construction) or ``no_effect``; None over seeds
            that differ.
        value: the metric; mean over seeds.
        low: lower end of its 95% interval, over test units and, with several seeds, over seeds.
        high: upper end.
        drop: baseline - value; positive is worse.
        drop_low: lower end of its 95% interval.
        drop_high: upper end.
        verdict: ``non-trivial``, ``trivial``, ``harmful`` or ``undecided``; None for the baseline,
            without an interval, with two seeds, and for any status but ``ok``.
        p_holm: p-value of the test that the drop is 0, corrected over the experiment's targets;
            None where there is no verdict, like all p-values.
        p_nontrivial: of the test that the drop is at most the margin.
        p_nontrivial_holm: the same, corrected.
        p_trivial: of the test that the drop is at least the margin.
        p_trivial_holm: the same, corrected.
        drop_share: drop as a share of what the baseline is above chance; None if it is not above.
        n_for_trivial: number of test units with which a target that changes no prediction is
            trivial; None if there are enough, or if this target is trivial or harmful.
        margins: tests and verdict by margin, 0.01, 0.02, 0.05 and the configured one.
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
    status: str | None
    value: float
    low: float | None
    high: float | None
    drop: float
    drop_low: float | None
    drop_high: float | None
    verdict: str | None
    p_holm: float | None
    p_nontrivial: float | None
    p_nontrivial_holm: float | None
    p_trivial: float | None
    p_trivial_holm: float | None
    drop_share: float | None
    n_for_trivial: int | None
    margins: Mapping[float, MarginOutcome]
    seeds: tuple[SeedOutcome, ...]


@dataclass(frozen=True)
class WithoutValue:
    """A target without a value; attributes as in :class:`Outcome`.

    Its status is ``undefined`` or ``not_finite``, that of the first seed without a value.
    """

    target: str
    kind: str
    reading: str | None
    kernels: tuple[str, ...]
    role: str | None
    block: int | None
    status: str


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
        unit: ``sample`` or ``subject``.
        units: number of test samples or subjects that count.
        empty: subjects without foreground, which do not count; None for a classification.
        unlearned: classes that the unchanged network never predicts rightly, in any seed.
        baseline: the unchanged network.
        targets: all other targets that have a value, in canonical order.
        without_value: all targets that have none, in canonical order.
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
    unit: str
    units: int | None
    empty: int | None
    unlearned: tuple[str, ...]
    baseline: Outcome
    targets: tuple[Outcome, ...]
    without_value: tuple[WithoutValue, ...]

    @property
    def task(self) -> str:
        """``classification`` or ``segmentation``."""
        return TASKS[self.metric]

    @property
    def seed_count(self) -> int:
        """Number of trained networks."""
        return len(self.baseline.seeds)

    @property
    def has_intervals(self) -> bool:
        """Whether any value or drop has an interval."""
        outcomes = (self.baseline, *self.targets)
        return any(one.low is not None or one.drop_low is not None for one in outcomes)

    def of_kind(self, *kinds: str) -> list[Outcome]:
        """Return the targets of these kinds, in canonical order."""
        return [outcome for outcome in self.targets if outcome.kind in kinds]


def read_results(
    summary: Path, across_seeds: Path, margins: Path
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Read the three tables of results.

    Raises:
        UserError: a file cannot be read, lacks a column or has an impossible row.
    """
    return read(summary), read(across_seeds), read_margins(margins)


def select_outcomes(
    summary: pa.Table, across_seeds: pa.Table, margins: pa.Table, experiment: str
) -> ExperimentOutcomes:
    """Return the results of one experiment under zeroing.

    Raises:
        UserError: the summary has no rows of it, or the tables contradict each other.
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
    by_margin: dict[str, dict[float, MarginOutcome]] = {}
    for row in _primary_rows(margins, experiment):
        if row["seed"] is None:
            by_margin.setdefault(row["target"], {})[row["margin"]] = _margin_outcome(row)
    if "baseline" not in seeds or not _fit(seeds, across) or not _are_at(by_margin, across):
        raise UserError(
            f"summary.parquet, across_seeds.parquet and margins.parquet do not have the same"
            f" results of {experiment!r}; delete all three and run the workflow again"
        )
    outcomes = [
        _outcome(rows, across[target], by_margin[target])
        for target, rows in seeds.items()
        if across[target]["value"] is not None
    ]
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
        unit=row["unit"],
        units=row["n"],
        empty=row["empty"],
        unlearned=_unlearned(across_seeds, row),
        baseline=baseline,
        targets=tuple(outcome for outcome in outcomes if outcome is not baseline),
        without_value=tuple(
            _without_value(rows)
            for target, rows in seeds.items()
            if across[target]["value"] is None
        ),
    )


def describe(outcomes: ExperimentOutcomes) -> str:
    """Describe the basis of the numbers: test units, seeds, and what the intervals cover."""
    if outcomes.units is None:
        units = f"{outcomes.split} {outcomes.unit}s differ between seeds"
    else:
        units = f"n = {count(outcomes.units, f'{outcomes.split} {outcomes.unit}')}"
    seeds = count(outcomes.seed_count, "seed")
    if not outcomes.has_intervals:
        covered = "no intervals"
        if (
            outcomes.unit == "subject"
            and (outcomes.units or 0) < FEWEST_SUBJECTS
            and not outcomes.demonstration
        ):
            covered += ": too few subjects"
    elif outcomes.seed_count > 1:
        covered = f"95% intervals cover training seeds and {outcomes.split} sampling"
    else:
        covered = f"95% intervals cover {outcomes.split} sampling only, not training"
    return f"{units}, {seeds}, {covered}"


def limits(outcomes: ExperimentOutcomes) -> list[str]:
    """Return a sentence for each thing that these data cannot show, whatever the network."""
    found = []
    unit = f"{outcomes.split} {outcomes.unit}"
    units = outcomes.units or 0
    needed = outcomes.baseline.n_for_trivial
    if outcomes.demonstration:
        pass  # marked as such wherever it is shown
    elif outcomes.unit == "subject" and units < FEWEST_SUBJECTS:
        found.append(
            f"Intervals, tests and verdicts need at least {FEWEST_SUBJECTS} {unit}s;"
            f" there are {units}."
        )
    elif outcomes.seed_count == SEEDS_WITHOUT_VERDICT:
        found.append("Two seeds give intervals but no tests and no verdicts. Train a third.")
    elif needed is not None:
        found.append(
            f"With {count(units, unit)}, a target that changes no prediction is undecided. With"
            f" at least {needed:,}, it is trivial."
        )
    elif outcomes.unit == "subject" and outcomes.seed_count == 1:
        tested = {frozenset(one.kernels) for one in outcomes.targets if one.status == "ok"}
        tests = len(tested)
        if tests * smallest_p(units) > TWO_SIDED_LEVEL:
            found.append(
                f"With {count(units, unit)}, no p-value survives the correction for {tests} tests."
            )
    if outcomes.empty:
        found.append(
            f"Dice leaves out {count(outcomes.empty, unit)} without foreground. The volume"
            " predicted there is in the column false_positive_ml."
        )
    found += [
        f"Training did not learn {name}: its {METRIC_NAMES[outcomes.metric]} is 0 in every"
        f" {unit}, so zeroing cannot lower it."
        for name in outcomes.unlearned
    ]
    found += [
        f"{one.target} has no value ({one.status.replace('_', ' ')})."
        for one in outcomes.without_value
    ]
    return found


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


def _unlearned(across_seeds: pa.Table, baseline: dict) -> tuple[str, ...]:
    """Return the classes that have a metric of 0 over all seeds, from the baseline's row."""
    same = pc.and_(pc.is_valid(across_seeds["class"]), pc.equal(across_seeds["value"], 0))
    for name in ("experiment", "intervention", "target", "metric"):
        same = pc.and_(same, pc.equal(across_seeds[name], baseline[name]))
    return tuple(across_seeds.filter(same)["class"].to_pylist())


def _fit(seeds: dict[str, list[dict]], across: dict[str, dict]) -> bool:
    """Tell whether the rows over seeds are the means of the rows per seed."""
    return set(across) == set(seeds) and all(
        across[target]["seeds"] == len(rows) == len(seeds["baseline"])
        and all(
            _is_mean([row[name] for row in rows], across[target][name])
            for name in ("value", "drop")
        )
        for target, rows in seeds.items()
    )


def _is_mean(values: list[float | None], mean: float | None) -> bool:
    """Tell whether it is the mean; without one of the values there is none."""
    present = [value for value in values if value is not None]
    if mean is None or len(present) < len(values):
        return mean is None and len(present) < len(values)
    return abs(fmean(present) - mean) < ROUNDING


def _are_at(by_margin: dict[str, dict[float, MarginOutcome]], across: dict[str, dict]) -> bool:
    """Tell whether the margins have every target, with its configured margin among them."""
    return set(by_margin) == set(across) and all(
        row["margin"] in by_margin[target] for target, row in across.items()
    )


def _margin_outcome(row: dict) -> MarginOutcome:
    return MarginOutcome(**{name: row[name] for name in MarginOutcome.__dataclass_fields__})


def _without_value(rows: list[dict]) -> WithoutValue:
    row = next(row for row in rows if row["value"] is None)
    columns = {name: row[name] for name in WithoutValue.__dataclass_fields__}
    return WithoutValue(**columns | {"kernels": tuple(row["kernels"])})


def _outcome(rows: list[dict], across: dict, margins: dict[float, MarginOutcome]) -> Outcome:
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
        p_nontrivial=across["p_nontrivial"],
        p_nontrivial_holm=across["p_nontrivial_holm"],
        p_trivial=across["p_trivial"],
        p_trivial_holm=across["p_trivial_holm"],
        drop_share=across["drop_share"],
        n_for_trivial=across["n_for_trivial"],
        margins=margins,
        seeds=tuple(
            SeedOutcome(
                seed=row["seed"],
                n=row["n"],
                value=row["value"],
                low=row["value_low"],
                high=row["value_high"],
                drop=row["drop"],
                empty=row["empty"],
            )
            for row in sorted(rows, key=lambda row: row["seed"])
        ),
    )
