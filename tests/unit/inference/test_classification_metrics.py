import numpy as np
import pytest

from nontrivial.inference.classification_metrics import (
    classification_scores,
    log_probability_scores,
)

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 3])
BEFORE = np.array([0, 0, 1, 1, 1, 1, 0, 3])  # right: 1 1 0 1 1 1 0 1
AFTER = np.array([0, 1, 0, 1, 0, 0, 0, 0])  # right: 1 0 1 1 0 0 0 0
CLASSES = ["cat", "dog", "frog", "ship"]
SUBJECTS = np.array(["b", "a", "a", "a", "b", "b", "b", "b"])


def scores(subjects=None):
    right = [(predicted == LABELS).astype(float)[None] for predicted in (AFTER, BEFORE)]
    return classification_scores(LABELS, *right, CLASSES, subjects)


def test_samples_are_right_or_wrong():
    overall = scores()[0]
    assert (overall.metric, overall.class_name, overall.unit) == ("accuracy", None, "sample")
    assert overall.value.tolist() == [[1, 0, 1, 1, 0, 0, 0, 0]]
    assert overall.baseline.tolist() == [[1, 1, 0, 1, 1, 1, 0, 1]]
    assert overall.is_right_or_wrong
    assert overall.chance == 4 / 8


def test_a_row_for_every_class_that_has_samples():
    rows = scores()[1:]
    assert [(row.class_name, row.value.tolist(), row.chance) for row in rows] == [
        ("cat", [[1, 0, 1]], None),
        ("dog", [[1, 0, 0, 0]], None),
        ("ship", [[0]], None),
    ]


def test_the_subject_is_the_unit_where_there_is_one():
    overall, cat, dog, ship = scores(SUBJECTS)
    assert overall.unit == "subject"
    assert overall.value.tolist() == [[2 / 3, 1 / 5]]
    assert overall.baseline.tolist() == [[2 / 3, 4 / 5]]
    assert not overall.is_right_or_wrong
    assert cat.value.tolist() == [[1 / 2, 1]]
    assert dog.value.tolist() == [[1, 0]]
    assert ship.units == 1  # subject a has no ship


def test_log_probability_is_per_unit():
    row = log_probability_scores(np.array([[-1.0, -3.0]]), np.array([[-0.5, -0.5]]))
    assert (row.metric, row.unit) == ("log_prob", "sample")
    assert row.drop.tolist() == [[0.5, 2.5]]
    by_subject = log_probability_scores(
        np.array([[-1.0, -3.0, -4.0]]), np.zeros((1, 3)), np.array(["a", "a", "b"])
    )
    assert (by_subject.unit, by_subject.value.tolist()) == ("subject", [[-2, -4]])


@pytest.mark.parametrize("subjects", [None, SUBJECTS])
def test_a_seed_without_predictions_has_no_value(subjects):
    missing = np.full((1, 8), np.nan)
    before = (BEFORE == LABELS).astype(float)[None]
    for row in classification_scores(LABELS, missing, before, CLASSES, subjects):
        assert np.isnan(row.value).all()
        assert np.isfinite(row.baseline).all()
