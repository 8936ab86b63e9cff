import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from nontrivial.inference.proportions import (
    NewcombeInterval,
    PairedCounts,
    n_for_trivial,
    newcombe,
    wilson,
)

CELLS = st.builds(
    PairedCounts,
    both=st.integers(0, 10_000),
    lost=st.integers(0, 2_000),
    gained=st.integers(0, 2_000),
    neither=st.integers(0, 5_000),
).filter(lambda counts: counts.n > 0)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 3), (8400, 10_000), (9999, 10_000)])
def test_wilson_agrees_with_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("z", [0.5, 1.0, 2.576])
@pytest.mark.parametrize("hits", [0, 1, 28.4, 50])
def test_wilson_agrees_with_statsmodels_at_any_level_and_with_fractions(hits, z):
    expected = proportion_confint(hits, 50, alpha=2 * NormalDist().cdf(-z), method="wilson")
    assert wilson(hits, 50, z) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_proportion_and_stays_in_range(case):
    hits, n = case
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(hits, n):
    with pytest.raises(ValueError, match="hits in"):
        wilson(hits, n)


@pytest.mark.parametrize(
    ("cells", "low", "high", "digits"),
    [
        # Cavo et al. 2012, in Fagerland, Lydersen, Laake, Statistical Analysis of Contingency
        # Tables (2017), chapter 8: -0.0621 (-0.1186 to -0.0046).
        ((59, 6, 16, 80), -0.1186, -0.0046, 4),
        # Altman et al., Statistics with Confidence (2000), p. 52: 0.011 to 0.226.
        ((14, 5, 0, 22), 0.011, 0.226, 3),
    ],
)
def test_newcombe_agrees_with_published_examples(cells, low, high, digits):
    result = newcombe(PairedCounts(*cells))
    assert [round(limit, digits) for limit in result] == [low, high]


def test_newcombe_without_any_difference_contains_zero():
    low, high = newcombe(PairedCounts(both=84, lost=0, gained=0, neither=16))
    assert low < 0 < high
    assert low == pytest.approx(-high)


def test_newcombe_of_a_network_that_is_always_right_is_a_finite_interval():
    low, high = newcombe(PairedCounts(both=50, lost=0, gained=0, neither=0))
    assert -1 <= low <= 0 <= high <= 1


@given(CELLS)
def test_newcombe_contains_the_drop_and_changes_sign_with_the_direction(counts):
    low, high = newcombe(counts)
    assert -1 <= low <= (counts.lost - counts.gained) / counts.n <= high <= 1
    turned = newcombe(PairedCounts(counts.both, counts.gained, counts.lost, counts.neither))
    assert turned == pytest.approx((-high, -low), abs=1e-12)
    assert math.isfinite(low)


@pytest.mark.parametrize("cells", [(8, 3, 2, 1), (6, 4, 2, 2), (20, 6, 4, 2)])
def test_newcombe_of_pairs_without_correlation_is_that_of_independent_samples(cells):
    # The numerator of the correlation is between 0 and n / 2, so the correction makes it 0.
    counts = PairedCounts(*cells)
    assert 0 < counts.both * counts.neither - counts.lost * counts.gained <= counts.n / 2
    before, after = counts.both + counts.lost, counts.both + counts.gained
    expected = confint_proportions_2indep(before, counts.n, after, counts.n, method="newcomb")
    assert newcombe(counts) == pytest.approx(expected, abs=1e-9)


def test_means_over_seeds_need_not_be_whole_numbers():
    thirds = PairedCounts(both=100 / 3, lost=1 / 3, gained=200 / 3, neither=0)
    low, high = newcombe(thirds)
    assert low < -200 / 301 < high
    assert newcombe(PairedCounts(50.1 + 49.9, 0, 0, 0))[1] < 0.05


FRACTIONS = st.builds(
    PairedCounts, *(st.floats(0, most) for most in (3_000, 300, 300, 900))
).filter(lambda counts: counts.n > 1)


@given(FRACTIONS, st.floats(-0.2, 0.2), st.floats(-1e-4, 1e-4))
def test_p_values_agree_with_the_limits(counts, margin, shift):
    interval = NewcombeInterval(counts)
    for at in (margin, interval.low + shift, interval.high + shift):
        if min(abs(at - interval.low), abs(at - interval.high)) > 1e-9:
            assert (interval.p_above(at) < 0.025) == (interval.low > at)
            assert (interval.p_below(at) < 0.025) == (interval.high < at)


@given(FRACTIONS, st.floats(0.001, 0.4))
def test_the_one_sided_limit_at_level_p_is_the_margin(counts, p):
    z = -NormalDist().inv_cdf(p)
    low, high = newcombe(counts, z)
    interval = NewcombeInterval(counts)
    if low > -0.99 and high < 0.99:
        # Both sides of the drop: a margin above it has a p-value above 0.5.
        assert interval.p_above(low) == pytest.approx(p, abs=1e-6)
        assert interval.p_above(high) == pytest.approx(1 - p, abs=1e-6)
        assert interval.p_below(high) == pytest.approx(p, abs=1e-6)
        assert interval.p_below(low) == pytest.approx(1 - p, abs=1e-6)


def test_p_values_of_a_destroyed_network():
    interval = NewcombeInterval(PairedCounts(both=900, lost=8_000, gained=100, neither=1_000))
    assert interval.p_above(0.01) < 1e-100
    assert interval.p_below(0.01) == 1.0


@pytest.mark.parametrize(("accuracy", "n"), [(1.0, 50), (0.98, 539), (0.5, 100), (0.85, 10)])
@pytest.mark.parametrize("margin", [0.01, 0.05])
def test_the_smallest_n_with_which_a_target_can_be_trivial(accuracy, n, margin):
    def highest(number):
        return newcombe(PairedCounts(accuracy * number, 0, 0, (1 - accuracy) * number))[1]

    enough = n_for_trivial(accuracy, n, margin)
    if enough is None:
        assert highest(n) < margin
    else:
        assert highest(enough) < margin <= highest(enough - 1)
        assert enough > n


def test_more_samples_than_needed_need_no_more():
    assert n_for_trivial(0.85, 10_000, 0.01) is None
