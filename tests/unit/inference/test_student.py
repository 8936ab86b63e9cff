import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from nontrivial.inference.student import incomplete_beta, t_quantile


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
