"""Settings of every test, and a finished run of the real workflow that several folders share."""

import ctypes
import fcntl
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# OpenMP reads these when torch is imported, here and in each process that a test starts. Threads
# that spin while they wait slow down whatever runs beside them, such as the other half of the
# tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1250")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
WORKFLOW = ("Snakefile", "rules", "workflow", "resources", "envs", "profiles", "config")
TARGET_RULES = {"all", "data", "networks", "predictions", "summary", "tables", "figures"}
SUBJECTS = 12  # 8 train, 2 val, 2 test

# `make test` draws the same examples in every run; `make test-all` draws new ones, from a seed
# that it prints (--hypothesis-profile=random --hypothesis-seed=N). Neither measures time, which
# depends on what else the machine does.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fixed", derandomize=True, **UNTIMED)
settings.register_profile("random", derandomize=False, print_blob=True, **UNTIMED)
settings.load_profile("fixed")

CONFIG = {
    "data_dir": "raw",
    "datasets": {
        "digits": {"source": "digits", "fractions": {"train": 0.2, "val": 0.1, "test": 0.7}},
        "t1": {
            "source": "nifti",
            "images": "images",
            "labels": "labels",
            "classes": ["background", "bright"],
            "size": [32, 32],
            "keep_empty": False,
            "fractions": {"train": 0.66, "val": 0.17, "test": 0.17},
        },
    },
    "trainings": {
        "digits-resnet18": {
            "dataset": "digits",
            "network": "resnet18",
            "recipe": {"epochs": 1, "batch_size": 64, "learning_rate": 0.05, "threads": 1},
        },
        "t1-pspnet": {
            "dataset": "t1",
            "network": "pspnet_resnet34",
            "recipe": {
                "epochs": 1,
                "batch_size": 8,
                "learning_rate": 0.01,
                "threads": 1,
                "augmentation": {"flip": True, "rotation": 0.5, "translation": 0.25},
            },
        },
    },
    "experiments": {
        "digits": {"training": "digits-resnet18", "paper": "cifar10"},
        "t1": {"training": "t1-pspnet", "sets": ["block", "shortcut"], "paper": "t1"},
    },
}


# In tests of replay, glibc fills new memory with bytes 0x7f, which are 3.4e38 in float32 and
# bfloat16, and freed memory with 0x80: no read of memory that nobody wrote goes unseen.
REPLAY = ROOT / "tests" / "unit" / "replay"
M_PERTURB, PERTURBED = -6, 0x80
_mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Start each test from the same RNG states, whatever ran before in its process."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    _mallopt(M_PERTURB, PERTURBED if REPLAY in item.path.parents else 0)


@dataclass
class Workflow:
    """A copy of the workflow in a folder of its own."""

    folder: Path

    @property
    def config(self) -> dict:
        """The configuration in test.yaml."""
        return yaml.safe_load((self.folder / "test.yaml").read_text())

    @config.setter
    def config(self, value: dict) -> None:
        (self.folder / "test.yaml").write_text(yaml.safe_dump(value, sort_keys=False))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake in the folder with the configuration test.yaml."""
        command = [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def run(self, *arguments: str) -> None:
        """Run the workflow; fail with its output if it fails."""
        done = self.snakemake("--cores", "2", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def stale(self, *arguments: str) -> set[str]:
        """Return the jobs of a dry run as ``rule wildcard-values``, without target rules."""
        done = self.snakemake("-n", *arguments)
        text = done.stdout + done.stderr
        assert done.returncode == 0, text
        jobs = set()
        for block in re.split(r"\n(?=\[)", text):
            if found := re.search(r"^(?:local)?rule (\w+):$", block, re.MULTILINE):
                wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
                values = re.findall(r"=([^,]*)", wildcards[1]) if wildcards else []
                jobs.add(" ".join([found[1], *values]))
        return jobs - TARGET_RULES

    def path(self, name: str) -> Path:
        """Return a path below the folder."""
        return self.folder / name


@pytest.fixture(scope="session", autouse=True)
def _signals_have_handlers():
    """Programs under test inherit the signals that nohup or a background shell ignores."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # a new program resets it to the default


def write_volumes(folder: Path) -> None:
    """Write small T1-like volumes as NIfTI files, each with a bright box that its label marks."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for subject in range(SUBJECTS):
        random = np.random.default_rng(subject)
        image = random.normal(100, 10, (32, 6, 32)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        low = random.integers(6, 12, 2)
        label[low[0] : low[0] + 12, 1:5, low[1] : low[1] + 12] = 1
        image[label == 1] += 80
        for part, array in (("images", image), ("labels", label)):
            volume = nibabel.Nifti1Image(array, np.eye(4))
            nibabel.save(volume, folder / part / f"s{subject:02d}.nii.gz")


def copy_workflow(folder: Path) -> Workflow:
    """Copy the workflow's own files into a new folder."""
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in WORKFLOW:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy2(source, folder / name)
    return Workflow(folder)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first test process to need it makes, and the others share.

    Args:
        factory: of the test process.
        name: of the folder, unique among those made this way.
        make: fills the folder, which does not exist yet.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the run's folder, which holds one per worker
    folder, done = base / name, base / f"{name}.done"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # another process failed to make it
            make(folder)
            done.touch()
    return folder


def run_everything(folder: Path) -> None:
    """Run the whole workflow in a new folder."""
    workflow = copy_workflow(folder)
    workflow.config = CONFIG
    write_volumes(workflow.path("raw"))
    workflow.run()


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory) -> Workflow:
    """A finished run that every test may read and none may change."""
    return Workflow(made_once(tmp_path_factory, "finished", run_everything))


@pytest.fixture
def finished(finished_once, tmp_path) -> Workflow:
    """A copy of the finished run for one test to change; modification times are kept."""
    folder = tmp_path / "workflow"
    shutil.copytree(finished_once.folder, folder, symlinks=True)
    return Workflow(folder)
