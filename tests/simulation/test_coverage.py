"""The intervals contain the true drop as often as they say, in simulated experiments."""

import importlib.util
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
REPLICATES = 1_000
LEAST = {2: 0.85, 3: 0.90, 5: 0.92}  # of a nominal 0.95, by the number of seeds
LEAST_OF_FEW_SUBJECTS = 0.93
pytestmark = pytest.mark.slow


def load():
    spec = importlib.util.spec_from_file_location("interval_coverage", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program = load()


@pytest.mark.parametrize("simulate", ["normal_scores", "right_or_wrong"])
@pytest.mark.parametrize("setting", list(program.settings()), ids=str)
def test_intervals_over_seeds(simulate, setting):
    draw = getattr(program, simulate)
    found = program.coverage(lambda generator: draw(setting, generator), REPLICATES)
    assert found >= LEAST[setting.seeds]


@pytest.mark.parametrize("subjects", program.FEW_SUBJECTS)
def test_one_seed_with_few_subjects(subjects):
    found = program.coverage(
        lambda generator: program.few_subjects("normal", subjects, generator), 4 * REPLICATES
    )
    assert found >= LEAST_OF_FEW_SUBJECTS
