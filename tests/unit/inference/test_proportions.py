import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from nontrivial.inference.proportions import PairedCounts, newcombe, wilson

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
