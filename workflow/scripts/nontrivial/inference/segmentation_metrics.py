"""Dice of a segmentation compared with the baseline: per subject, per slice and pooled.

Class 0 is the background and has no measurement. The Dice over all classes is the mean over the
foreground classes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nontrivial.inference.bootstrap import mean_intervals
from nontrivial.inference.dice import by_subject, dice
from nontrivial.inference.measurement import Measurement
from nontrivial.inference.paired_tests import sign_flip

FEWEST_SUBJECTS = 6  # with fewer, no sign-flip test reaches 0.05: 2 / 2^5 > 0.05


@dataclass(frozen=True)
class Counts:
    """Pixels of N slices in K classes: true positive, false positive, false negative, (N, K)."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray


def subject_measurements(
    subjects: Sequence[str] | np.ndarray,
    counts: Counts,
    baseline: Counts,
    classes: Sequence[str],
    resampling: np.random.Generator,
    flips: np.random.Generator,
) -> list[Measurement]:
    """Return the mean Dice over subjects, over all foreground classes and of each.

    Intervals and p-values require six subjects.

    Args:
        subjects: subject of each slice, (N,).
        counts: pixels under the intervention.
        baseline: pixels with the unchanged network.
        classes: names by class number, background first.
        resampling: random generator of the bootstrap.
        flips: random generator of the sign-flip test.
    """
    score = _with_mean(_scores(subjects, counts))
    before = _with_mean(_scores(subjects, baseline))
    differences = before - score
    names = [None, *classes[1:]]
    rows = [
        Measurement(
            metric="dice",
            unit="subject",
            n=len(score),
            value=float(score[:, i].mean()),
            baseline=float(before[:, i].mean()),
            drop=float(differences[:, i].mean()),
            class_name=name,
        )
        for i, name in enumerate(names)
    ]
    if len(score) < FEWEST_SUBJECTS:
        return rows
    intervals = mean_intervals(np.concatenate([score, differences], axis=1), resampling)
    of_values, of_drops = intervals[: len(names)], intervals[len(names) :]
    p_values = sign_flip(differences, flips)
    return [
        _with_inference(row, of_values[i], of_drops[i], float(p_values[i]))
        for i, row in enumerate(rows)
    ]


def slice_measurements(
    counts: Counts, baseline: Counts, classes: Sequence[str]
) -> list[Measurement]:
    """Return the mean Dice over the slices with a class in the truth or the prediction.

    Over all classes it is the mean of the classes' means, and n counts the slices with any class.
    There is no interval, because the slices of a subject are not independent. The baseline is
    averaged over its own slices, so the drop is a difference of two means and not paired.
    """
    value, n = _slice_means(counts)
    before, _ = _slice_means(baseline)
    return [
        _descriptive("dice_slice", "slice", n[i], value[i], before[i], name)
        for i, name in enumerate([None, *classes[1:]])
    ]


def pooled_measurements(
    counts: Counts, baseline: Counts, classes: Sequence[str]
) -> list[Measurement]:
    """Return the Dice of all slices as one volume; with one unit there is no interval."""
    value, before = _pooled(counts), _pooled(baseline)
    return [
        _descriptive("dice_pooled", "pooled", 1, value[i], before[i], name)
        for i, name in enumerate([None, *classes[1:]])
    ]


def _scores(subjects: Sequence[str] | np.ndarray, counts: Counts) -> np.ndarray:
    """Return Dice per subject and foreground class, (S, K - 1)."""
    _, score = by_subject(subjects, counts.tp[:, 1:], counts.fp[:, 1:], counts.fn[:, 1:])
    return score


def _with_mean(score: np.ndarray) -> np.ndarray:
    return np.concatenate([score.mean(axis=1, keepdims=True), score], axis=1)


def _slice_means(counts: Counts) -> tuple[list[float | None], list[int]]:
    """Return means and numbers of slices, over all foreground classes and then of each."""
    score = dice(counts.tp, counts.fp, counts.fn)[:, 1:]
    seen = (counts.tp + counts.fp + counts.fn)[:, 1:] > 0
    means = [
        float(score[seen[:, k], k].mean()) if seen[:, k].any() else None
        for k in range(score.shape[1])
    ]
    defined = [mean for mean in means if mean is not None]
    overall = sum(defined) / len(defined) if defined else None
    return [overall, *means], [int(seen.any(axis=1).sum()), *map(int, seen.sum(axis=0))]


def _pooled(counts: Counts) -> list[float]:
    tp, fp, fn = (x[:, 1:].sum(axis=0, dtype=np.int64) for x in (counts.tp, counts.fp, counts.fn))
    score = dice(tp, fp, fn)
    return [float(score.mean()), *map(float, score)]


def _descriptive(
    metric: str,
    unit: str,
    n: int,
    value: float | None,
    baseline: float | None,
    class_name: str | None,
) -> Measurement:
    drop = None if value is None or baseline is None else baseline - value
    return Measurement(metric, unit, n, value, baseline, drop, class_name)


def _with_inference(
    row: Measurement, value: np.ndarray, drop: np.ndarray, p_value: float
) -> Measurement:
    return dataclasses.replace(
        row,
        value_low=float(value[0]),
        value_high=float(value[1]),
        drop_low=float(drop[0]),
        drop_high=float(drop[1]),
        p_value=p_value,
    )
