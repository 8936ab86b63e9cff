import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nontrivial.inference.bootstrap import bootstrap_intervals, share_at_most

# Not all equal, which would give no standard error.
SCORES = st.lists(st.integers(-1_000, 1_000).map(lambda i: i / 1_000), min_size=6, max_size=20)
SCORES = SCORES.filter(lambda scores: len(set(scores)) > 1)


def interval_of(scores, seed=2):
    (interval,) = bootstrap_intervals(np.asarray(scores)[:, None], np.random.default_rng(seed))
    return interval


def widened(n, confidence=0.95):
    """Return the confidence level of a percentile interval with Hesterberg's tails."""
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    return 1 - 2 * stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)


@pytest.mark.parametrize("n", [6, 10, 34, 52])
def test_interval_agrees_with_scipys_percentile_bootstrap_at_the_widened_level(n):
    scores = np.random.default_rng(0).beta(8, 2, n)
    expected = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=200_000,
        batch=10_000,
        confidence_level=widened(n),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = interval_of(scores)
    # The tail of 6 subjects is 0.24%, of which 10,000 resamples hold about 24.
    tolerance = 0.06 * (expected.high - expected.low)
    assert found.low == pytest.approx(expected.low, abs=tolerance)
    assert found.high == pytest.approx(expected.high, abs=tolerance)


def test_tails_are_wider_than_the_percentiles_with_few_subjects():
    scores = np.random.default_rng(0).normal(size=8)
    found = interval_of(scores)
    low, high = np.quantile(found.means, [0.025, 0.975])
    assert found.low < low
    assert found.high > high


def test_all_columns_come_from_the_same_resamples():
    scores = np.random.default_rng(0).random((30, 1))
    columns = np.hstack([scores, scores + 1, -scores])
    plain, shifted, turned = bootstrap_intervals(columns, np.random.default_rng(4))
    assert (shifted.low, shifted.high) == pytest.approx((plain.low + 1, plain.high + 1))
    assert (turned.low, turned.high) == pytest.approx((-plain.high, -plain.low))


def test_equal_generators_give_equal_resamples():
    scores = np.random.default_rng(0).random(40)
    assert interval_of(scores, 9).means.tolist() == interval_of(scores, 9).means.tolist()
    assert interval_of(scores, 9).means.tolist() != interval_of(scores, 8).means.tolist()


@pytest.mark.parametrize("n", [6, 34])
def test_the_one_sided_limit_at_level_p_is_the_margin(n):
    found = interval_of(np.random.default_rng(5).normal(0.02, 0.03, n))
    for margin in np.quantile(found.means, [0.01, 0.2, 0.5, 0.9]):
        p = found.p_above(margin)
        assert 0.001 < p < 1
        tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(p, n - 1))
        assert np.quantile(found.means, tail) == pytest.approx(margin, abs=1e-9)
        assert found.p_below(margin) >= 1 - p - 1e-9  # more where resamples are equal


@given(
    SCORES,
    st.floats(-0.5, 0.5),
    st.floats(-1e-3, 1e-3),
)
def test_p_values_agree_with_the_limits(scores, margin, shift):
    found = interval_of(scores)
    for at in (margin, found.low + shift, found.high + shift):
        if min(abs(at - found.low), abs(at - found.high)) > 1e-9:
            assert (found.p_above(at) < 0.025) == (found.low > at)
            assert (found.p_below(at) < 0.025) == (found.high < at)


def test_a_small_p_is_that_of_the_t_test():
    scores = np.random.default_rng(1).normal(0.3, 0.05, 30)
    expected = stats.ttest_1samp(scores, 0.01, alternative="greater").pvalue
    found = interval_of(scores)
    assert found.p_above(0.01) == pytest.approx(expected, rel=1e-6)
    assert expected < 1e-12
    assert found.p_below(0.01) == 1.0


def smallest_p(n, resamples=10_000):
    """Return the p-value of a margin at the second of the ordered means of resamples."""
    tail = stats.norm.ppf(1 / (resamples - 1))
    return stats.t.cdf(tail * math.sqrt((n - 1) / n), n - 1)


def test_a_p_below_what_resamples_show_is_at_most_the_smallest_that_they_show():
    # One outlier: no resample is below the margin, but Student's t is not sure.
    scores = np.array([0.011] * 20 + [3.0])
    assert stats.ttest_1samp(scores, 0.01, alternative="greater").pvalue > 0.1
    found = interval_of(scores)
    assert found.low > 0.01
    assert found.p_above(0.01) == pytest.approx(smallest_p(21), rel=1e-6)


def test_the_p_of_few_subjects_does_not_jump_where_resamples_end():
    # With a floor of 0.001, p fell from 0.01 to 0.001 at the smallest of the means.
    scores = [0.02, 0.03, 0.035, 0.04, 0.05, 0.06]
    found = interval_of(scores)
    least, spread = found.means[0], found.means[1] - found.means[0]
    at = [least + 2 * spread, least + 1e-9, least - 1e-9, least - 0.005]
    p_values = [found.p_above(margin) for margin in at]
    assert p_values == sorted(p_values, reverse=True)
    expected = stats.ttest_1samp(
        [0.02, 0.03, 0.035, 0.04, 0.05, 0.06], at[2], alternative="greater"
    )
    assert p_values[2] == pytest.approx(min(smallest_p(6), expected.pvalue), rel=1e-6)
    assert 0.004 < p_values[2] < 0.025
    assert p_values[2] > 0.6 * p_values[0]


@given(
    SCORES,
    st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=8),
)
def test_the_p_falls_with_the_distance_from_the_margin(scores, margins):
    found = interval_of(scores)
    margins = sorted([*margins, found.means[0], found.means[1], found.means[-1]])
    above = [found.p_above(margin) for margin in margins]
    below = [found.p_below(margin) for margin in margins]
    assert above == sorted(above)
    assert below == sorted(below, reverse=True)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.floats(0.001, 0.999))
def test_the_share_inverts_numpys_quantile(values, probability):
    ordered = np.sort(values)
    value = np.quantile(ordered, probability)
    share = share_at_most(ordered, value)
    assert share >= probability - 1e-6
    assert np.quantile(ordered, share) == pytest.approx(value, abs=1e-12)
