"""What the programs import, and when."""

import os
import re
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
    """Return the modules of the library in a program's fingerprint, without packages."""
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


def imports_torch(program):
    files = followed(SCRIPTS / program, [SCRIPTS])
    sources = ((SCRIPTS / name).read_text() for name in files)
    return any(re.search(r"^(import|from) torch\b", source, re.MULTILINE) for source in sources)


# These import the library before torch, which reads the setting when it starts.
TORCH_PROGRAMS = [path.stem for path in sorted(SCRIPTS.glob("*.py")) if imports_torch(path.name)]


def test_programs_that_import_torch_are_found():
    assert {"check_network", "list_kernels", "train_network"} < set(TORCH_PROGRAMS)


def shown_policy(program, own=None):
    """Return the OMP_WAIT_POLICY that OpenMP itself prints when torch starts in a program."""
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
    shown = re.search(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr)
    assert shown, f"OpenMP does not show OMP_WAIT_POLICY: {done.stderr}"
    return shown[1]


@pytest.mark.parametrize("program", TORCH_PROGRAMS)
def test_waiting_threads_leave_the_cores_to_others(program):
    assert shown_policy(program) == "PASSIVE"


def test_the_environment_overrides_the_wait_policy():
    assert shown_policy("train_network", own="ACTIVE") == "ACTIVE"
