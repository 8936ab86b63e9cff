import pytest

from nontrivial.inference.confidence import Hull, p_two_sided
from nontrivial.inference.student import TInterval

NARROW, SHIFTED = TInterval(0.02, 0.002, 3), TInterval(0.021, 0.004, 40)


def test_a_hull_has_the_outer_limits_and_the_larger_p_values():
    hull = Hull([NARROW, SHIFTED])
    assert (hull.low, hull.high) == (
        min(NARROW.low, SHIFTED.low),
        max(NARROW.high, SHIFTED.high),
    )
    for margin in (0.0, 0.01, 0.02, 0.03, hull.low, hull.high):
        assert hull.p_above(margin) == max(NARROW.p_above(margin), SHIFTED.p_above(margin))
        assert hull.p_below(margin) == max(NARROW.p_below(margin), SHIFTED.p_below(margin))
        if margin not in (hull.low, hull.high):
            assert (hull.p_above(margin) < 0.025) == (hull.low > margin)
            assert (hull.p_below(margin) < 0.025) == (hull.high < margin)


def test_a_two_sided_p_is_twice_the_smaller_one_and_at_most_1():
    assert p_two_sided(NARROW, 0.015) == 2 * NARROW.p_above(0.015)
    assert p_two_sided(NARROW, 0.03) == 2 * NARROW.p_below(0.03)
    assert p_two_sided(NARROW, 0.02) == pytest.approx(1.0)
