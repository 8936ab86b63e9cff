"""A training that was stopped ends as one that was not."""

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
# Looks at whether a signal came: after each of 2 steps of 2 epochs, 1 batch of val and of test.
CHECKS = 2 * (2 + 1) + 1
OF_THE_CLOCK = {"seconds", "samples_per_second"}

TASKS = {
    "classification": ("own_networks:classifier", 0),
    "segmentation": ("own_networks:segmenter", 0.5),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


class StopsAt(Interruption):
    """Is as if SIGTERM came right before the look of that number, from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def check(self):
        if self.left == 0:
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


@pytest.fixture
def stopped_at(monkeypatch):
    """A function that runs a training which is stopped at a look."""

    def stopped(number, *arguments, **keywords):
        with monkeypatch.context() as patched:
            patched.setattr(train_network, "noticed", lambda: nullcontext(StopsAt(number)))
            with pytest.raises(Interrupted):
                run(*arguments, **keywords)

    return stopped


def result(folder):
    """Return the bytes of weights and snapshots, and the table without times."""
    rows = pq.read_table(folder / "training.parquet").to_pylist()
    for row in rows:
        for key in OF_THE_CLOCK:
            del row[key]
    names = ("model.safetensors", "snapshots.safetensors")
    return [(folder / name).read_bytes() for name in names], rows


def without_counts(rows):
    return [{key: value for key, value in row.items() if key != "resumed"} for row in rows]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopped_anywhere_it_ends_with_the_same_bytes(place, stopped_at, task, precision):
    factory, dice_weight = TASKS[task]
    table_of(place, "own", factory)
    settings = settings_of("own", factory, dice_weight=dice_weight, precision=precision)
    weights, rows = result(run(place, settings, task))
    for look in range(CHECKS):
        out = f"stopped{look}"
        stopped_at(look, place, settings, task, out=out)
        assert sorted(os.listdir(place / out)) == [LAST]
        weights_after, rows_after = result(run(place, settings, task, out=out))
        assert weights_after == weights
        assert without_counts(rows_after) == without_counts(rows)
        assert rows_after[-1]["resumed"] == (look < CHECKS - 1)  # the last is in the test score
        assert not {LAST, PREVIOUS} & set(os.listdir(place / out))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        stopped_at(CHECKS, place, settings, task, out="through")  # there is no look more


@pytest.mark.parametrize("task", TASKS)
def test_stopped_at_every_step(place, stopped_at, task):
    factory, dice_weight = TASKS[task]
    table_of(place, "own", factory)
    settings = settings_of("own", factory, dice_weight=dice_weight)
    weights, _ = result(run(place, settings, task))
    for look in (0, 0, 1, 0):  # a step and a stop; once with the validation before it
        stopped_at(look, place, settings, task, out="stopped")
    weights_after, rows_after = result(run(place, settings, task, out="stopped"))
    assert weights_after == weights
    assert [row["resumed"] for row in rows_after] == [2, 4]


def test_killed_between_checkpoints(place, monkeypatch):
    """What came after the last checkpoint is trained again, to the same bytes."""
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(place, settings))
    looks = iter(range(100))

    class Killed(BaseException):
        pass

    def check(_self):
        if next(looks) == 4:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "check", check)
        with pytest.raises(Killed):
            run(place, settings, out="killed", seconds=0)  # a checkpoint after each step
    assert sorted(os.listdir(place / "killed")) == [PREVIOUS, LAST]
    (place / "killed" / LAST).write_bytes((place / "killed" / LAST).read_bytes()[:-100])
    assert result(run(place, settings, out="killed"))[0] == weights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "edited"}, "from other code; ignored"),
        ({"seed": 1}, "from other seed; ignored"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(place, stopped_at, change, words, caplog):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(2, place, settings)
    _, rows = result(run(place, settings, **change))
    assert words in caplog.text
    assert rows[-1]["resumed"] == 0


def test_a_checkpoint_of_another_recipe_or_other_data_is_refused(place, stopped_at, caplog):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(2, place, settings)
    path = place / "classification" / "dataset.json"
    content = json.loads(path.read_text())
    content["sha256"]["more"] = "other"
    del content["digest"]
    path.write_text(json.dumps(content))
    run(place, settings_of("own", "own_networks:classifier", learning_rate=0.03))
    assert "from other configuration and data; ignored" in caplog.text


def test_a_checkpoint_begun_on_another_processor_is_told(place, stopped_at, monkeypatch, caplog):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(4, place, settings)
    monkeypatch.setattr("nontrivial.training.loop.describe", lambda device: "another (1 core)")
    monkeypatch.setattr("train_network.devices.describe", lambda device: "another (1 core)")
    _, rows = result(run(place, settings))
    assert "resumed with another (1 core): the weights may differ" in caplog.text
    assert rows[-1]["device"] == "another (1 core)" != rows[0]["device"]


def test_other_versions_are_told(place, stopped_at, monkeypatch, caplog):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(4, place, settings)
    monkeypatch.setattr("train_network.devices.versions", lambda: {"torch": "9.9"})
    run(place, settings)
    assert "resumed with {'torch': '9.9'}: the weights may differ" in caplog.text


def test_a_full_disk_when_stopped_leaves_the_last_good_one(place, stopped_at, monkeypatch):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(place, settings))
    stopped_at(1, place, settings, out="full")
    before = (place / "full" / LAST).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("nontrivial.training.checkpoint.tensor_file.write", full)
        patched.setattr(train_network, "noticed", lambda: nullcontext(StopsAt(2)))
        with pytest.raises(OSError, match="No space left") as caught:
            run(place, settings, out="full")
    assert caught.value.filename == str(place / "full" / LAST)
    assert (place / "full" / LAST).read_bytes() == before
    assert os.listdir(place / "full") == [LAST]
    assert result(run(place, settings, out="full"))[0] == weights


def test_the_size_of_a_checkpoint_is_known_beforehand(place, stopped_at, monkeypatch):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    looked_at = []
    true = Checkpoints.refuse_small_disk
    monkeypatch.setattr(
        Checkpoints,
        "refuse_small_disk",
        lambda self, size: (looked_at.append(size), true(self, size)),
    )
    stopped_at(5, place, settings)  # after an epoch, with its snapshot
    rest = 30_000  # RNG states and header
    assert looked_at[0] < (place / "out" / LAST).stat().st_size < looked_at[0] + rest


def test_states_of_chance_are_of_one_kind_of_device(place, stopped_at):
    table_of(place, "own", "own_networks:classifier")
    stopped_at(2, place, settings_of("own", "own_networks:classifier"))
    with safe_open(place / "out" / LAST, framework="pt") as file:
        metadata = json.loads(file.metadata()["nontrivial"])
    assert metadata["origin"]["device type"] == "cpu"  # a checkpoint of another is refused


def test_buffers_that_are_not_saved_with_the_network_are_in_a_checkpoint(place, stopped_at):
    table_of(place, "own", "own_networks:unsaved")
    settings = settings_of("own", "own_networks:unsaved")
    weights, _ = result(run(place, settings))
    stopped_at(1, place, settings, out="stopped")
    assert result(run(place, settings, out="stopped"))[0] == weights


def test_a_checkpoint_of_a_network_that_became_another(place, stopped_at):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(2, place, settings)
    own = place / "own_networks.py"
    own.write_text(own.read_text().replace("nn.BatchNorm2d(4)", "nn.BatchNorm2d(4, affine=False)"))
    sys.modules.pop("own_networks")
    with pytest.raises(
        UserError, match=r"out: the checkpoint does not fit.*delete the checkpoints"
    ):
        run(place, settings)
    assert os.listdir(place / "out") == [LAST]


def test_seconds_go_on(place, stopped_at):
    """An epoch's seconds are those of its steps, before and after a stop, and nothing else."""
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    stopped_at(1, place, settings)
    spent = Checkpoints(place / "out", {}, 60).latest().values["seconds"]
    run(place, settings)
    (first, _) = pq.read_table(place / "out" / "training.parquet").to_pylist()
    assert 0 < spent < first["seconds"]
    assert first["samples_per_second"] == pytest.approx(16 / first["seconds"])


def test_a_full_disk_does_not_stop_a_training(place, monkeypatch, caplog):
    """A checkpoint that finds no room is told; the training goes on."""
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    weights, _ = result(run(place, settings))

    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(train_network.Checkpoints, "save", full)
    assert result(run(place, settings, out="full", seconds=0))[0] == weights
    assert "no checkpoint: No space left on device: somewhere" in caplog.text


def start(folder, settings, out):
    line = [sys.executable, str(PROGRAM), *arguments_of(folder, settings, out)]
    line += ["--log", f"{out}.log"]
    return subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(path, text, process):
    """Wait until a log holds a text."""
    for _ in range(600):
        if path.exists() and text in path.read_text():
            return
        assert process.poll() is None, path.read_text() if path.exists() else "no log"
        time.sleep(0.1)
    raise AssertionError(f"{text!r} did not come: {path.read_text()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_process(place, number):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=4000)
    process = start(place, settings, "out")
    wait_for(place / "out.log", "epoch 3/4000", process)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "; run the same command to resume" in told
    assert told.endswith(f"interrupted by {number.name}\n")
    assert "Traceback" not in told
    assert os.listdir(place / "out") == [LAST]
    again = start(place, settings, "out")
    wait_for(place / "out.log", "resumed from a checkpoint after", again)
    again.kill()
    again.communicate()


def test_random_states_come_back():
    def draw():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.random(),
            np.random.standard_normal(),
            torch.rand(3).tolist(),
        )

    random.gauss(0, 1)  # one more of the pair is then kept
    np.random.standard_normal()
    tensors, values = random_state.capture(CPU)
    values = json.loads(json.dumps(values))
    first = draw(), draw()
    random_state.restore(tensors, values, CPU)
    assert (draw(), draw()) == first
