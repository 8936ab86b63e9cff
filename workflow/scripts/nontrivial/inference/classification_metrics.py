"""Metrics of a classifier: accuracy, recall of every class, and log probability."""

from collections.abc import Sequence

import numpy as np

from nontrivial.inference.scores import Scores, mean_by_group


def classification_scores(
    labels: np.ndarray,
    right: np.ndarray,
    right_before: np.ndarray,
    classes: Sequence[str],
    subjects: np.ndarray | None = None,
) -> list[Scores]:
    """Return the accuracy over all samples, then of every class that has samples (its recall).

    Where samples have subjects, those are the units: the accuracy is the mean over subjects of the
    share of samples that are right. That of a class is over the subjects that have it.

    Args:
        labels: true class numbers, (N,), below ``len(classes)``.
        right: 1 where the prediction is right and 0 where it is wrong, float64 (S, N); NaN in a
            seed without predictions.
        right_before: the same for the unchanged network.
        classes: names by class number.
        subjects: subject of each sample, (N,); None where samples are independent.
    """
    counts = np.bincount(labels, minlength=len(classes))
    chance = float(counts.max() / counts.sum())
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.cumsum(counts)[:-1])
    rows = [_scores("accuracy", right, right_before, subjects, None, chance)]
    for name, group in zip(classes, groups, strict=True):
        if len(group):
            chosen = None if subjects is None else subjects[group]
            before = right_before[:, group]
            rows.append(_scores("accuracy", right[:, group], before, chosen, name, None))
    return rows


def log_probability_scores(
    log_prob: np.ndarray, baseline: np.ndarray, subjects: np.ndarray | None = None
) -> Scores:
    """Return the log probability of the true class in nats, from one (S, N) per sample."""
    return _scores("log_prob", log_prob, baseline, subjects, None, None)


def _scores(
    metric: str,
    value: np.ndarray,
    baseline: np.ndarray,
    subjects: np.ndarray | None,
    class_name: str | None,
    chance: float | None,
) -> Scores:
    unit = "sample"
    if subjects is not None:
        unit = "subject"
        names, index = np.unique(subjects, return_inverse=True)
        value, baseline = (mean_by_group(one, index, len(names)) for one in (value, baseline))
    return Scores(metric, unit, value, baseline, class_name, chance)
