import numpy as np
import pytest

from nontrivial.inference.classification_metrics import (
    accuracy_measurements,
    log_probability_measurement,
)
from nontrivial.inference.paired_tests import mcnemar_exact
from nontrivial.inference.proportions import PairedCounts, newcombe, wilson

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 3])
BEFORE = np.array([0, 0, 1, 1, 1, 1, 0, 3])  # right: 1 1 0 1 1 1 0 1
AFTER = np.array([0, 1, 0, 1, 0, 0, 0, 0])  # right: 1 0 1 1 0 0 0 0
CLASSES = ["cat", "dog", "frog", "ship"]


def test_accuracy_with_its_interval_and_its_comparison():
    overall = accuracy_measurements(LABELS, AFTER, BEFORE, CLASSES)[0]
    counts = PairedCounts(both=2, lost=4, gained=1, neither=1)
    assert (overall.metric, overall.class_name, overall.unit) == ("accuracy", None, "sample")
    assert (overall.n, overall.value, overall.baseline) == (8, 3 / 8, 6 / 8)
    assert (overall.b, overall.c) == (4, 1)
    assert overall.drop == pytest.approx(3 / 8)
    assert (overall.value_low, overall.value_high) == wilson(3, 8)
    assert (overall.drop_low, overall.drop_high) == newcombe(counts)
    assert overall.p_value == mcnemar_exact(4, 1) == pytest.approx(0.375)


def test_a_row_for_every_class_that_has_samples():
    rows = accuracy_measurements(LABELS, AFTER, BEFORE, CLASSES)[1:]
    assert [(row.class_name, row.n, row.value, row.baseline, row.b, row.c) for row in rows] == [
        ("cat", 3, 2 / 3, 2 / 3, 1, 1),
        ("dog", 4, 1 / 4, 3 / 4, 2, 0),
        ("ship", 1, 0.0, 1.0, 1, 0),
    ]


def test_classes_add_up_to_the_whole():
    generator = np.random.default_rng(0)
    labels, after, before = generator.integers(0, 4, (3, 500)).astype(np.int16)
    overall, *rows = accuracy_measurements(labels, after, before, CLASSES)
    assert sum(row.b for row in rows) == overall.b
    assert sum(row.c for row in rows) == overall.c
    assert overall.value == (after == labels).mean()
    assert overall.drop == pytest.approx((before == labels).mean() - overall.value)


def test_log_probability_falls_by_the_difference_of_the_means():
    row = log_probability_measurement(
        np.array([-1, -3], dtype=np.float32), np.array([-0.5, -0.5], dtype=np.float32)
    )
    assert (row.metric, row.n, row.value, row.baseline, row.drop) == ("log_prob", 2, -2, -0.5, 1.5)
    assert row.drop_low is row.p_value is row.value_low is None
