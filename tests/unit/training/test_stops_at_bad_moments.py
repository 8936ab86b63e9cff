"""Signals and full disks at the worst moments of a training."""

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


def interrupted_while_built(classes, channels, size):
    if os.path.exists("stop"):
        os.kill(os.getpid(), signal.SIGTERM)
    return classifier(classes, channels, size)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with networks, data and the kernel table of one network."""
    folder = set_up(tmp_path, monkeypatch)
    (folder / "own_networks.py").write_text(OWN + SLOW_TO_BUILD)
    table_of(folder, "own", FACTORY)
    return folder


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk, or skip the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Fill a disk; return the file that fills it."""
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


def after_sigterm(action):
    """Return a function that calls another after it has sent SIGTERM to this process."""

    def called(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)
        return action(*arguments, **keywords)

    return called


class InterruptsAt(Interruption):
    """Acts as if SIGTERM arrived just before the check of that number, from 0."""

    def __init__(self, number, before=lambda: None):
        super().__init__()
        self.left = number
        self.before = before

    def check(self):
        if self.left == 0:
            self.before()
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


def interrupt(monkeypatch, interruption, *arguments, **keywords):
    with monkeypatch.context() as patched:
        patched.setattr(train_network, "noticed", lambda: nullcontext(interruption))
        run(*arguments, **keywords)


def test_a_signal_while_the_network_is_built(folder):
    settings = settings_of("own", "own_networks:interrupted_while_built")
    weights = weights_of(run(folder, settings))
    (folder / "stop").touch()
    with pytest.raises(Interrupted, match="SIGTERM"):
        run(folder, settings, out="interrupted")
    assert os.listdir(folder / "interrupted") == [LAST]
    (folder / "stop").unlink()
    assert weights_of(run(folder, settings, out="interrupted")) == weights


def test_a_signal_while_a_checkpoint_is_written(folder, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    with monkeypatch.context() as patched:
        write = after_sigterm(checkpoint.tensor_file.write)
        patched.setattr(checkpoint.tensor_file, "write", write)
        with pytest.raises(Interrupted, match="SIGTERM"):
            run(folder, settings, out="interrupted", seconds=0)
    assert sorted(os.listdir(folder / "interrupted")) == [PREVIOUS, LAST]
    again = run(folder, settings, out="interrupted")
    assert weights_of(again) == weights
    assert [row["resumed"] for row in rows_of(again)] == [1, 1]


def test_a_signal_while_the_result_is_written(folder, monkeypatch):
    """Nothing is left to interrupt: the result is complete."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    monkeypatch.setattr(train_network.weights, "save", after_sigterm(train_network.weights.save))
    again = run(folder, settings, out="again")
    assert weights_of(again) == weights
    assert sorted(os.listdir(again)) == [
        ".kept",
        "model.json",
        "model.safetensors",
        "snapshots.safetensors",
        "training.parquet",
    ]


def test_seconds_and_speed_of_an_epoch_cover_all_its_steps(folder, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    settings = settings_of("own", FACTORY)
    expected = rows_of(run(folder, settings))
    with pytest.raises(Interrupted):
        interrupt(monkeypatch, InterruptsAt(0), folder, settings, out="interrupted")
    found = rows_of(run(folder, settings, out="interrupted"))
    for column in ("seconds", "samples_per_second"):
        assert [row[column] for row in found] == [row[column] for row in expected]


def test_a_checkpoint_of_another_type_of_device_is_ignored(folder, monkeypatch, caplog):
    settings = settings_of("own", FACTORY)
    with pytest.raises(Interrupted):
        interrupt(monkeypatch, InterruptsAt(2), folder, settings)
    path = folder / "out" / LAST
    content = path.read_bytes()
    words = rb"device type\":\""
    assert content.count(words + b"cpu") == 1
    path.write_bytes(content.replace(words + b"cpu", words + b"gpu"))
    rows = rows_of(run(folder, settings))
    assert f"{LAST}: from other device type; ignored" in caplog.text
    assert rows[-1]["resumed"] == 0


def test_a_training_does_not_start_without_space_for_checkpoints(folder, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"out: 0 MiB are free.*free some space"):
        run(folder, settings_of("own", FACTORY))
    assert os.listdir(folder / "out") == []


def test_a_disk_that_is_full_at_the_end(folder, disk, monkeypatch):
    """There is no space for the result, and the checkpoints keep what was trained."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    true_save = train_network.weights.save

    def save(*arguments):
        fill(disk)
        true_save(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(train_network.weights, "save", save)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run(folder, settings, out=disk / "out", seconds=0)
    assert caught.value.filename == str(disk / "out" / "model.safetensors")
    assert sorted(os.listdir(disk / "out")) == [PREVIOUS, LAST]
    (disk / "full").unlink()
    again = run(folder, settings, out=disk / "out")
    assert weights_of(again) == weights
    assert rows_of(again)[-1]["resumed"] == 1


def test_a_disk_that_is_full_at_the_interruption(folder, disk, monkeypatch):
    """There is no space for another checkpoint, and the previous one is unchanged."""
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    out = disk / "out"
    with pytest.raises(Interrupted):
        interrupt(monkeypatch, InterruptsAt(0), folder, settings, out=out)
    good = (out / LAST).read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        interrupt(monkeypatch, InterruptsAt(2, lambda: fill(disk)), folder, settings, out=out)
    assert os.listdir(out) == [LAST]
    assert (out / LAST).read_bytes() == good
    (disk / "full").unlink()
    assert weights_of(run(folder, settings, out=out)) == weights


def test_a_disk_that_became_read_only(folder, disk, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    out = disk / "out"
    with pytest.raises(Interrupted):
        interrupt(monkeypatch, InterruptsAt(3), folder, settings, out=out)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        run(folder, settings, out=out)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    again = run(folder, settings, out=out)
    assert weights_of(again) == weights
    assert rows_of(again)[-1]["resumed"] == 1


def test_a_folder_that_is_a_link(folder, monkeypatch):
    settings = settings_of("own", FACTORY)
    weights = weights_of(run(folder, settings))
    (folder / "elsewhere").mkdir()
    (folder / "link").symlink_to("elsewhere")
    with pytest.raises(Interrupted):
        interrupt(monkeypatch, InterruptsAt(2), folder, settings, out="link")
    assert os.listdir(folder / "elsewhere") == [LAST]
    assert weights_of(run(folder, settings, out="link")) == weights
    assert (folder / "link").is_symlink()
