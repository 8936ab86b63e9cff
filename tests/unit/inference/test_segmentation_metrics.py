import numpy as np
import pytest
from scipy.stats import permutation_test

from nontrivial.inference.bootstrap import mean_intervals
from nontrivial.inference.segmentation_metrics import (
    Counts,
    pooled_measurements,
    slice_measurements,
    subject_measurements,
)

CLASSES = ["background", "anterior", "posterior"]


def counts(rows):
    """Counts from a list of slices of classes of (tp, fp, fn)."""
    array = np.array(rows)
    return Counts(array[:, :, 0], array[:, :, 1], array[:, :, 2])


def random_counts(n, seed):
    generator = np.random.default_rng(seed)
    return Counts(*(generator.integers(0, most, (n, 3)) for most in (300, 60, 60)))


def subject_rows(subjects, value, baseline):
    return subject_measurements(
        subjects, value, baseline, CLASSES, np.random.default_rng(1), np.random.default_rng(2)
    )


BACKGROUND = (9000, 0, 0)
HAND = counts(
    [
        [BACKGROUND, (4, 1, 1), (0, 0, 0)],  # subject a: anterior 2*10/(20+1+3), posterior 1
        [BACKGROUND, (6, 0, 2), (0, 0, 0)],
        [BACKGROUND, (0, 0, 0), (3, 0, 2)],  # subject b: anterior 1, posterior 6/8
        [BACKGROUND, (0, 0, 0), (0, 0, 0)],
    ]
)
SUBJECTS = ["a", "a", "b", "b"]


def test_subjects_by_hand():
    rows = subject_rows(SUBJECTS, HAND, HAND)
    a, b = np.array([20 / 24, 1]), np.array([1, 6 / 8])
    values = {row.class_name: row.value for row in rows}
    assert values[None] == pytest.approx((a.mean() + b.mean()) / 2)
    assert values["anterior"] == pytest.approx((a[0] + b[0]) / 2)
    assert values["posterior"] == pytest.approx((a[1] + b[1]) / 2)
    assert {(row.metric, row.unit, row.n, row.drop) for row in rows} == {("dice", "subject", 2, 0)}


def test_the_background_does_not_count():
    ruined = Counts(HAND.tp.copy(), HAND.fp.copy(), HAND.fn.copy())
    ruined.fp[:, 0] += 5000
    assert subject_rows(SUBJECTS, ruined, HAND) == subject_rows(SUBJECTS, HAND, HAND)


def test_slices_without_the_class_in_truth_or_prediction_do_not_count():
    rows = {row.class_name: row for row in slice_measurements(HAND, HAND, CLASSES)}
    assert rows["anterior"].n == 2
    assert rows["anterior"].value == pytest.approx((8 / 10 + 12 / 14) / 2)
    assert (rows["posterior"].n, rows["posterior"].value) == (1, 6 / 8)
    assert rows[None].n == 3
    assert rows[None].value == pytest.approx((rows["anterior"].value + 6 / 8) / 2)
    assert {row.drop_low for row in rows.values()} == {None}


def test_a_class_on_no_slice_has_no_dice_over_slices():
    empty = counts([[BACKGROUND, (5, 0, 0), (0, 0, 0)]])
    rows = {row.class_name: row for row in slice_measurements(empty, empty, CLASSES)}
    assert (rows["posterior"].n, rows["posterior"].value, rows["posterior"].drop) == (0, None, None)
    assert rows[None].value == 1.0


def test_pooled_counts_are_summed_over_everything():
    better = counts([[BACKGROUND, (12, 0, 0), (5, 0, 0)]])
    rows = {row.class_name: row for row in pooled_measurements(HAND, better, CLASSES)}
    assert rows["anterior"].value == pytest.approx(20 / 24)
    assert rows["posterior"].value == pytest.approx(6 / 8)
    assert rows[None].value == pytest.approx((20 / 24 + 6 / 8) / 2)
    assert rows[None].drop == pytest.approx(1 - rows[None].value)
    assert (rows[None].n, rows[None].unit) == (1, "pooled")


def test_five_subjects_have_no_interval_or_p_value_and_six_have():
    for subjects, inference in ((5, False), (6, True)):
        names = [f"s{i // 2}" for i in range(2 * subjects)]
        rows = subject_rows(names, random_counts(2 * subjects, 0), random_counts(2 * subjects, 1))
        for row in rows:
            fields = (row.value_low, row.value_high, row.drop_low, row.drop_high, row.p_value)
            assert [field is not None for field in fields] == [inference] * 5


def test_inference_is_over_subjects_and_paired():
    names = [f"s{i // 3:02d}" for i in range(36)]
    value, before = random_counts(36, 0), random_counts(36, 1)
    row = subject_rows(names, value, before)[0]
    dice = {}
    for key, c in (("value", value), ("before", before)):
        tp, fp, fn = (
            x.reshape(12, 3, 3).sum(axis=1)[:, 1:].astype(float) for x in (c.tp, c.fp, c.fn)
        )
        dice[key] = (2 * tp / (2 * tp + fp + fn)).mean(axis=1)
    difference = dice["before"] - dice["value"]
    assert row.n == 12
    assert row.value == pytest.approx(dice["value"].mean())
    assert row.drop == pytest.approx(difference.mean())
    columns = np.stack([dice["value"], difference], axis=1)
    expected = mean_intervals(columns, np.random.default_rng(1))
    np.testing.assert_allclose([row.value_low, row.value_high], expected[0], atol=1e-12)
    np.testing.assert_allclose([row.drop_low, row.drop_high], expected[1], atol=1e-12)
    p = permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert row.p_value == pytest.approx(p, abs=1e-12)
