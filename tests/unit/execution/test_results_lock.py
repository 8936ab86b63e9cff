"""A results folder has one run at a time, and no lock outlives its run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nontrivial.errors import UserError
from nontrivial.execution import results_lock

HOLD = """
import subprocess, sys, time
from pathlib import Path
from nontrivial.execution import results_lock
results_lock.acquire(Path(sys.argv[1]))
job = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(job.pid, flush=True)
time.sleep(60)
"""


def start_owner(results: Path) -> tuple[subprocess.Popen, int]:
    """Start a process that holds the lock and has a job; return both process IDs."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, results],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "workflow/scripts"},
        cwd=Path(__file__).parents[3],
        text=True,
    )
    return process, int(process.stdout.readline())


def test_a_second_run_names_the_process_that_uses_the_folder(tmp_path):
    process, job = start_owner(tmp_path / "results")
    try:
        with pytest.raises(UserError, match=rf"{tmp_path}.*process {process.pid} on .*since"):
            results_lock.acquire(tmp_path / "results")
        assert results_lock.acquire(tmp_path / "others")
    finally:
        process.kill()
        process.wait()
        os.kill(job, signal.SIGKILL)


def test_killed_run_leaves_no_lock_although_its_job_runs_on(tmp_path):
    process, job = start_owner(tmp_path)
    process.kill()
    process.wait()
    try:
        os.kill(job, 0)
        assert results_lock.acquire(tmp_path)
    finally:
        os.kill(job, signal.SIGKILL)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"results_dir: .*results cannot be written"):
        results_lock.acquire(tmp_path / "results")


@pytest.mark.parametrize("folder", [".", "..", "/", "sub/.."])
def test_folder_that_contains_more_than_results(folder):
    with pytest.raises(UserError, match=r"results_dir: .* contains the working folder"):
        results_lock.acquire(Path(folder))


def test_file_system_without_locks(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(results_lock.fcntl, "flock", no_locks)
    assert not results_lock.acquire(tmp_path)
