"""The simulated experiments have the variances that the tables of coverage state."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "interval_coverage.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("interval_coverage_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("share", [0, 0.8])
def test_the_deviation_of_the_drop_is_that_of_many_images(program, share):
    setting = program.Setting(seeds=1, units=500_000, ratio=0, share=share)
    images, truth = program.right_or_wrong(setting, np.random.default_rng(0))
    assert images.drop.std() == pytest.approx(program.deviation_of_drop(share), rel=0.01)
    assert images.drop.mean() == pytest.approx(truth, abs=0.004)


@pytest.mark.parametrize("simulate", ["normal_scores", "right_or_wrong"])
@pytest.mark.parametrize("share", [0, 0.8])
def test_the_ratio_is_between_deviations_of_the_same_drop(program, simulate, share):
    # Seeds and test units add their variances: 1 and ratio^2 in units of test sampling.
    generator = np.random.default_rng(1)
    setting = program.Setting(seeds=1, units=500, ratio=1, share=share)
    draws = [getattr(program, simulate)(setting, generator)[0].drop for _ in range(4_000)]
    of_units = np.mean([drop.var() for drop in draws]) / 500
    assert np.var([drop.mean() for drop in draws]) / of_units == pytest.approx(2, rel=0.08)
