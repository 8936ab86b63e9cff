import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from nontrivial.inference.student import TInterval, incomplete_beta, t_quantile, t_upper_tail


@pytest.mark.parametrize("df", [0.5, 1, 1.7, 2, 3, 4, 9, 29, 99, 1000])
@pytest.mark.parametrize("probability", [0.51, 0.6, 0.9, 0.975, 0.9995])
def test_quantiles_agree_with_scipy(df, probability):
    expected = special.stdtrit(df, probability)
    assert t_quantile(probability, df) == pytest.approx(expected, rel=1e-10)


@given(st.floats(0, 1), st.floats(0.1, 200), st.floats(0.1, 200))
def test_incomplete_beta_agrees_with_scipy(x, a, b):
    expected = special.betainc(a, b, x)
    assert incomplete_beta(x, a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("probability", "df"), [(0.5, 2), (1.0, 2), (0.975, 0), (0.2, 3)])
def test_arguments_out_of_range(probability, df):
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(probability, df)


@pytest.mark.parametrize("df", [1, 2, 4.6, 30, 9_999, 1e6])
@pytest.mark.parametrize("t", [-40, -2.5, -1e-9, 0, 0.3, 1.96, 12, 300])
def test_tails_agree_with_scipy(t, df):
    assert t_upper_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-300)


@given(st.floats(0.501, 0.9999), st.floats(1, 1e6))
def test_the_tail_inverts_the_quantile(probability, df):
    assert t_upper_tail(t_quantile(probability, df), df) == pytest.approx(1 - probability, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_and_its_tests_agree_with_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 0.1, n)
    interval = TInterval(values.mean(), stats.sem(values), n - 1)
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)
    for margin in (0.0, 0.25, 0.35):
        for p, side in ((interval.p_above, "greater"), (interval.p_below, "less")):
            test = stats.ttest_1samp(values, margin, alternative=side)
            assert p(margin) == pytest.approx(test.pvalue, rel=1e-9)
