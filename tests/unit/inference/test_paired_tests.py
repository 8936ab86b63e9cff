import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test
from statsmodels.stats import contingency_tables

from nontrivial.inference.paired_tests import mcnemar_exact, sign_flip


@pytest.mark.parametrize(
    ("b", "c"),
    [(0, 0), (1, 0), (0, 5), (3, 3), (3, 4), (10, 25), (812, 705), (5210, 4990), (60_000, 59_100)],
)
def test_mcnemar_agrees_with_scipy(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("b", "c"), [(3, 4), (10, 25), (81, 70)])
def test_mcnemar_agrees_with_statsmodels(b, c):
    expected = contingency_tables.mcnemar([[30, b], [c, 9]], exact=True).pvalue
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_symmetric_and_a_probability(b, c):
    p = mcnemar_exact(b, c)
    assert 0 < p <= 1
    assert p == mcnemar_exact(c, b)
    if b + c:
        assert p == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-9)


def test_mcnemar_of_a_destroyed_network_is_tiny_but_not_zero():
    assert mcnemar_exact(1000, 0) == pytest.approx(2 * 0.5**1000, rel=1e-9)


def test_mcnemar_below_the_smallest_float_is_zero():
    assert mcnemar_exact(8000, 3) == 0.0


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def two_sided(values, generator=None):
    return sign_flip(column(values), generator).two_sided[0]


def test_sign_flip_of_six_equal_signs_is_two_in_sixty_four():
    assert two_sided([0.1, 0.2, 0.3, 0.1, 0.4, 0.5]) == 2 / 64


def test_sign_flip_without_differences_is_one():
    assert sign_flip(np.zeros((16, 2)), None).two_sided.tolist() == [1.0, 1.0]
    assert two_sided(np.zeros(17), np.random.default_rng(0)) == 1.0


def test_sums_equal_in_real_arithmetic_all_count():
    # 0.1 + 0.2 + 0.3 and -0.1 - 0.2 + ... differ in the last bits with the order of signs.
    values = [0.1, 0.2, 0.3, -0.3, 0.7, -0.7, 0.6]
    tenths = [1, 2, 3, -3, 7, -7, 6]
    observed = abs(sum(tenths))
    patterns = list(itertools.product([1, -1], repeat=len(tenths)))
    hits = sum(
        abs(sum(s * t for s, t in zip(p, tenths, strict=True))) >= observed for p in patterns
    )
    assert two_sided(values) == hits / len(patterns)


@given(st.lists(st.integers(-50, 50), min_size=6, max_size=10))
def test_exact_sign_flip_agrees_with_integer_arithmetic(values):
    patterns = np.array(list(itertools.product([1, -1], repeat=len(values))))
    expected = (abs(patterns @ np.array(values)) >= abs(sum(values))).mean()
    # The same numbers as fractions that floats cannot hold.
    assert two_sided(np.divide(values, 30)) == expected


@pytest.mark.parametrize(
    ("side", "name"), [("two-sided", "two_sided"), ("greater", "above"), ("less", "below")]
)
def test_exact_sign_flip_agrees_with_scipy_at_sixteen_subjects(side, name):
    differences = np.random.default_rng(3).normal(0.05, 0.1, 16)
    expected = permutation_test(
        (differences,),
        lambda x, axis=-1: np.mean(x, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=side,
    ).pvalue
    flips = sign_flip(column(differences), None)
    assert getattr(flips, name)[0] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(-50, 50), min_size=6, max_size=9))
def test_exact_one_sided_sign_flip_agrees_with_integer_arithmetic(values):
    patterns = np.array(list(itertools.product([1, -1], repeat=len(values))))
    sums = patterns @ np.array(values)
    flips = sign_flip(column(values) / 30, None)
    assert flips.above[0] == (sums >= sum(values)).mean()
    assert flips.below[0] == (sums <= sum(values)).mean()


def test_drawn_sign_flip_is_close_to_the_exact_distribution():
    # 17 whole numbers: the exact p-value comes from counting all 2^17 sums.
    values = np.array([3, 1, 4, -1, 5, -9, 2, 6, 5, 3, -5, 8, 9, 7, -9, 3, 2])
    sums = np.zeros(1, dtype=int)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    exact = (abs(sums) >= abs(values.sum())).mean()
    flips = sign_flip(column(values) / 7, np.random.default_rng(1))
    above, below = (sums >= values.sum()).mean(), (sums <= values.sum()).mean()
    found = ((flips.two_sided, exact), (flips.above, above), (flips.below, below))
    for drawn, share in found:
        assert drawn[0] == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 100_000))


def test_drawn_sign_flip_never_reaches_zero():
    flips = sign_flip(column(np.linspace(1, 2, 60)), np.random.default_rng(0))
    assert flips.two_sided[0] == flips.above[0] == 1 / 100_001
    assert flips.below[0] == 1


def test_drawn_columns_share_their_signs():
    values = np.random.default_rng(2).normal(0.02, 0.1, (40, 1))
    flips = sign_flip(np.hstack([values, values, -values]), np.random.default_rng(5))
    assert len(set(flips.two_sided)) == 1
    assert flips.above[0] == flips.below[2]
    tripled = sign_flip(np.tile(values, 3), np.random.default_rng(5))
    assert flips.two_sided.tolist() == tripled.two_sided.tolist()
