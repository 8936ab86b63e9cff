"""Dice of a segmentation: per subject, per slice and pooled.

Class 0 is the background and has no score. A class that a unit lacks in truth has no Dice there:
it is left out of the unit's mean over classes, and a unit without foreground is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nontrivial.inference.dice import by_subject, dice
from nontrivial.inference.scores import Scores


@dataclass(frozen=True)
class Counts:
    """Pixels of N slices in K classes: true positive, false positive, false negative, (N, K)."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray


def subject_scores(
    subjects: Sequence[str] | np.ndarray,
    counts: Sequence[Counts | None],
    baseline: Sequence[Counts],
    classes: Sequence[str],
    pixel_ml: np.ndarray,
) -> list[Scores]:
    """Return the Dice of subjects, over all foreground classes and of each.

    Pixels are summed over the slices of a subject. What is predicted where a subject lacks the
    class, or all foreground, is counted apart as a volume.

    Args:
        subjects: subject of each slice, (N,).
        counts: pixels under the intervention, one entry per seed; None without predictions.
        baseline: pixels with the unchanged network, likewise.
        classes: names by class number, background first.
        pixel_ml: volume of a pixel of each slice in ml, (N,); NaN where it is not known.
    """
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    volumes = np.full((len(counts), len(names), len(classes) - 1), np.nan)
    for volume, one in zip(volumes, counts, strict=True):
        if one is not None:
            volume[:] = 0
            np.add.at(volume, index, one.fp[:, 1:] * pixel_ml[:, None])

    def of_subjects(one: Counts) -> np.ndarray:
        return by_subject(subjects, *_foreground(one))[1]

    return _scores("dice", "subject", of_subjects, counts, baseline, classes, volumes)


def slice_scores(
    counts: Sequence[Counts | None], baseline: Sequence[Counts], classes: Sequence[str]
) -> list[Scores]:
    """Return the Dice of slices with foreground, over all foreground classes and of each.

    Which slices count depends on the truth alone, so they are those of the baseline. There is no
    interval, because the slices of a subject are not independent.
    """

    def of_slices(one: Counts) -> np.ndarray:
        return dice(*_foreground(one))

    return _scores("dice_slice", "slice", of_slices, counts, baseline, classes)


def pooled_scores(
    counts: Sequence[Counts | None], baseline: Sequence[Counts], classes: Sequence[str]
) -> list[Scores]:
    """Return the Dice of all slices as one volume; with one unit there is no interval."""

    def of_all(one: Counts) -> np.ndarray:
        return dice(*(x.sum(axis=0, keepdims=True, dtype=np.int64) for x in _foreground(one)))

    return _scores("dice_pooled", "pooled", of_all, counts, baseline, classes)


def _foreground(counts: Counts) -> list[np.ndarray]:
    return [part[:, 1:] for part in (counts.tp, counts.fp, counts.fn)]


def _scores(
    metric: str,
    unit: str,
    dice_of: Callable[[Counts], np.ndarray],
    counts: Sequence[Counts | None],
    baseline: Sequence[Counts],
    classes: Sequence[str],
    volumes: np.ndarray | None = None,
) -> list[Scores]:
    """Return the scores of U units, overall and of each class.

    Args:
        metric: name.
        unit: name.
        dice_of: returns the Dice of units and foreground classes, (U, K - 1).
        counts: as in :func:`subject_scores`.
        baseline: likewise.
        classes: likewise.
        volumes: falsely predicted volume per seed, unit and class, (S, U, K - 1).
    """
    before = np.stack([dice_of(one) for one in baseline])
    after = np.stack(
        [np.full_like(before[0], np.nan) if one is None else dice_of(one) for one in counts]
    )
    has_class = ~np.isnan(before[0])
    has_any = has_class.any(axis=1)
    chosen = has_class[has_any]
    rows = [
        Scores(
            metric,
            unit,
            _mean_of_present(after[:, has_any], chosen),
            _mean_of_present(before[:, has_any], chosen),
            chance=0.0 if metric == "dice" else None,
            **_left_out(has_any, None if volumes is None else volumes.sum(axis=2)),
        )
    ]
    for k, name in enumerate(classes[1:]):
        has = has_class[:, k]
        left_out = _left_out(has, None if volumes is None else volumes[:, :, k])
        rows.append(
            Scores(metric, unit, after[:, has, k], before[:, has, k], name, None, **left_out)
        )
    return rows


def _mean_of_present(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that a unit has, (S, U), from scores (S, U, K - 1)."""
    return np.where(present, scores, 0.0).sum(axis=2) / present.sum(axis=1)


def _left_out(has: np.ndarray, volume: np.ndarray | None) -> dict:
    """Return the number of units left out, and what is predicted in them (S, U) on average."""
    if volume is None:
        return {}
    return {
        "empty": int((~has).sum()),
        "false_positive_ml": None if has.all() else volume[:, ~has].mean(axis=1),
    }
