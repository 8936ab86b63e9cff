"""Intervals, tests and verdicts from the scores of test units, with one seed or several."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nontrivial.inference.bootstrap import BootstrapInterval, bootstrap_intervals
from nontrivial.inference.confidence import Hull, Interval, p_two_sided
from nontrivial.inference.measurement import (
    SEEDS_AND_TEST_SAMPLING,
    TEST_SAMPLING,
    Measurement,
)
from nontrivial.inference.paired_tests import mcnemar_exact, sign_flip
from nontrivial.inference.proportions import (
    NewcombeInterval,
    PairedCounts,
    n_for_trivial,
    wilson,
)
from nontrivial.inference.scores import Scores
from nontrivial.inference.student import TInterval
from nontrivial.inference.variance_components import seeds_and_units
from nontrivial.inference.verdict import HARMFUL, TRIVIAL, AtMargin, verdict

MARGINS = (0.01, 0.02, 0.05)  # at which targets and claims are judged, beside the configured one
FEWEST_SUBJECTS = 6  # with fewer, no sign-flip test reaches 0.05: 2 / 2^5 > 0.05
SEEDS_WITHOUT_VERDICT = 2  # their t has so few degrees of freedom that it covers too little
SHARES = ("accuracy", "dice")  # metrics between 0 and 1

# Returns the random generator for a purpose.
Randomness = Callable[[str], np.random.Generator]


def compare(rows: Sequence[Scores], margin: float, randomness: Randomness) -> list[Measurement]:
    """Return the measurement of each metric and class over all seeds of its scores.

    Args:
        rows: scores of the same networks, one entry per metric and class.
        margin: the configured margin. Primary rows are judged there and at :data:`MARGINS`.
        randomness: of the resamples of subjects (``bootstrap``) and of signs (``sign flip``).
    """
    margins = margins_beside(margin)
    units = [_over_units(row) for row in rows]
    subject_rows = [i for i, one in enumerate(units) if _is_resampled(rows[i])]
    intervals = _bootstrap([units[i] for i in subject_rows], randomness)
    resampled = dict(zip(subject_rows, intervals, strict=True))
    flipped = {}
    if rows and rows[0].seeds == 1:
        flips = _sign_flips([rows[i] for i in subject_rows], margins, randomness)
        flipped = dict(zip(subject_rows, flips, strict=True))
    measured = [
        _measure(row, _one_seed(row, units[i], resampled.get(i)), flipped.get(i), margins)
        for i, row in enumerate(rows)
    ]
    return [
        dataclasses.replace(one, n_for_trivial=_units_for_trivial(row, one, margin))
        for row, one in zip(rows, measured, strict=True)
    ]


def margins_beside(margin: float) -> tuple[float, ...]:
    """Return the margins at which a target is judged if ``margin`` is the configured one."""
    return tuple(sorted({*MARGINS, margin}))


@dataclass(frozen=True)
class _Units:
    """Scores and drops per unit, averaged over seeds, (N,)."""

    value: np.ndarray
    drop: np.ndarray


@dataclass(frozen=True)
class _OneSeed:
    """Intervals that cover the sampling of test units only; None where there is none."""

    value: tuple[float, float] | None = None
    drop: Interval | None = None


@dataclass(frozen=True)
class _Flips:
    """p-values of the sign-flip test of a drop of 0, and of each margin (above, below)."""

    two_sided: float
    by_margin: tuple[tuple[float, float], ...]


def _over_units(row: Scores) -> _Units:
    return _Units(row.value.mean(axis=0), row.drop.mean(axis=0))


def _has_value(row: Scores) -> bool:
    return row.units > 0 and not np.isnan(row.value).any()


def _has_inference(row: Scores) -> bool:
    fewest = {"sample": 1 if row.is_right_or_wrong else 2, "subject": FEWEST_SUBJECTS}
    return row.unit in fewest and row.units >= fewest[row.unit] and _has_value(row)


def _is_resampled(row: Scores) -> bool:
    return row.unit == "subject" and row.metric in SHARES and _has_inference(row)


def _by_units(counts: Iterable[int]) -> Iterable[list[int]]:
    """Group rows by their number of units, so that all of a group share resamples."""
    groups: dict[int, list[int]] = {}
    for index, count in enumerate(counts):
        groups.setdefault(count, []).append(index)
    return groups.values()


def _bootstrap(
    rows: Sequence[_Units], randomness: Randomness
) -> list[tuple[BootstrapInterval, BootstrapInterval]]:
    """Return the intervals of value and drop of each row."""
    found: dict[int, tuple[BootstrapInterval, BootstrapInterval]] = {}
    generator = randomness("bootstrap")
    for indices in _by_units(len(row.value) for row in rows):
        columns = [part for i in indices for part in (rows[i].value, rows[i].drop)]
        intervals = bootstrap_intervals(np.stack(columns, axis=1), generator)
        found |= dict(zip(indices, zip(intervals[::2], intervals[1::2], strict=True), strict=True))
    return [found[i] for i in range(len(rows))]


def _sign_flips(
    rows: Sequence[Scores], margins: Sequence[float], randomness: Randomness
) -> list[_Flips]:
    found: dict[int, _Flips] = {}
    generator = randomness("sign flip")
    for indices in _by_units(row.units for row in rows):
        shifts = {i: (0.0, *(margins if rows[i].is_primary else ())) for i in indices}
        columns = [rows[i].drop[0] - shift for i in indices for shift in shifts[i]]
        flips = sign_flip(np.stack(columns, axis=1), generator)
        start = 0
        for i in indices:
            at = range(start + 1, start + len(shifts[i]))
            by_margin = tuple((float(flips.above[k]), float(flips.below[k])) for k in at)
            found[i] = _Flips(float(flips.two_sided[start]), by_margin)
            start += len(shifts[i])
    return [found[i] for i in range(len(rows))]


def _one_seed(
    row: Scores, units: _Units, resampled: tuple[BootstrapInterval, BootstrapInterval] | None
) -> _OneSeed:
    """Return the intervals over test units, of scores averaged over seeds.

    Averages that are equal in all units do not show how much units differ. Wilson's and Newcombe's
    intervals do not need to know it.
    """
    if not _has_inference(row):
        return _OneSeed()
    if row.is_right_or_wrong:
        value = wilson(float(units.value.sum()), row.units)
        return _OneSeed(value, NewcombeInterval(_paired_counts(row)))
    of_value, of_drop = (
        None if np.ptp(averages) <= row.rounding else interval or _t_over_units(averages)
        for averages, interval in zip(
            (units.value, units.drop), resampled or (None, None), strict=True
        )
    )
    return _OneSeed((of_value.low, of_value.high) if of_value else None, of_drop)


def _paired_counts(row: Scores) -> PairedCounts:
    """Return the cells, means over seeds that add up to the number of samples."""
    after, before = row.value, row.baseline
    both = float((before * after).sum())
    lost, gained = float(before.sum()) - both, float(after.sum()) - both
    neither = before.size - both - lost - gained
    return PairedCounts(*(cell / row.seeds for cell in (both, lost, gained, neither)))


def _t_over_units(scores: np.ndarray) -> TInterval:
    error = float(scores.std(ddof=1)) / len(scores) ** 0.5
    return TInterval(float(scores.mean()), error, len(scores) - 1)


def _measure(
    row: Scores, one_seed: _OneSeed, flips: _Flips | None, margins: Sequence[float]
) -> Measurement:
    measured = _means(row)
    over_seeds = _over_seeds(row)
    value_limits = [limits for limits in (one_seed.value, over_seeds.value) if limits]
    if value_limits:
        low, high = min(low for low, _ in value_limits), max(high for _, high in value_limits)
        low, high = _clipped(row.metric, low, high, 0.0)
        measured = dataclasses.replace(measured, value_low=low, value_high=high)
    parts = [part for part in (one_seed.drop, over_seeds.drop) if part is not None]
    if not parts:
        return measured
    interval = Hull(parts)
    low, high = _clipped(row.metric, interval.low, interval.high, -1.0)
    dfs = [part.df for part in parts if isinstance(part, TInterval)]
    measured = dataclasses.replace(
        measured,
        drop_low=low,
        drop_high=high,
        df=dfs[-1] if dfs else None,
        p_value=_p_value(row, measured, interval, flips),
    )
    if not row.is_primary or row.seeds == SEEDS_WITHOUT_VERDICT:
        return measured
    judged = []
    for number, margin in enumerate(margins):
        p_nontrivial, p_trivial = (
            flips.by_margin[number]
            if flips
            else (interval.p_above(margin), interval.p_below(margin))
        )
        judged.append(AtMargin(margin, p_nontrivial, p_trivial, verdict(low, high, margin)))
    return dataclasses.replace(measured, at_margins=tuple(judged))


@dataclass(frozen=True)
class _OverSeeds:
    """Intervals that cover seeds and test units; None where their error is 0, or with one seed."""

    value: tuple[float, float] | None = None
    drop: TInterval | None = None


def _over_seeds(row: Scores) -> _OverSeeds:
    if row.seeds == 1 or not _has_inference(row):
        return _OverSeeds()
    of_value = seeds_and_units(row.value, row.rounding)
    of_drop = seeds_and_units(row.drop, row.rounding)
    return _OverSeeds((of_value.low, of_value.high) if of_value else None, of_drop)


def _p_value(
    row: Scores, measured: Measurement, interval: Interval, flips: _Flips | None
) -> float | None:
    """Return the p-value that the drop is 0."""
    if row.seeds == SEEDS_WITHOUT_VERDICT:
        return None
    if flips is not None:
        return flips.two_sided
    if measured.b is not None and measured.c is not None:
        return mcnemar_exact(measured.b, measured.c)
    return p_two_sided(interval)


def _means(row: Scores) -> Measurement:
    """Return the means over units and seeds, without intervals and tests."""
    values = row.value.mean(axis=1).tolist() if _has_value(row) else None
    baselines = row.baseline.mean(axis=1).tolist() if row.units else None
    value = statistics.fmean(values) if values else None
    baseline = statistics.fmean(baselines) if baselines else None
    drop = baseline - value if value is not None and baseline is not None else None
    several = row.seeds > 1 and values is not None
    cells = _paired_counts(row) if row.is_right_or_wrong and row.seeds == 1 and values else None
    return Measurement(
        metric=row.metric,
        unit=row.unit,
        n=row.units,
        value=value,
        baseline=baseline,
        drop=drop,
        class_name=row.class_name,
        drop_share=_share(drop, baseline, row.chance),
        b=int(cells.lost) if cells else None,
        c=int(cells.gained) if cells else None,
        seeds=row.seeds,
        covers=SEEDS_AND_TEST_SAMPLING if row.seeds > 1 else TEST_SAMPLING,
        value_sd=statistics.stdev(values) if several and values else None,
        drop_sd=float(row.drop.mean(axis=1).std(ddof=1)) if several else None,
        empty=row.empty,
        false_positive_ml=_mean_volume(row.false_positive_ml),
    )


def _mean_volume(volume: np.ndarray | None) -> float | None:
    return None if volume is None or np.isnan(volume).any() else float(volume.mean())


def _units_for_trivial(row: Scores, measured: Measurement, margin: float) -> int | None:
    """Return how many units a target needs to be trivial if it changes no prediction.

    It is None if there are enough, or if the target is trivial or harmful already, because it gains
    predictions. It is None, too, for two seeds, which give no verdict with any number of units.
    """
    if not row.is_primary or row.seeds == SEEDS_WITHOUT_VERDICT:
        return None
    if any(at.margin == margin and at.verdict in (TRIVIAL, HARMFUL) for at in measured.at_margins):
        return None
    if row.unit == "subject":
        return FEWEST_SUBJECTS if row.units < FEWEST_SUBJECTS else None
    return n_for_trivial(float(row.baseline.mean()), row.units, margin)


def _share(drop: float | None, baseline: float | None, chance: float | None) -> float | None:
    if drop is None or baseline is None or chance is None or baseline <= chance:
        return None
    return drop / (baseline - chance)


def _clipped(metric: str, low: float, high: float, least: float) -> tuple[float, float]:
    return (max(least, low), min(1.0, high)) if metric in SHARES else (low, high)
