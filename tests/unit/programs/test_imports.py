"""What the programs import, and when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nontrivial.planning.fingerprint import followed

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"

# An edit to any of these makes every trained network stale: keep the list short.
TRAINING = {
    "errors",
    "data.batches",
    "data.file_backed",
    "data.prepared",
    "data.sample_order",
    "data.setup",
    "execution.atomic",
    "execution.command_line",
    "execution.device",
    "execution.interruption",
    "execution.reproducibility",
    "execution.reuse",
    "formats.canonical",
    "formats.dataset",
    "formats.parquet",
    "formats.history",
    "formats.samples",
    "formats.snapshots",
    "formats.tensor_file",
    "formats.weights",
    "networks.convolutions",
    "networks.factory",
    "networks.live_convolutions",
    "networks.tap_geometry",
    "training.augmentation",
    "training.checkpoint",
    "training.compiled",
    "training.learning_rate",
    "training.loop",
    "training.losses",
    "training.optimizer",
    "training.progress",
    "training.random_state",
    "training.recipe",
    "training.validation",
}


def modules(program):
    """Return the modules of the library, packages left out, in a program's fingerprint."""
    names = {Path(name) for name in followed(SCRIPTS / program, [SCRIPTS])}
    return {
        ".".join(name.with_suffix("").parts[1:])
        for name in names
        if name.parts[0] == "nontrivial" and name.name != "__init__.py"
    }


def test_training_imports_no_more_than_it_needs():
    assert modules("train_network.py") == TRAINING


@pytest.mark.parametrize("program", ["train_network.py", "predict_targets.py"])
def test_another_check_or_network_makes_nothing_stale(program):
    others = {"networks.checks", "networks.registry", "networks.resnets", "networks.pspnet"}
    assert not modules(program) & (others | {"training.misfits"})


@pytest.mark.parametrize(("own", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
@pytest.mark.parametrize("program", ["train_network", "predict_targets", "predict_examples"])
def test_waiting_threads_leave_the_cores_to_others(program, own, policy):
    """As OpenMP itself says when torch starts; a setting of the user's wins."""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "TRUE", "PYTHONPATH": str(SCRIPTS)}
    environment.pop("OMP_WAIT_POLICY", None)
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    done = subprocess.run(
        [sys.executable, "-c", f"import {program}, torch; torch.ones(9).sum()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("this OpenMP does not show its settings")
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
