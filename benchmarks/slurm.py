"""Count the submissions of one small workflow, and time it, with and without bundles of jobs.

Starts SLURM on this host, which requires slurm-wlm, munge and root. It has two nodes with a fake
GPU each. Runs the workflow twice, from an empty results folder to the summary: with profiles/slurm,
and with the same profile without bundles. The nodes share the CPU cores of this host, so a run
never has more than a few jobs in the queue. Many of the seconds are waiting: between two polls of
the queue, the plugin waits 1, 11, 21, ... seconds until it sees a finished job. Prints one JSON
object.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "slurm"))

import plugin_environment  # noqa: E402
from small_cluster import Cluster  # noqa: E402

JOBS = 4  # in the queue at a time
CONFIG = {
    "datasets": {
        "digits": {"source": "digits", "fractions": {"train": 0.4, "val": 0.1, "test": 0.5}},
    },
    "trainings": {
        "digits": {
            "dataset": "digits",
            "network": "resnet18",
            "recipe": {"epochs": 1, "batch_size": 64, "learning_rate": 0.05, "threads": 1},
        },
    },
    "experiments": {"digits": {"training": "digits"}},
}


def without_bundles(profile: Path) -> None:
    """Remove the bundles from a profile."""
    settings = yaml.safe_load(profile.read_text())
    del settings["groups"], settings["group-components"]
    profile.write_text(yaml.safe_dump(settings))


def run(clone: Path, python: Path, cluster: Cluster) -> dict[str, object]:
    """Run the workflow of the clone; if it fails, exit with its output."""
    (clone / "benchmark.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [python, "-m", "snakemake", "summary", "--configfile", "benchmark.yaml"]
    command += ["--workflow-profile", "profiles/slurm", "--jobs", str(JOBS)]
    command += ["--seconds-between-status-checks=1", "--slurm-init-seconds-before-status-checks=1"]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=clone,
        env={**cluster.environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout)
    return {
        "submissions": len(re.findall("submitted with SLURM jobid", done.stdout)),
        "seconds": round(time.perf_counter() - start, 1),
    }


def measure(folder: Path) -> dict[str, object]:
    """Run the workflow in both ways."""
    python = plugin_environment.make(folder / "environment")
    rows = {}
    with Cluster() as cluster:
        for way in ("bundled", "unbundled"):
            clone = folder / way
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            if way == "unbundled":
                without_bundles(clone / "profiles" / "slurm" / "config.yaml")
            rows[way] = run(clone, python, cluster)
    targets = list((clone / "results").glob("*/zero/targets/*.parquet"))
    return {"cores": os.cpu_count(), "jobs_at_a_time": JOBS, "targets": len(targets), **rows}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(Path(temporary)), indent=2))
