import numpy as np
import pytest
from scipy import stats

from nontrivial.formats.summary import ACROSS_SEEDS, SUMMARY
from nontrivial.inference.across_seeds import across_seeds, t_interval


def row(seed, value, baseline=0.9, **changes):
    fixed = {
        "experiment": "e",
        "training": "t",
        "seed": seed,
        "split": "test",
        "intervention": "zero",
        "parameters": "{}",
        "target": "layer-a",
        "kind": "layer",
        "kernels": ["a"],
        "status": "ok",
        "metric": "accuracy",
        "unit": "sample",
        "n": 100,
        "value": value,
        "baseline": baseline,
        "drop": baseline - value,
        "margin": 0.01,
        "demonstration": False,
    }
    return {**dict.fromkeys(SUMMARY.names), **fixed, **changes}


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_t_interval_agrees_with_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 0.1, n)
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert t_interval(list(values)) == pytest.approx(expected, abs=1e-12)


def test_three_seeds_have_means_intervals_and_a_verdict():
    rows = [row(0, 0.50, 0.90), row(1, 0.54, 0.92), row(2, 0.49, 0.91)]
    (mean,) = across_seeds(rows)
    assert set(mean) == set(ACROSS_SEEDS.names)
    drops = [0.40, 0.38, 0.42]
    assert (mean["n"], mean["n_units"], mean["covers"]) == (3, 100, "training seeds")
    assert mean["value"] == pytest.approx(0.51)
    assert mean["baseline"] == pytest.approx(0.91)
    assert mean["drop"] == pytest.approx(0.40)
    assert mean["drop_sd"] == pytest.approx(np.std(drops, ddof=1))
    assert (mean["drop_low"], mean["drop_high"]) == pytest.approx(t_interval(drops))
    assert mean["verdict"] == "non-trivial"


def test_one_seed_has_no_interval_and_says_what_is_covered():
    (mean,) = across_seeds([row(0, 0.5)])
    assert (mean["n"], mean["covers"]) == (1, "test sampling only")
    assert mean["drop"] == pytest.approx(0.4)
    for name in ("value_sd", "value_low", "value_high", "drop_sd", "drop_low", "verdict"):
        assert mean[name] is None


def test_seeds_that_disagree_leave_the_verdict_open():
    (mean,) = across_seeds([row(0, 0.5), row(1, 0.9)])
    assert mean["verdict"] == "undecided"


def test_targets_classes_and_experiments_are_kept_apart_and_in_order():
    rows = [
        row(seed, 0.5, experiment=experiment, target=target, **{"class": name})
        for experiment in ("e", "f")
        for seed in (0, 1)
        for target in ("layer-b", "layer-a")
        for name in (None, "cat")
    ]
    means = across_seeds(rows)
    assert [(m["experiment"], m["target"], m["class"], m["n"]) for m in means] == [
        (experiment, target, name, 2)
        for experiment in ("e", "f")
        for target in ("layer-b", "layer-a")
        for name in (None, "cat")
    ]
    assert all(mean["verdict"] is None for mean in means if mean["class"] == "cat")


def test_the_baseline_has_an_interval_over_seeds_but_no_verdict():
    rows = [row(seed, v, v, kind="baseline", target="baseline") for seed, v in ((0, 0.9), (1, 0.8))]
    (mean,) = across_seeds(rows)
    assert mean["value_low"] is not None
    assert mean["drop"] == 0
    assert mean["drop_low"] is mean["drop_sd"] is mean["verdict"] is None


def test_a_demonstration_has_means_and_nothing_else():
    (mean,) = across_seeds([row(0, 0.5, demonstration=True), row(1, 0.6, demonstration=True)])
    assert mean["drop"] == pytest.approx(0.35)
    assert mean["demonstration"] is True
    assert mean["drop_low"] is mean["value_high"] is mean["verdict"] is None


def test_a_metric_missing_with_one_seed_is_not_averaged_over_the_others():
    rows = [row(0, 0.5), row(1, 0.6, drop=None)]
    rows[1]["value"] = None
    (mean,) = across_seeds(rows)
    assert mean["value"] is mean["drop"] is mean["verdict"] is None


def test_columns_that_differ_between_seeds_are_empty():
    (mean,) = across_seeds([row(0, 0.5), row(1, 0.5, n=90, status="cut")])
    assert mean["n_units"] is mean["status"] is None
