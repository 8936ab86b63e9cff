import numpy as np
import pytest
from scipy import stats

from nontrivial.inference.across_seeds import over_seeds, t_interval
from nontrivial.inference.measurement import Measurement


def measured(value, baseline=0.9, n=100, **changes):
    drop = None if value is None else baseline - value
    return Measurement("accuracy", "sample", n, value, baseline, drop, **changes)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_t_interval_agrees_with_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 0.1, n)
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert t_interval(list(values)) == pytest.approx(expected, abs=1e-12)


def test_three_seeds_have_means_and_intervals():
    mean = over_seeds([measured(0.50, 0.90), measured(0.54, 0.92), measured(0.49, 0.91)])
    drops = [0.40, 0.38, 0.42]
    assert (mean.seeds, mean.n, mean.covers) == (3, 100, "training seeds")
    assert mean.value == pytest.approx(0.51)
    assert mean.baseline == pytest.approx(0.91)
    assert mean.drop == pytest.approx(0.40)
    assert mean.drop_sd == pytest.approx(np.std(drops, ddof=1))
    assert (mean.drop_low, mean.drop_high) == pytest.approx(t_interval(drops))


def test_one_seed_keeps_its_own_interval_and_says_what_it_covers():
    one = measured(0.5, value_low=0.4, value_high=0.6, drop_low=0.3, drop_high=0.5, p_value=0.01)
    mean = over_seeds([one])
    assert mean == one
    assert (mean.seeds, mean.covers) == (1, "test sampling only")
    assert mean.value_sd is mean.drop_sd is None


def test_results_of_single_seeds_are_left_out_over_several():
    mean = over_seeds([measured(v, p_value=0.01, b=3, c=1, value_low=0.1) for v in (0.5, 0.6)])
    assert mean.p_value is mean.b is mean.c is None
    assert mean.value_low != 0.1


def test_metric_class_and_unit_are_kept():
    seeds = [Measurement("dice", "subject", 5, v, 0.9, 0.9 - v, "anterior") for v in (0.5, 0.6)]
    mean = over_seeds(seeds)
    assert (mean.metric, mean.unit, mean.class_name) == ("dice", "subject", "anterior")


def test_a_value_that_one_seed_lacks_is_not_averaged_over_the_others():
    mean = over_seeds([measured(0.5), measured(None)])
    assert mean.value is mean.drop is mean.value_low is mean.drop_sd is None
    assert mean.baseline == 0.9


def test_the_number_of_units_is_none_where_seeds_differ():
    assert over_seeds([measured(0.5), measured(0.5, n=90)]).n is None
