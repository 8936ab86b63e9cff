import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nontrivial.inference.dice import by_subject, dice

COUNTS = arrays(np.int32, (7, 3), elements=st.integers(0, 128 * 128))


def test_dice_of_hand_counts():
    tp, fp, fn = np.array([[3, 0, 0], [0, 2, 0], [1, 1, 2]])
    # 6/7; false alarms and misses without a hit are 0
    np.testing.assert_allclose(dice(tp, fp, fn), [6 / 7, 0, 0])


@pytest.mark.parametrize("fp", [0, 5])
def test_an_empty_truth_has_no_dice_whatever_is_predicted(fp):
    assert np.isnan(dice(np.array(0), np.array(fp), np.array(0)))


@given(COUNTS, COUNTS, COUNTS)
def test_dice_is_between_zero_and_one_and_symmetric_in_the_errors(tp, fp, fn):
    score = dice(tp, fp, fn)
    has_truth = tp + fn > 0
    assert (np.isnan(score) == ~has_truth).all()
    assert ((score[has_truth] >= 0) & (score[has_truth] <= 1)).all()
    both = has_truth & (tp + fp > 0)
    np.testing.assert_array_equal(score[both], dice(tp, fn, fp)[both])


def test_counts_are_summed_over_slices_before_the_ratio():
    tp = np.array([[1], [9], [0]])
    fp = np.array([[1], [0], [0]])
    fn = np.array([[0], [0], [0]])
    names, score = by_subject(["b", "b", "a"], tp, fp, fn)
    assert list(names) == ["a", "b"]
    np.testing.assert_allclose(score, [[np.nan], [20 / 21]])


@given(COUNTS, COUNTS, COUNTS, st.permutations(range(7)))
def test_the_order_of_slices_does_not_matter(tp, fp, fn, order):
    subjects = np.array(["s1", "s0", "s1", "s2", "s0", "s1", "s2"])
    order = list(order)
    names, score = by_subject(subjects, tp, fp, fn)
    shuffled = by_subject(subjects[order], tp[order], fp[order], fn[order])
    assert list(names) == list(shuffled[0])
    np.testing.assert_array_equal(score, shuffled[1])


def test_sums_do_not_overflow_the_32_bits_of_the_stored_counts():
    tp = np.full((3, 1), 2**31 - 1, dtype=np.int32)
    none = np.zeros((3, 1), dtype=np.int32)
    _, score = by_subject(["s"] * 3, tp, none, none)
    assert score[0, 0] == 1.0


def test_subjects_and_slices_must_match():
    counts = np.zeros((3, 2), dtype=np.int32)
    with pytest.raises(ValueError, match="2 group numbers for 3 rows"):
        by_subject(["a", "b"], counts, counts, counts)
