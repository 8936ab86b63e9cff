"""Two jobs never share a GPU, and a job releases its GPU however it ends."""

import itertools
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nontrivial.errors import UserError
from nontrivial.execution import gpu_slots

WRAPPER = Path(__file__).parents[3] / "workflow" / "scripts" / "run_on_gpu.py"
GPUS = [["GPU-aa-11"], ["MIG-cc", "MIG-dd"], ["GPU-bb-22"]]
LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa-11)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb-22)
  MIG 1g.10gb     Device  0: (UUID: MIG-cc)
  MIG 1g.10gb     Device  1: (UUID: MIG-dd)
"""
# Prints its device and the times between which it had it, then exits in the given way.
JOB = """
import os, signal, sys, time
device = os.environ.get("CUDA_VISIBLE_DEVICES")
print("start", device, time.monotonic(), flush=True)
time.sleep(float(sys.argv[1]))
print("end", device, time.monotonic(), flush=True)
if sys.argv[2] == "error": sys.exit(3)
if sys.argv[2] == "exception": raise RuntimeError
if sys.argv[2] == "killed": os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "crash": os.abort()
"""
START = "import subprocess, sys; subprocess.run(sys.argv[1:])"


def start(folder: Path, seconds: float, way: str, **environment: str) -> subprocess.Popen:
    """Start a job through the wrapper, by default with two devices that do not exist."""
    return subprocess.Popen(
        [sys.executable, WRAPPER, sys.executable, "-c", JOB, str(seconds), way],
        env={**os.environ, "TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": "0,1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jobs_with_one_device_do_not_overlap_however_they_end(tmp_path):
    ways = ["well", "error", "exception", "killed", "crash", "well", "killed", "error"]
    jobs = [start(tmp_path, 0.3, way) for way in ways]
    used: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        lines = [line.split() for line in job.communicate(timeout=60)[0].splitlines()]
        (_, device, started), (_, _, ended) = lines
        used.setdefault(device, []).append((float(started), float(ended)))
    assert set(used) == {"0", "1"}
    for times in used.values():
        times.sort()
        assert all(end <= started for (_, end), (started, _) in itertools.pairwise(times))
    codes = {way: job.returncode for way, job in zip(ways, jobs, strict=True)}
    assert codes == {"well": 0, "error": 3, "exception": 1, "killed": -9, "crash": -6}


def test_waiting_job_says_so_and_can_be_interrupted(tmp_path):
    first = start(tmp_path, 30, "well", CUDA_VISIBLE_DEVICES="0")
    assert first.stdout.readline().startswith("start 0")
    second = start(tmp_path, 0, "well", CUDA_VISIBLE_DEVICES="0")
    assert "waiting for a GPU" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    assert second.wait(10) == -signal.SIGINT
    assert second.stderr.read() == ""
    first.kill()
    first.wait()
    third = start(tmp_path, 0, "well", CUDA_VISIBLE_DEVICES="0")
    assert third.communicate(timeout=20)[0].startswith("start 0")


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_no_device_no_slot(tmp_path, hidden):
    job = start(tmp_path, 0, "well", CUDA_VISIBLE_DEVICES=hidden)
    assert f"start {hidden}".strip() in job.communicate(timeout=20)[0]
    assert not (tmp_path / "nontrivial-gpus").exists()


def test_jobs_of_two_allocations_share_no_locks(tmp_path):
    first = start(tmp_path, 30, "well", CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="1")
    first.stdout.readline()
    second = start(tmp_path, 0, "well", CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="2")
    assert second.communicate(timeout=20)[0].startswith("start 0")
    first.kill()
    first.wait()


def test_job_is_terminated_when_its_parent_is_killed(tmp_path):
    starter = subprocess.Popen(
        [sys.executable, "-c", START, sys.executable, WRAPPER, sys.executable, "-c", JOB, "60", ""],
        env={**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout.readline().startswith("start 0")
    starter.kill()
    starter.wait()
    assert starter.stdout.read() == ""  # at its end, although the job would run for a minute
    after = start(tmp_path, 0, "well", CUDA_VISIBLE_DEVICES="0")
    assert after.communicate(timeout=20)[0].startswith("start 0")


def test_exit_status_and_arguments_are_those_of_the_program(tmp_path):
    echo = [sys.executable, WRAPPER, "printf", "%s|", "a b", "$HOME", "--", "'"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(echo, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$HOME|--|'|"
    missing = [sys.executable, WRAPPER, "no-such-program"]
    failed = subprocess.run(missing, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr == "error: no-such-program: No such file or directory\n"


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot lock a GPU: Not a directory"):
        gpu_slots.acquire(["0"], tmp_path / "file" / "gpus", lambda: None)


def test_locks_can_be_used_by_every_user(tmp_path):
    os.close(gpu_slots.acquire(["0"], tmp_path / "gpus", lambda: None)[1])
    assert stat.S_IMODE((tmp_path / "gpus").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "gpus" / "0").stat().st_mode) == 0o644


def test_free_devices_are_acquired_at_once(tmp_path):
    device, slot = gpu_slots.acquire(["0", "1"], tmp_path, lambda: pytest.fail("waited"))
    other, second = gpu_slots.acquire(["0", "1"], tmp_path, lambda: pytest.fail("waited"))
    assert {device, other} == {"0", "1"}
    os.close(slot)
    os.close(second)


def test_divided_gpus_count_by_their_parts():
    assert gpu_slots._uuids(LISTING) == [["GPU-aa-11"], ["MIG-cc", "MIG-dd"]]
    assert gpu_slots._uuids("NVIDIA-SMI has failed") == []


@pytest.mark.parametrize(
    ("given_devices", "expected"),
    [
        (None, ["GPU-aa-11", "MIG-cc", "MIG-dd", "GPU-bb-22"]),
        ("2", ["GPU-bb-22"]),
        ("2, 0", ["GPU-bb-22", "GPU-aa-11"]),
        ("1", ["MIG-cc", "MIG-dd"]),
        ("0,GPU-aa-11", ["GPU-aa-11"]),
        ("0,-1,1", ["GPU-aa-11"]),
        ("MIG-cc", ["MIG-cc"]),
        ("7", ["7"]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_restriction_by_the_environment(given_devices, expected):
    environment = {} if given_devices is None else {"CUDA_VISIBLE_DEVICES": given_devices}
    assert gpu_slots.visible(environment, GPUS) == expected
