"""Runs started at once: one of them runs in each results folder, the others are refused."""

import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from whole_files import damaged

pytestmark = pytest.mark.slow
SUMMARY = "summary.parquet"
OTHER_MARGIN = 0.02  # makes every target stale, and no network


def start(workflow, *arguments):
    line = [sys.executable, "-m", "snakemake", "summary", "--cores", "2"]
    return subprocess.Popen(
        [*line, "--configfile", "test.yaml", *arguments],
        cwd=workflow.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_one_run_per_results_folder(finished):
    before = pq.read_table(finished.path(f"results/{SUMMARY}"))
    subprocess.run(["cp", "-a", "results", "others"], cwd=finished.folder, check=True)
    finished.path(f"others/{SUMMARY}").unlink()
    finished.config = {**finished.config, "margin": OTHER_MARGIN}
    elsewhere = start(finished, "--config", "results_dir=others", "margin=0.01")
    runs = [start(finished), start(finished)]
    while all(run.poll() is None for run in runs):
        time.sleep(0.05)
    refused, worked = sorted(runs, key=lambda run: run.poll() is None)
    late = start(finished)
    for run in (refused, late):
        printed, _ = run.communicate()
        assert run.returncode != 0, printed
        # The process is unknown until the other run has written its ID.
        assert "results_dir: another run uses results (" in printed
        assert "Traceback" not in printed
    assert f"process {worked.pid} on " in printed
    for run in (worked, elsewhere):
        printed, _ = run.communicate()
        assert run.returncode == 0, printed
    for folder, margin in (("results", OTHER_MARGIN), ("others", 0.01)):
        assert damaged(finished.path(folder)) == []
        summary = pq.read_table(finished.path(f"{folder}/{SUMMARY}"))
        assert set(summary["margin"].to_pylist()) == {margin}
        assert summary["value"].equals(before["value"])
    finished.run("summary")
    assert finished.stale("summary") == set()
