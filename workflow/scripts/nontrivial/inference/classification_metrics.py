"""Metrics of a classifier compared with the baseline: accuracy and log probability."""

from collections.abc import Sequence

import numpy as np

from nontrivial.inference.measurement import Measurement
from nontrivial.inference.paired_tests import mcnemar_exact
from nontrivial.inference.proportions import PairedCounts, newcombe, wilson


def accuracy_measurements(
    labels: np.ndarray, predicted: np.ndarray, baseline: np.ndarray, classes: Sequence[str]
) -> list[Measurement]:
    """Return the accuracy over all samples, then of every class that has samples (its recall).

    Args:
        labels: true class numbers, (N,), below ``len(classes)``.
        predicted: predicted class numbers, (N,).
        baseline: class numbers predicted by the unchanged network, (N,).
        classes: names by class number.
    """
    right, right_before = predicted == labels, baseline == labels
    # Columns: wrong in both, gained, lost, right in both.
    cells = 4 * labels + 2 * right_before + right
    table = np.bincount(cells, minlength=4 * len(classes)).reshape(len(classes), 4)
    rows = [_accuracy(table.sum(axis=0), None)]
    rows += [
        _accuracy(counts, name)
        for counts, name in zip(table, classes, strict=True)
        if counts.sum() > 0
    ]
    return rows


def log_probability_measurement(log_prob: np.ndarray, baseline: np.ndarray) -> Measurement:
    """Return the mean log probability of the true class in nats, from one (N,) per sample."""
    value = float(log_prob.mean(dtype=np.float64))
    before = float(baseline.mean(dtype=np.float64))
    return Measurement("log_prob", "sample", len(log_prob), value, before, before - value)


def _accuracy(cells: np.ndarray, class_name: str | None) -> Measurement:
    neither, gained, lost, both = (int(count) for count in cells)
    counts = PairedCounts(both=both, lost=lost, gained=gained, neither=neither)
    n = counts.n
    value_low, value_high = wilson(both + gained, n)
    drop_low, drop_high = newcombe(counts)
    return Measurement(
        metric="accuracy",
        unit="sample",
        n=n,
        value=(both + gained) / n,
        baseline=(both + lost) / n,
        drop=(lost - gained) / n,
        class_name=class_name,
        value_low=value_low,
        value_high=value_high,
        drop_low=drop_low,
        drop_high=drop_high,
        p_value=mcnemar_exact(lost, gained),
        b=lost,
        c=gained,
    )
