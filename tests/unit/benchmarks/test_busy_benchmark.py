"""The benchmark of training beside a busy program: order of turns, and figures."""

import importlib.util
import math
import os
from pathlib import Path

import pytest

from nontrivial.errors import UserError

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "busy.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("busy_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rounds_alternate_and_take_every_turn_once(benchmark):
    even, odd = benchmark.order(0), benchmark.order(1)
    assert even == odd[::-1] == benchmark.order(2)
    assert sorted(even) == [
        ("default", False),
        ("default", True),
        ("passive", False),
        ("passive", True),
    ]


def test_the_busy_loop_runs_during_its_turns_only(benchmark, monkeypatch):
    running = []

    class Loop:
        def __enter__(self):
            running.append(True)

        def __exit__(self, *_):
            running.pop()

    monkeypatch.setattr(benchmark, "busy_loop", Loop)
    calls = []

    def training(policy):
        def turn():
            calls.append((policy, bool(running)))
            return float(len(calls))

        return turn

    seconds = benchmark.take_turns({name: training(name) for name in benchmark.POLICIES}, 3)
    assert calls[:2] == [("passive", False), ("default", False)]  # not counted
    assert calls[2:] == [turn for number in range(3) for turn in benchmark.order(number)]
    for turn, taken in seconds.items():
        assert [calls[int(number) - 1] for number in taken] == [turn] * 3
    assert running == []


def test_ratio_of_pairs(benchmark):
    assert benchmark.ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]) == {"mean": 2, "low": 2, "high": 2}
    # Two pairs: the t quantile of one degree of freedom is 12.706; log ratios are 0 and log 4.
    half = 12.7062 * math.log(4) / math.sqrt(2) / math.sqrt(2)
    found = benchmark.ratio([1.0, 4.0], [1.0, 1.0])
    assert found["mean"] == pytest.approx(2)
    assert found["low"] == pytest.approx(2 * math.exp(-half), rel=1e-3)
    assert found["high"] == pytest.approx(2 * math.exp(half), rel=1e-3)


def test_figures_compare_rates(benchmark):
    seconds = {
        ("passive", False): [1.0, 1.0],
        ("default", False): [1.0, 1.0],
        ("passive", True): [1.25, 1.25],
        ("default", True): [20.0, 20.0],
    }
    found = benchmark.figures(seconds, samples=100)
    assert found["rounds"] == 2
    assert found["samples_per_second"] == {
        "passive": {"alone": 100, "beside_busy_loop": 80},
        "default": {"alone": 100, "beside_busy_loop": 5},
    }
    kept = found["rate_beside_busy_loop_to_alone"]
    assert (kept["passive"]["mean"], kept["default"]["mean"]) == (0.8, 0.05)
    ratios = found["rate_passive_to_default"]
    assert (ratios["alone"]["mean"], ratios["beside_busy_loop"]["mean"]) == (1, 16)


@pytest.mark.parametrize("before", [{}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}])
@pytest.mark.parametrize("settings", [{}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}])
def test_the_settings_hold_for_the_block_only(benchmark, monkeypatch, settings, before):
    def current():
        return {name: os.environ[name] for name in benchmark.VARIABLES if name in os.environ}

    for name in benchmark.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    with benchmark.in_environment(settings):
        assert current() == settings
    assert current() == before


def test_one_round_is_refused(benchmark):
    with pytest.raises(UserError, match="--rounds 1: an interval needs at least 2"):
        benchmark.busy(rounds=1)


def test_one_core_is_refused(benchmark, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(UserError, match="needs 2 CPU cores, and 1 is available"):
        benchmark.busy()
