"""Two runs started at once: in one results folder one of them runs, in two folders both do."""

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
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "test.yaml"]
    return subprocess.Popen(
        [*line, *arguments],
        cwd=workflow.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stale_by_a_margin(workflow):
    workflow.config = {**workflow.config, "margin": OTHER_MARGIN}
    return workflow


def test_in_one_folder_one_runs_and_the_other_is_told_so(finished):
    workflow = stale_by_a_margin(finished)
    runs = [start(workflow), start(workflow)]
    said = {run: run.communicate()[0] for run in runs}
    refused, worked = sorted(runs, key=lambda run: run.returncode == 0)
    assert worked.returncode == 0, said[worked]
    assert refused.returncode != 0
    # By whom, is unknown in the moment before the other has written it down.
    assert "results_dir: another run works in results (" in said[refused]
    assert "Traceback" not in said[refused]
    summary = pq.read_table(workflow.path(f"results/{SUMMARY}"))
    assert set(summary["margin"].to_pylist()) == {OTHER_MARGIN}
    assert damaged(workflow.path("results")) == []
    assert workflow.stale() == set()


def test_a_run_comes_through_while_others_are_refused_again_and_again(finished):
    workflow = stale_by_a_margin(finished)
    run = start(workflow)
    lock = workflow.path("results/.lock")
    while str(run.pid) not in (lock.read_text() if lock.exists() else ""):
        time.sleep(0.05)
    others = []
    while run.poll() is None and len(others) < 3:
        other = start(workflow)
        told, _ = other.communicate()
        others.append((other.returncode, told))
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert others
    for status, told in others[:-1]:  # the last may have come after the end
        assert status != 0
        assert f"process {run.pid} on " in told
    assert workflow.stale() == set()


def test_in_two_folders_both_run(finished):
    before = pq.read_table(finished.path(f"results/{SUMMARY}"))
    subprocess.run(["cp", "-a", "results", "others"], cwd=finished.folder, check=True)
    finished.path(f"others/{SUMMARY}").unlink()
    workflow = stale_by_a_margin(finished)
    runs = [start(workflow), start(workflow, "--config", "results_dir=others", "margin=0.01")]
    for run in runs:
        said, _ = run.communicate()
        assert run.returncode == 0, said
    for folder, margin in (("results", OTHER_MARGIN), ("others", 0.01)):
        assert damaged(workflow.path(folder)) == []
        summary = pq.read_table(workflow.path(f"{folder}/{SUMMARY}"))
        assert set(summary["margin"].to_pylist()) == {margin}
        assert summary["value"].equals(before["value"])
