import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nontrivial.errors import UserError
from nontrivial.training.checkpoint import LAST, PREVIOUS, Checkpoints, State

ORIGIN = {"configuration": "c", "data": "d", "code": "e"}


def state_of(number):
    tensors = {
        "weight": torch.full((3, 4), float(number)),
        "half": torch.full((5,), number, dtype=torch.bfloat16),
        "count": torch.tensor(number),
        "rng": torch.arange(7, dtype=torch.uint8),
    }
    return State(tensors, {"step": number, "epochs": [{"loss": 0.1 + number}]})


def same(first, second):
    return (
        first.values == second.values
        and first.tensors.keys() == second.tensors.keys()
        and all(
            torch.equal(value, second.tensors[name]) and value.dtype == second.tensors[name].dtype
            for name, value in first.tensors.items()
        )
    )


@pytest.fixture
def two(tmp_path):
    """Return a folder with two checkpoints, the states 1 and 2."""
    checkpoints = Checkpoints(tmp_path, ORIGIN, 60)
    checkpoints.save(state_of(1))
    checkpoints.save(state_of(2))
    return tmp_path


def latest(folder, origin=ORIGIN):
    return Checkpoints(folder, origin, 60).latest()


def test_the_last_is_read_and_the_previous_one_is_kept(two):
    assert same(latest(two), state_of(2))
    assert sorted(os.listdir(two)) == [PREVIOUS, LAST]
    (two / LAST).unlink()  # as between the two renames of a save
    assert same(latest(two), state_of(1))


def test_a_folder_without_a_checkpoint(tmp_path):
    assert latest(tmp_path / "new" / "folder") is None


def test_remove_leaves_nothing(two):
    Checkpoints(two, ORIGIN, 60).remove()
    assert os.listdir(two) == []


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 500, -1])
def test_a_truncated_one_is_replaced_by_the_previous_one(two, kept, caplog):
    content = (two / LAST).read_bytes()
    (two / LAST).write_bytes(content[:kept])
    assert same(latest(two), state_of(1))
    assert f"{LAST}: truncated or damaged" in caplog.text


def test_no_changed_byte_goes_unnoticed(two):
    content, before = (two / LAST).read_bytes(), (two / PREVIOUS).read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        (two / LAST).write_bytes(changed)
        (two / PREVIOUS).write_bytes(before)
        found = latest(two)
        # A space of the header's padding may change without a change of content.
        assert same(found, state_of(1)) or same(found, state_of(2))


def test_two_damaged_ones_count_as_none(two, caplog):
    for name in (LAST, PREVIOUS):
        (two / name).write_bytes(b"not a checkpoint")
    assert latest(two) is None
    assert caplog.text.count("truncated or damaged") == 2


def test_a_pickle_is_not_read(two, caplog):
    torch.save({"weight": torch.zeros(2)}, two / LAST)
    assert same(latest(two), state_of(1))
    assert "damaged" in caplog.text


def test_weights_alone_are_not_a_checkpoint(two):
    save_file({"weight": torch.zeros(2)}, two / LAST)
    assert same(latest(two), state_of(1))


def test_one_of_an_earlier_version_is_ignored_in_one_line(two, caplog):
    state = state_of(1).tensors
    metadata = {"format": "nontrivial checkpoint 1", "origin": "{}", "values": "{}", "sha256": ""}
    for name in (LAST, PREVIOUS):
        save_file(state, two / name, metadata)
    assert latest(two) is None
    lines = [line for line in caplog.messages if LAST in line]
    assert lines == [f"{two / LAST}: written by another version; ignored"]


def test_one_that_cannot_be_read_is_an_error(two):
    (two / LAST).unlink()
    (two / LAST).mkdir()
    with pytest.raises(OSError, match="directory"):
        latest(two)


@pytest.mark.parametrize("key", sorted(ORIGIN))
def test_one_of_another_origin_is_ignored_in_one_line(two, key, caplog):
    assert latest(two, {**ORIGIN, key: "other"}) is None
    assert f"{LAST}: from other {key}; ignored" in caplog.text


def test_the_previous_one_is_used_if_it_has_the_right_origin(two):
    other = {**ORIGIN, "configuration": "tried in between"}
    Checkpoints(two, other, 60).save(state_of(3))
    assert same(latest(two), state_of(2))


