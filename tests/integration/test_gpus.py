"""Jobs of a real run share the GPUs of one host, here two that do not exist."""

import os
import re
import subprocess
import sys
import time

import psutil

PROGRAMS = ("train_network.py", "predict_targets.py", "predict_examples.py")


def devices_in_use(snakemake: psutil.Process) -> list[str]:
    """Return the device of each program that is running."""
    devices = []
    for process in snakemake.children(recursive=True):
        try:
            words = process.cmdline()
            if len(words) > 1 and words[1].endswith(PROGRAMS):
                devices.append(process.environ()["CUDA_VISIBLE_DEVICES"])
        except psutil.Error:  # it has just exited
            continue
    return devices


def test_two_jobs_use_two_gpus(finished, tmp_path):
    made = finished.path("results").glob("*/seed0/*/predictions/*.json")
    small = [path for path in made if path.stem != "layers"]
    for path in small:
        path.unlink()
    targets = [str(path.relative_to(finished.folder)) for path in small[:3]]
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", "test.yaml"]
    arguments = ["--cores", "8", "--resources", "gpu=3"]
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "out").open("w") as out:
        run = subprocess.Popen(
            [*command, *arguments],
            cwd=finished.folder,
            env={**os.environ, **environment},
            stdout=out,
            stderr=out,
        )
        seen = []
        while run.poll() is None:
            seen.append(devices_in_use(psutil.Process(run.pid)))
            time.sleep(0.05)
    assert run.returncode == 0, (tmp_path / "out").read_text()
    # Snakemake may start three, because of gpu=3. There are slots for two.
    assert max(map(len, seen)) == 2
    assert all(len(set(devices)) == len(devices) for devices in seen)
    assert {device for devices in seen for device in devices} == {"0", "1"}


def test_every_job_that_requests_a_gpu_runs_in_a_slot(finished_once):
    text = finished_once.snakemake("-n", "--printshellcmds", "--forceall").stdout
    blocks = [block for block in re.split(r"\n(?=\[)", text) if "gpu=1" in block]
    rules = {re.search(r"^rule (\w+):$", block, re.MULTILINE)[1] for block in blocks}
    assert rules == {"train", "predict", "predict_examples"}
    assert all("exec python workflow/scripts/run_on_gpu.py python " in block for block in blocks)
