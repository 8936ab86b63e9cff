"""A stop, or a disk without room, at the moment that suits a training least."""

import os
import signal
import subprocess
from contextlib import nullcontext
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from small_trainings import OWN, run, set_up, settings_of, table_of

import train_network
from nontrivial.errors import Interrupted, UserError
from nontrivial.execution.interruption import Interruption
from nontrivial.training import checkpoint, loop
from nontrivial.training.checkpoint import LAST, PREVIOUS

FACTORY = "own_networks:classifier"
SLOW_TO_BUILD = """

import os, signal


def stopped_while_built(classes, channels, size):
    if os.path.exists("stop"):
        os.kill(os.getpid(), signal.SIGTERM)
    return classifier(classes, channels, size)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with networks and data, and the kernel table of one of them."""
    folder = set_up(tmp_path, monkeypatch)
    (folder / "own_networks.py").write_text(OWN + SLOW_TO_BUILD)
    table_of(folder, "own", FACTORY)
    return folder


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, or the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"no disk of its own for the test: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Take all the room of a disk; return the file that does."""
    path = folder / "full"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return path


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()


def rows_of(folder):
    return pq.read_table(folder / "training.parquet").to_pylist()


def stopping(action):
    """Return a function that does what another does, and has SIGTERM come meanwhile."""

    def stopped(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)
        return action(*arguments, **keywords)

    return stopped


class StopsAt(Interruption):
    """Is as if SIGTERM came right before the look of that number, from 0."""

    def __init__(self, number, before=lambda: None):
        super().__init__()
        self.left = number
        self.before = before

    def check(self):
        if self.left == 0:
            self.before()
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


def stop(monkeypatch, interruption, *arguments, **keywords):
    with monkeypatch.context() as patched:
        patched.setattr(train_network, "noticed", lambda: nullcontext(interruption))
        run(*arguments, **keywords)


def test_while_the_network_is_built(place):
    settings = settings_of("own", "own_networks:stopped_while_built")
    weights = weights_of(run(place, settings))
    (place / "stop").touch()
    with pytest.raises(Interrupted, match="SIGTERM"):
        run(place, settings, out="stopped")
    assert os.listdir(place / "stopped") == [LAST]
    (place / "stop").unlink()
    assert weights_of(run(place, settings, out="stopped")) == weights


def test_while_a_checkpoint_is_written(place, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    with monkeypatch.context() as patched:
        write = stopping(checkpoint.tensor_file.write)
        patched.setattr(checkpoint.tensor_file, "write", write)
        with pytest.raises(Interrupted, match="SIGTERM"):
            run(place, settings, out="stopped", seconds=0)
    assert sorted(os.listdir(place / "stopped")) == [PREVIOUS, LAST]
    again = run(place, settings, out="stopped")
    assert weights_of(again) == weights
    assert [row["resumed"] for row in rows_of(again)] == [1, 1]


def test_while_the_result_is_written(place, monkeypatch):
    """Then there is nothing left to stop: the result is whole."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    monkeypatch.setattr(train_network.weights, "save", stopping(train_network.weights.save))
    again = run(place, settings, out="again")
    assert weights_of(again) == weights
    assert sorted(os.listdir(again)) == [
        ".kept",
        "model.json",
        "model.safetensors",
        "snapshots.safetensors",
        "training.parquet",
    ]


def test_time_and_pace_of_an_epoch_are_those_of_all_its_steps(place, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    settings = settings_of("own", FACTORY)
    wanted = rows_of(run(place, settings))
    with pytest.raises(Interrupted):
        stop(monkeypatch, StopsAt(0), place, settings, out="stopped")
    found = rows_of(run(place, settings, out="stopped"))
    for column in ("seconds", "samples_per_second"):
        assert [row[column] for row in found] == [row[column] for row in wanted]


def test_a_checkpoint_of_another_kind_of_device_is_refused(place, monkeypatch, caplog):
    settings = settings_of("own", FACTORY)
    with pytest.raises(Interrupted):
        stop(monkeypatch, StopsAt(2), place, settings)
    path = place / "out" / LAST
    content = path.read_bytes()
    words = rb"device type\":\""
    assert content.count(words + b"cpu") == 1
    path.write_bytes(content.replace(words + b"cpu", words + b"gpu"))
    rows = rows_of(run(place, settings))
    assert f"{LAST}: from other device type; ignored" in caplog.text
    assert rows[-1]["resumed"] == 0


def test_a_training_for_which_there_is_no_room_is_not_begun(place, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"out: 0 MiB are free.*free some space"):
        run(place, settings_of("own", FACTORY))
    assert os.listdir(place / "out") == []


def test_a_disk_that_is_full_at_the_end(place, disk, monkeypatch):
    """The result finds no room: what was trained is in the checkpoints."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    true_save = train_network.weights.save

    def save(*arguments):
        fill(disk)
        true_save(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(train_network.weights, "save", save)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run(place, settings, out=disk / "out", seconds=0)
    assert caught.value.filename == str(disk / "out" / "model.safetensors")
    assert sorted(os.listdir(disk / "out")) == [PREVIOUS, LAST]
    (disk / "full").unlink()
    again = run(place, settings, out=disk / "out")
    assert weights_of(again) == weights
    assert rows_of(again)[-1]["resumed"] == 1


def test_a_disk_that_is_full_at_the_stop(place, disk, monkeypatch):
    """The stop finds no room for its checkpoint: the last good one is as it was."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    out = disk / "out"
    with pytest.raises(Interrupted):
        stop(monkeypatch, StopsAt(0), place, settings, out=out)
    good = (out / LAST).read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        stop(monkeypatch, StopsAt(2, lambda: fill(disk)), place, settings, out=out)
    assert os.listdir(out) == [LAST]
    assert (out / LAST).read_bytes() == good
    (disk / "full").unlink()
    assert weights_of(run(place, settings, out=out)) == weights


def test_a_disk_that_became_read_only(place, disk, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    out = disk / "out"
    with pytest.raises(Interrupted):
        stop(monkeypatch, StopsAt(3), place, settings, out=out)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        run(place, settings, out=out)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    again = run(place, settings, out=out)
    assert weights_of(again) == weights
    assert rows_of(again)[-1]["resumed"] == 1


def test_a_folder_that_is_a_link(place, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(place, settings))
    (place / "elsewhere").mkdir()
    (place / "link").symlink_to("elsewhere")
    with pytest.raises(Interrupted):
        stop(monkeypatch, StopsAt(2), place, settings, out="link")
    assert os.listdir(place / "elsewhere") == [LAST]
    assert weights_of(run(place, settings, out="link")) == weights
    assert (place / "link").is_symlink()