@pytest.mark.parametrize("origin", [ORIGIN, {**ORIGIN, "code": "other"}])
def test_the_next_save_does_not_replace_the_one_that_was_resumed(two, origin):
    """A damaged last one, or one of another training, does not replace it."""
    if origin == ORIGIN:
        (two / LAST).write_bytes(b"cut short")
    else:
        Checkpoints(two, origin, 60).save(state_of(3))
        Checkpoints(two, origin, 60).save(state_of(4))
        (two / PREVIOUS).write_bytes((two / LAST).read_bytes())
        Checkpoints(two, ORIGIN, 60).save(state_of(1))
        (two / LAST).replace(two / "mine")
        (two / PREVIOUS).replace(two / LAST)
        (two / "mine").replace(two / PREVIOUS)
    checkpoints = Checkpoints(two, ORIGIN, 60)
    resumed = checkpoints.latest()
    checkpoints.save(state_of(5))
    (two / LAST).unlink()  # as between the two renames
    assert same(latest(two), resumed)


def test_the_log_says_that_the_training_starts_over(two, caplog):
    latest(two, {**ORIGIN, "code": "other"})
    assert "the training starts from the beginning" in caplog.text


def test_a_checkpoint_is_due_after_its_interval(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nontrivial.training.checkpoint.time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, ORIGIN, 60)
    assert not checkpoints.is_due
    now[0] += 60
    assert checkpoints.is_due
    checkpoints.save(state_of(1))
    assert not checkpoints.is_due


def test_partial_files_of_a_killed_process_are_removed(two):
    (two / f".{LAST}.abc.part.safetensors").write_bytes(b"half")
    assert same(latest(two), state_of(2))
    assert sorted(os.listdir(two)) == [PREVIOUS, LAST]


def test_the_content_does_not_depend_on_the_memory_format(tmp_path):
    weight = torch.arange(24.0).reshape(1, 2, 3, 4)
    checkpoints = Checkpoints(tmp_path, ORIGIN, 60)
    checkpoints.save(State({"weight": weight}, {}))
    assert torch.equal(checkpoints.latest().tensors["weight"], weight)


@pytest.fixture
def disk(tmp_path):
    """Return a function that mounts a file system in memory, or skips the test."""
    mounted = []

    def mount(options):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no mount command")
        if done.returncode:
            pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint(disk):
    folder = disk("size=1m")
    checkpoints = Checkpoints(folder, ORIGIN, 60)
    checkpoints.save(state_of(1))
    checkpoints.save(state_of(2))
    large = State({"weight": torch.zeros(1 << 20)}, {"step": 3})
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoints.save(large)
    assert caught.value.filename == str(folder / LAST)
    assert same(checkpoints.latest(), state_of(2))
    assert sorted(os.listdir(folder)) == [PREVIOUS, LAST]


def test_a_read_only_disk_is_refused_at_once(disk):
    folder = disk("ro")
    with pytest.raises(OSError, match="Read-only file system"):
        Checkpoints(folder / "network", ORIGIN, 60)
    with pytest.raises(OSError, match="Read-only file system"):
        Checkpoints(folder, ORIGIN, 60)


def test_a_disk_that_is_too_small_is_refused_at_once(disk):
    folder = disk("size=2m")
    checkpoints = Checkpoints(folder, ORIGIN, 60)
    checkpoints.refuse_small_disk(600_000)
    with pytest.raises(UserError, match=r"2 MiB are free.*need 3 MiB; free some space"):
        checkpoints.refuse_small_disk(1 << 20)
    # The space of existing checkpoints counts as free.
    checkpoints.save(State({"weight": torch.zeros(300_000)}, {}))
    checkpoints.refuse_small_disk(600_000)


KILLED = """
import sys, torch
from pathlib import Path
from nontrivial.training.checkpoint import Checkpoints, State
checkpoints = Checkpoints(Path(sys.argv[1]), {"code": "e"}, 60)
number = 0
while True:
    number += 1
    checkpoints.save(State({"weight": torch.full((200_000,), float(number))}, {"step": number}))
    print(number, flush=True)
"""


@pytest.mark.parametrize("saves", [1, 2, 5])
def test_killed_while_writing(tmp_path, saves):
    scripts = Path(__file__).parents[3] / "workflow" / "scripts"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(scripts)},
    )
    for _ in range(saves):
        written = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    state = latest(tmp_path, {"code": "e"})
    number = state.values["step"]
    assert number >= written
    assert torch.equal(state.tensors["weight"], torch.full((200_000,), float(number)))
    assert sorted(os.listdir(tmp_path))[-1] == LAST
