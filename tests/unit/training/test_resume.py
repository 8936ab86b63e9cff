"""A training that was interrupted gives the same result as one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from small_trainings import PROGRAM, arguments_of, run, set_up, settings_of, table_of

import train_network
from nontrivial.errors import Interrupted, UserError
from nontrivial.execution.interruption import Interruption
from nontrivial.training import random_state
from nontrivial.training.checkpoint import LAST, PREVIOUS, Checkpoints

CPU = torch.device("cpu")
# Checks for a signal: after each of 2 steps of 2 epochs, 1 batch of val and of test.
CHECKS = 2 * (2 + 1) + 1
TIMES = {"seconds", "samples_per_second"}

TASKS = {
    "classification": ("own_networks:classifier", 0),
    "segmentation": ("own_networks:segmenter", 0.5),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


class InterruptsAt(Interruption):
    """Acts as if SIGTERM arrived just before the check of that number, from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def check(self):
        if self.left == 0:
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


@pytest.fixture
def interrupted_at(monkeypatch):
    """Return a function that runs a training and interrupts it at a check for signals."""

    def interrupted(number, *arguments, **keywords):
        with monkeypatch.context() as patched:
            patched.setattr(train_network, "noticed", lambda: nullcontext(InterruptsAt(number)))
            with pytest.raises(Interrupted):
                run(*arguments, **keywords)

    return interrupted


def result(folder):
    """Return the bytes of weights and snapshots, and the table without times."""
    rows = pq.read_table(folder / "training.parquet").to_pylist()
    for row in rows:
        for key in TIMES:
            del row[key]
    names = ("model.safetensors", "snapshots.safetensors")
    return [(folder / name).read_bytes() for name in names], rows


def without_counts(rows):
    return [{key: value for key, value in row.items() if key != "resumed"} for row in rows]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_interrupted_at_any_check_it_gives_the_same_bytes(folder, interrupted_at, task, precision):
    factory, dice_weight = TASKS[task]
    table_of(folder, "own", factory)
    settings = settings_of("own", factory, dice_weight=dice_weight, precision=precision)
    weights, rows = result(run(folder, settings, task))
    for check in range(CHECKS):
        out = f"interrupted{check}"
        interrupted_at(check, folder, settings, task, out=out)
        assert sorted(os.listdir(folder / out)) == [LAST]
        weights_after, rows_after = result(run(folder, settings, task, out=out))
        assert weights_after == weights
        assert without_counts(rows_after) == without_counts(rows)
        assert rows_after[-1]["resumed"] == (check < CHECKS - 1)  # the last is in the test score
        assert not {LAST, PREVIOUS} & set(os.listdir(folder / out))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        interrupted_at(CHECKS, folder, settings, task, out="through")  # there are no more checks


@pytest.mark.parametrize("task", TASKS)
def test_interrupted_at_every_step(folder, interrupted_at, task):
    factory, dice_weight = TASKS[task]
    table_of(folder, "own", factory)
    settings = settings_of("own", factory, dice_weight=dice_weight)
    weights, _ = result(run(folder, settings, task))
    for check in (0, 0, 1, 0):  # interrupted after one step; once in the validation before it
        interrupted_at(check, folder, settings, task, out="interrupted")
    weights_after, rows_after = result(run(folder, settings, task, out="interrupted"))
    assert weights_after == weights
    assert [row["resumed"] for row in rows_after] == [2, 4]


def test_killed_between_checkpoints(folder, monkeypatch):
    """The steps after the last checkpoint are trained again and give the same bytes."""
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(folder, settings))
    checks = iter(range(100))

    class Killed(BaseException):
        pass

    def check(_self):
        if next(checks) == 4:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "check", check)
        with pytest.raises(Killed):
            run(folder, settings, out="killed", seconds=0)  # a checkpoint after each step
    assert sorted(os.listdir(folder / "killed")) == [PREVIOUS, LAST]
    (folder / "killed" / LAST).write_bytes((folder / "killed" / LAST).read_bytes()[:-100])
    assert result(run(folder, settings, out="killed"))[0] == weights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "edited"}, "from other code; ignored"),
        ({"seed": 1}, "from other seed; ignored"),
    ],
)
def test_a_checkpoint_of_other_code_or_another_seed_is_ignored(
    folder, interrupted_at, change, words, caplog
):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(2, folder, settings)
    _, rows = result(run(folder, settings, **change))
    assert words in caplog.text
    assert rows[-1]["resumed"] == 0


def test_a_checkpoint_of_another_recipe_or_other_data_is_ignored(folder, interrupted_at, caplog):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(2, folder, settings)
    path = folder / "classification" / "dataset.json"
    content = json.loads(path.read_text())
    content["sha256"]["more"] = "other"
    del content["digest"]
    path.write_text(json.dumps(content))
    run(folder, settings_of("own", "own_networks:classifier", learning_rate=0.03))
    assert "from other configuration and data; ignored" in caplog.text


def test_resuming_on_another_device_logs_a_warning(folder, interrupted_at, monkeypatch, caplog):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(4, folder, settings)
    monkeypatch.setattr("nontrivial.training.loop.describe", lambda device: "another (1 core)")
    monkeypatch.setattr("train_network.devices.describe", lambda device: "another (1 core)")
    _, rows = result(run(folder, settings))
    assert "resumed with another (1 core): the weights may differ" in caplog.text
    assert rows[-1]["device"] == "another (1 core)" != rows[0]["device"]


