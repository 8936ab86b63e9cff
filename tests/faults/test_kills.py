"""The whole workflow, killed at random moments, gives the results of an undisturbed run."""

import random

import pytest
from conftest import CONFIG, copy_workflow, write_volumes
from kill_at_random import CHECKPOINT_MINUTES, damaged, differences, killed

ARGUMENTS = ["--cores", "2", "--configfile", "test.yaml"]


@pytest.mark.slow
def test_a_killed_run_gives_the_results_of_an_undisturbed_one(finished_once, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the undisturbed run
    workflow = copy_workflow(tmp_path / "killed")
    workflow.config = {**CONFIG, "checkpoint_minutes": CHECKPOINT_MINUTES}
    write_volumes(workflow.path("raw"))
    records = list(killed(workflow, ARGUMENTS, 4, random.Random(0)))
    print(records)
    assert len(records) >= 3  # the run may finish before the last kill
    results = workflow.path("results")
    assert differences(results, finished_once.path("results")) == []
    assert damaged(results) == []
    assert [path for path in results.rglob(".*") if ".part" in path.name] == []
    assert workflow.stale() == set()
