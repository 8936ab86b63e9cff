"""What several test folders share: a finished run of the real workflow, small enough to repeat."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = ("Snakefile", "rules", "workflow", "resources", "envs", "profiles", "config")
TARGET_RULES = {"all", "data", "networks", "predictions", "summary", "tables", "figures"}
SUBJECTS = 12  # 8 train, 2 val, 2 test

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


@dataclass
class Workflow:
    """A copy of the workflow in a folder of its own."""

    folder: Path

    @property
    def config(self) -> dict:
        """The configuration, as it stands in the folder."""
        return yaml.safe_load((self.folder / "test.yaml").read_text())

    @config.setter
    def config(self, value: dict) -> None:
        (self.folder / "test.yaml").write_text(yaml.safe_dump(value, sort_keys=False))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake in the folder with the configuration test.yaml."""
        command = [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def run(self, *arguments: str) -> None:
        """Run the workflow; fail with its output if it fails."""
        done = self.snakemake("--cores", "2", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def stale(self, *arguments: str) -> set[str]:
        """Return the jobs that a dry run names, as ``rule wildcard-values``, `all` left out."""
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
def _signals_are_not_ignored_by_what_is_tested():
    """Programs inherit what nohup, or a shell's background, lets the tests ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # a program starts with the default instead


def write_volumes(folder: Path) -> None:
    """Write small T1-like volumes with a bright box, and its label, as NIfTI files."""
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


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory) -> Workflow:
    """A finished run that every test may read and none may change."""
    workflow = copy_workflow(tmp_path_factory.mktemp("finished") / "workflow")
    workflow.config = CONFIG
    write_volumes(workflow.path("raw"))
    workflow.run()
    return workflow


@pytest.fixture
def finished(finished_once, tmp_path) -> Workflow:
    """A copy of the finished run, times of files kept, for one test to change."""
    folder = tmp_path / "workflow"
    shutil.copytree(finished_once.folder, folder, symlinks=True)
    return Workflow(folder)
