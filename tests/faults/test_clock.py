"""A clock that goes back: jobs may run once more, but no number is older than its configuration.

Snakemake compares modification times. That the clock went back by a day is made by moving the
times of all that is there a day ahead.
"""

import contextlib
import os

import pyarrow.parquet as pq
import pytest
from conftest import Workflow
from kill_at_random import kill, start, wait_for

pytestmark = pytest.mark.slow
DAY = 24 * 3600 * 10**9
WEIGHTS = "results/networks/digits-resnet18/seed0/model.safetensors"


@pytest.fixture
def ahead(finished):
    """A finished run of tomorrow."""
    for folder in ("results", "raw", ".snakemake"):
        for path in finished.path(folder).rglob("*"):
            time = path.stat().st_mtime_ns + DAY
            os.utime(path, ns=(time, time))
    return finished


def summary(workflow: Workflow):
    return pq.read_table(workflow.path("results/summary.parquet"))


def test_a_change_after_the_clock_went_back_reaches_the_summary_in_two_runs(ahead):
    ahead.config = {**ahead.config, "margin": 0.02}
    targets = [
        str(path.relative_to(ahead.folder))
        for path in ahead.path("results").glob("*/seed0/zero/targets/*.parquet")
    ]
    ahead.run(*targets)  # as if it was killed before aggregate
    ahead.run()
    assert set(summary(ahead)["margin"].to_pylist()) == {0.02}
    assert ahead.stale() == set()


def test_a_network_trained_after_the_clock_went_back_is_the_one_that_is_judged(ahead):
    before = ahead.path(WEIGHTS).read_bytes()
    config = ahead.config
    config["trainings"]["digits-resnet18"]["recipe"]["learning_rate"] = 0.02
    ahead.config = config
    ahead.run("networks")
    assert ahead.path(WEIGHTS).read_bytes() != before
    ahead.run()
    rows = summary(ahead).to_pylist()
    (value,) = (
        row["value"]
        for row in rows
        if (row["experiment"], row["target"], row["metric"], row["class"])
        == ("digits", "baseline", "accuracy", None)
    )
    history = ahead.path(WEIGHTS).with_name("training.parquet")
    tested = pq.read_table(history)["test"].to_pylist()[-1]
    assert value == pytest.approx(tested, abs=0.005)  # the batches differ
    assert ahead.stale() == set()


def test_what_a_killed_run_did_not_come_to_is_not_taken_for_newer(finished):
    finished.config = {**finished.config, "margin": 0.02}
    process = start(finished, ["--cores", "2", "--configfile", "test.yaml"])
    wait_for("evaluate", process)
    files = list(finished.path("results").glob("*/seed0/zero/targets/*.parquet"))

    def is_new(path):
        with contextlib.suppress(FileNotFoundError):  # it is about to be made
            return set(pq.read_table(path)["margin"].to_pylist()) == {0.02}
        return False

    def made_anew():
        return list(filter(is_new, files))

    while len(made_anew()) < 2:
        assert process.poll() is None
    kill(process)
    remade = made_anew()
    assert 2 <= len(remade) < len(files)
    for path in remade:  # the clock went back a day during the run
        time = path.stat().st_mtime_ns - DAY
        os.utime(path, ns=(time, time))
    oldest = min(path.stat().st_mtime for path in [*remade, finished.path("raw/images/s00.nii.gz")])
    assert finished.path("results/summary.parquet").stat().st_mtime < oldest
    finished.run()
    assert set(summary(finished)["margin"].to_pylist()) == {0.02}
    assert finished.stale() == set()


def test_a_clock_that_went_back_makes_nothing_stale_by_itself(ahead):
    assert ahead.stale() == set()
