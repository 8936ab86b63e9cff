import math

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from nontrivial.inference.variance_components import seeds_and_units

ROUNDING = 1e-12  # of scores up to 1


def scores_of(seeds, units, of_seeds=0.02, of_units=0.1, seed=0):
    generator = np.random.default_rng(seed)
    return (
        0.05
        + generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_units, (1, units))
        + generator.normal(0, 0.1, (seeds, units))
    )


@pytest.mark.parametrize(("seeds", "units"), [(2, 6), (3, 12), (5, 30)])
@pytest.mark.parametrize("of_units", [0.0, 0.2])
def test_mean_squares_are_those_of_statsmodels(seeds, units, of_units):
    scores = scores_of(seeds, units, of_units=of_units)
    frame = pandas.DataFrame(
        {
            "score": scores.ravel(),
            "seed": np.repeat(np.arange(seeds), units),
            "unit": np.tile(np.arange(units), seeds),
        }
    )
    table = anova_lm(ols("score ~ C(seed) + C(unit)", frame).fit())
    of_seeds, of_cases, residual = table["mean_sq"]
    excess = max(of_cases - residual, 0)
    total = of_seeds + excess
    found = seeds_and_units(scores, ROUNDING)
    assert found.mean == pytest.approx(scores.mean())
    assert found.error == pytest.approx(math.sqrt(total / (seeds * units)))
    df = total**2 / (of_seeds**2 / (seeds - 1) + excess**2 / (units - 1))
    assert found.df == pytest.approx(df)


def test_units_without_an_effect_leave_the_t_interval_over_seeds():
    scores = np.array([[0.1, 0.3], [0.3, 0.1], [0.5, 0.4]])
    found = seeds_and_units(scores, ROUNDING)
    by_seed = scores.mean(axis=1)
    assert (found.df, found.error) == (pytest.approx(2), pytest.approx(stats.sem(by_seed)))


def test_equal_seeds_leave_the_t_interval_over_units():
    units = np.random.default_rng(0).normal(size=20)
    found = seeds_and_units(np.tile(units, (3, 1)), ROUNDING)
    assert (found.df, found.error) == (pytest.approx(19), pytest.approx(stats.sem(units)))


@pytest.mark.parametrize("value", [0.0, 0.02, -1 / 3])
def test_nothing_that_varies_has_no_interval(value):
    assert seeds_and_units(np.full((3, 50), value), ROUNDING) is None


def test_seeds_that_each_lose_another_image_have_no_interval():
    # Every seed's mean is the same, and units vary no more than residuals do.
    scores = np.zeros((3, 50))
    scores[[0, 1, 2], [4, 20, 33]] = 1
    assert seeds_and_units(scores, ROUNDING) is None


@pytest.mark.parametrize("scale", [1, 0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("mean", [0, 0.1])
def test_mean_squares_that_only_rounding_separates_have_no_interval(scale, mean):
    # Those of units and residuals are both 2/3, and the means of the seeds are equal.
    changes = [[0, -1, 1, 0, 0, 0], [0, -1, 1, 1, -1, 0], [1, 0, 0, -1, 1, -1]]
    assert seeds_and_units(mean + scale * np.array(changes), ROUNDING) is None


def test_one_unit_leaves_the_t_interval_over_seeds():
    found = seeds_and_units(np.array([[0.0], [1.0], [1.0]]), ROUNDING)
    assert (found.df, found.error) == (2, pytest.approx(stats.sem([0, 1, 1])))


@given(arrays(float, (3, 7), elements=st.floats(-1, 1)))
def test_degrees_of_freedom_are_between_those_of_seeds_and_of_both(scores):
    found = seeds_and_units(scores, ROUNDING)
    if found is not None:
        assert found.error > 0
        assert 2 - 1e-9 <= found.df <= 2 + 6 + 1e-9
