"""A real workflow that is interrupted during its trainings and run again."""

import copy
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import CONFIG, copy_workflow, write_volumes

from nontrivial.formats.canonical import file_digest

EPOCHS = {"digits-resnet18": 3, "t1-pspnet": 2}
DEADLINE = 600  # seconds that any step may take on a busy host


def prepared(folder):
    workflow = copy_workflow(folder)
    config = copy.deepcopy(CONFIG)
    for name, epochs in EPOCHS.items():
        config["trainings"][name]["recipe"]["epochs"] = epochs
    workflow.config = config
    write_volumes(workflow.path("raw"))
    return workflow


def start(workflow, training):
    line = [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", "--cores", "1"]
    return subprocess.Popen(
        [*line, model(training)],
        cwd=workflow.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C to the tests is not one to it
    )


def model(training):
    return f"results/networks/{training}/seed0/model.safetensors"


def wait_until(condition, process, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


def trainings(process):
    """Return the training processes below one of Snakemake."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("train_network.py" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the digests of the weights of uninterrupted trainings, by name."""
    workflow = prepared(tmp_path_factory.mktemp("undisturbed") / "workflow")
    workflow.run("networks")
    return {name: file_digest(workflow.path(model(name))) for name in EPOCHS}


def to_snakemake(process):
    process.send_signal(signal.SIGTERM)


def to_its_group(process):
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C


def as_a_closed_terminal(process):
    os.killpg(process.pid, signal.SIGHUP)


def to_the_job(process):
    # The shell of the job replaces itself with the training (exec).
    (training,) = trainings(process)
    assert training.ppid() == process.pid
    training.terminate()


@pytest.mark.parametrize(
    ("training", "interrupt"),
    [
        ("digits-resnet18", to_snakemake),
        ("t1-pspnet", to_snakemake),
        ("digits-resnet18", to_its_group),
        ("digits-resnet18", as_a_closed_terminal),
        ("t1-pspnet", to_the_job),
    ],
)
def test_an_interrupted_training_gives_the_same_weights(tmp_path, undisturbed, training, interrupt):
    workflow = prepared(tmp_path / "workflow")
    log = workflow.path(f"results/logs/train/{training}-seed0.log")
    process = start(workflow, training)
    wait_until(lambda: log.exists() and "epoch 1/" in log.read_text(), process, "an epoch")
    interrupt(process)
    _, printed = process.communicate(timeout=DEADLINE)
    assert process.returncode != 0
    assert "; run the same command to resume" in log.read_text()
    assert "Traceback" not in printed
    left = sorted(os.listdir(workflow.path(model(training)).parent))
    assert left == ["checkpoint.safetensors"]

    workflow.run(model(training))
    assert re.search(
        r"resumed from a checkpoint after step \d+ of \d+ of epoch [123]", log.read_text()
    )
    assert file_digest(workflow.path(model(training))) == undisturbed[training]
    left = sorted(os.listdir(workflow.path(model(training)).parent))
    assert left == [
        ".kept",
        "model.json",
        "model.safetensors",
        "snapshots.safetensors",
        "training.parquet",
    ]


def test_another_checkpoint_interval_makes_nothing_stale(finished):
    config = finished.config
    config["checkpoint_minutes"] = 3
    finished.config = config
    assert finished.stale() == set()