def test_resuming_with_other_versions_logs_a_warning(folder, interrupted_at, monkeypatch, caplog):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(4, folder, settings)
    monkeypatch.setattr("train_network.devices.versions", lambda: {"torch": "9.9"})
    run(folder, settings)
    assert "resumed with {'torch': '9.9'}: the weights may differ" in caplog.text


def test_a_full_disk_at_the_interruption_leaves_the_last_checkpoint(
    folder, interrupted_at, monkeypatch
):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(folder, settings))
    interrupted_at(1, folder, settings, out="full")
    before = (folder / "full" / LAST).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("nontrivial.training.checkpoint.tensor_file.write", full)
        patched.setattr(train_network, "noticed", lambda: nullcontext(InterruptsAt(2)))
        with pytest.raises(OSError, match="No space left") as caught:
            run(folder, settings, out="full")
    assert caught.value.filename == str(folder / "full" / LAST)
    assert (folder / "full" / LAST).read_bytes() == before
    assert os.listdir(folder / "full") == [LAST]
    assert result(run(folder, settings, out="full"))[0] == weights


def test_the_size_of_a_checkpoint_is_estimated_before_training(folder, interrupted_at, monkeypatch):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    estimates = []
    true = Checkpoints.refuse_small_disk
    monkeypatch.setattr(
        Checkpoints,
        "refuse_small_disk",
        lambda self, size: (estimates.append(size), true(self, size)),
    )
    interrupted_at(5, folder, settings)  # after an epoch, with its snapshot
    rest = 30_000  # RNG states and header
    assert estimates[0] < (folder / "out" / LAST).stat().st_size < estimates[0] + rest


def test_a_checkpoint_records_the_type_of_its_device(folder, interrupted_at):
    table_of(folder, "own", "own_networks:classifier")
    interrupted_at(2, folder, settings_of("own", "own_networks:classifier"))
    with safe_open(folder / "out" / LAST, framework="pt") as file:
        metadata = json.loads(file.metadata()["nontrivial"])
    assert metadata["origin"]["device type"] == "cpu"  # RNG states fit one type only


def test_a_checkpoint_has_buffers_that_are_not_in_the_state_dict(folder, interrupted_at):
    table_of(folder, "own", "own_networks:unsaved")
    settings = settings_of("own", "own_networks:unsaved")
    weights, _ = result(run(folder, settings))
    interrupted_at(1, folder, settings, out="interrupted")
    assert result(run(folder, settings, out="interrupted"))[0] == weights


def test_a_checkpoint_that_does_not_fit_an_edited_network(folder, interrupted_at):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(2, folder, settings)
    own = folder / "own_networks.py"
    own.write_text(own.read_text().replace("nn.BatchNorm2d(4)", "nn.BatchNorm2d(4, affine=False)"))
    sys.modules.pop("own_networks")
    with pytest.raises(
        UserError, match=r"out: the checkpoint does not fit.*delete the checkpoints"
    ):
        run(folder, settings)
    assert os.listdir(folder / "out") == [LAST]


def test_seconds_of_an_interrupted_epoch_are_added(folder, interrupted_at):
    """An epoch's seconds are those of its steps, before and after an interruption."""
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    interrupted_at(1, folder, settings)
    spent = Checkpoints(folder / "out", {}, 60).latest().values["seconds"]
    run(folder, settings)
    (first, _) = pq.read_table(folder / "out" / "training.parquet").to_pylist()
    assert 0 < spent < first["seconds"]
    assert first["samples_per_second"] == pytest.approx(16 / first["seconds"])


def test_a_training_continues_when_the_disk_is_full(folder, monkeypatch, caplog):
    """The log says that no checkpoint was written."""
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(folder, settings))

    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(train_network.Checkpoints, "save", full)
    assert result(run(folder, settings, out="full", seconds=0))[0] == weights
    assert "no checkpoint: No space left on device: somewhere" in caplog.text


def start(folder, settings, out):
    line = [sys.executable, str(PROGRAM), *arguments_of(folder, settings, out)]
    line += ["--log", f"{out}.log"]
    return subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(path, text, process):
    """Wait until a log contains a text."""
    for _ in range(600):
        if path.exists() and text in path.read_text():
            return
        assert process.poll() is None, path.read_text() if path.exists() else "no log"
        time.sleep(0.1)
    raise AssertionError(f"{text!r} is not in the log: {path.read_text()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_process(folder, number):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=4000)
    process = start(folder, settings, "out")
    wait_for(folder / "out.log", "epoch 3/4000", process)
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "; run the same command to resume" in printed
    assert printed.endswith(f"interrupted by {number.name}\n")
    assert "Traceback" not in printed
    assert os.listdir(folder / "out") == [LAST]
    again = start(folder, settings, "out")
    wait_for(folder / "out.log", "resumed from a checkpoint after", again)
    again.kill()
    again.communicate()


def test_rng_states_are_restored():
    def draw():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.random(),
            np.random.standard_normal(),
            torch.rand(3).tolist(),
        )

    random.gauss(0, 1)  # draws a pair and keeps the other value
    np.random.standard_normal()
    tensors, values = random_state.capture(CPU)
    values = json.loads(json.dumps(values))
    first = draw(), draw()
    random_state.restore(tensors, values, CPU)
    assert (draw(), draw()) == first
