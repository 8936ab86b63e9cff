import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from nontrivial.inference.holm import holm, holm_by_family

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_hand_values():
    # Holm 1979: 4 * 0.005, 3 * 0.01, 2 * 0.03, then 0.04 lifted to its predecessor.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_no_tests_no_values():
    assert holm([]) == []


def test_ties_share_a_value():
    assert holm([0.02, 0.02, 0.5]) == pytest.approx([0.06, 0.06, 0.5])


@given(P_VALUES)
def test_adjusted_values_keep_the_order_and_are_never_smaller(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    in_order = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order)


@given(P_VALUES, st.floats(0.001, 0.5))
def test_rejections_are_those_of_the_step_down_procedure(p_values, level):
    rejected = 0
    for rank, p in enumerate(sorted(p_values)):
        if (len(p_values) - rank) * p > level:
            break
        rejected += 1
    assert sum(a <= level for a in holm(p_values)) == rejected


@given(P_VALUES)
def test_holm_lies_between_the_raw_values_and_bonferroni(p_values):
    for p, a in zip(p_values, holm(p_values), strict=True):
        assert a <= min(1.0, len(p_values) * p) or a == pytest.approx(len(p_values) * p)


@given(P_VALUES)
def test_holm_agrees_with_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, rel=1e-9)


@given(P_VALUES, st.randoms())
def test_the_order_of_tests_does_not_matter(p_values, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    shuffled = holm([p_values[i] for i in order])
    assert shuffled == [holm(p_values)[i] for i in order]


def test_families_are_corrected_separately():
    assert holm_by_family("eeff", "abab", [0.02, 0.03, 0.01, 0.5]) == [
        *holm([0.02, 0.03]),
        *holm([0.01, 0.5]),
    ]


def test_equal_hypotheses_count_once_and_share_the_result():
    assert holm_by_family("eee", "xyx", [0.01, 0.03, 0.01]) == pytest.approx([0.02, 0.03, 0.02])


def test_no_families():
    assert holm_by_family([], [], []) == []
