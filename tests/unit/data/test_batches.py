import os
import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data import batches, sample_order
from nontrivial.data.batches import (
    MappedSamples,
    ResidentSamples,
    normalization,
    place,
    shuffled_batches,
    streamed,
)
from nontrivial.data.file_backed import StoredArray, StoredSamples
from nontrivial.data.sample_order import epoch_order, steps_per_epoch
from nontrivial.errors import UserError

CPU = torch.device("cpu")
COUNT = 203
KINDS = ("images", "masks", "floats")


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(sample_order, "WINDOW", 1500)
    monkeypatch.setattr(sample_order, "BLOCK", 300)


def write(folder, kind):
    """Write (images, labels) files of 203 samples that are all different; return the arrays."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (COUNT, 2, 3, 4), dtype=np.uint8)
    labels = np.arange(COUNT, dtype=np.int64)
    if kind == "masks":
        labels = generator.integers(0, 256, (COUNT, 3, 4), dtype=np.uint8)
    if kind == "floats":
        images = generator.normal(size=images.shape).astype(np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    return images, labels


def mapped(folder):
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))


def stored(folder):
    return StoredSamples(*map(StoredArray, mapped(folder)), CPU)


def all_placements(folder, kind):
    images, labels = write(folder, kind)
    return {
        "resident": ResidentSamples(torch.from_numpy(images), torch.from_numpy(labels)),
        "mapped": MappedSamples(*mapped(folder), CPU),
        "stored": stored(folder),
    }


def assert_same(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for batch, pair in zip(found, expected, strict=True):
        for part, right in zip(batch, pair, strict=True):
            assert part.dtype == right.dtype
            assert torch.equal(part, right)


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize("windows", ["one", "many"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_do_not_depend_on_where_samples_are_stored(tmp_path, request, kind, windows):
    if windows == "many":
        request.getfixturevalue("small_windows")
    images, labels = write(tmp_path, kind)
    size = (images.nbytes + labels.nbytes) // COUNT
    drawn = epoch_order(COUNT, size, 8, 3)
    assert (len(drawn) > 4) == (windows == "many")
    rows = torch.cat([window.rows() for window in drawn]).numpy()
    expected = [(torch.from_numpy(images[row]), torch.from_numpy(labels[row])) for row in rows]
    for samples in all_placements(tmp_path, kind).values():
        assert_same(shuffled_batches(samples, 8, 3), expected)
    assert not readers()


@pytest.mark.parametrize("size", [8, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_streaming_gives_every_sample_once_in_order(tmp_path, kind, size):
    images, labels = write(tmp_path, kind)
    expected = [
        (torch.from_numpy(images[first : first + size]), torch.from_numpy(labels[first:][:size]))
        for first in range(0, COUNT, size)
    ]
    for samples in all_placements(tmp_path, kind).values():
        assert len(samples) == COUNT
        assert_same(streamed(samples, size), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_rows_are_taken(tmp_path, kind):
    images, labels = write(tmp_path, kind)
    rows = [4, 202, 0, 3, 4]
    expected = (torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]))
    for samples in all_placements(tmp_path, kind).values():
        assert_same([samples.take(torch.tensor(rows))], [expected])


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("placement", ["resident", "mapped", "stored"])
def test_an_epoch_resumes_from_any_step(tmp_path, placement):
    samples = all_placements(tmp_path, "images")[placement]
    whole = list(shuffled_batches(samples, 8, 1))
    assert len(whole) == steps_per_epoch(COUNT, 8)
    for step in range(len(whole) + 1):
        assert_same(shuffled_batches(samples, 8, 1, first_step=step), whole[step:])
    with pytest.raises(ValueError, match="before the requested step"):
        shuffled_batches(samples, 8, 1, first_step=len(whole) + 1)
    assert not readers()


@pytest.mark.usefixtures("small_windows")
def test_skipped_windows_are_not_read(tmp_path, monkeypatch):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    size = (samples.images.nbytes + samples.labels.nbytes) // COUNT
    windows = epoch_order(COUNT, size, 8, 1)
    left = windows[2:]
    read = []
    monkeypatch.setattr(StoredArray, "read", lambda self, first, into: read.append((self, first)))
    step = sum(window.batches for window in windows[:2])
    assert len(list(shuffled_batches(samples, 8, 1, first_step=step))) > 0
    expected = [first for window in left for first, _ in window.runs]
    assert [first for array, first in read if array is samples.images] == expected
    assert [first for array, first in read if array is samples.labels] == expected


@pytest.mark.usefixtures("small_windows")
def test_the_next_window_is_read_ahead_and_no_more(tmp_path, monkeypatch):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    size = (samples.images.nbytes + samples.labels.nbytes) // COUNT
    windows = epoch_order(COUNT, size, 8, 1)
    read, true_read = [], StoredArray.read

    def counted(self, first, into):
        true_read(self, first, into)
        read.extend([first] if self is samples.images else [])

    monkeypatch.setattr(StoredArray, "read", counted)
    done = 0
    with closing(shuffled_batches(samples, 8, 1)) as epoch:
        for number, window in enumerate(windows):
            for _ in range(window.batches):
                next(epoch)
            ahead = windows[: number + 2]
            done = sum(len(window.runs) for window in ahead)
            wait_until(lambda expected=done: len(read) == expected)
    assert len(read) == done


def wait_until(reached):
    for _ in range(1000):
        if reached():
            return
        threading.Event().wait(0.01)
    raise AssertionError("nothing happened for 10 seconds")


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("steps", [0, 1, 10])
def test_closing_an_epoch_early_ends_its_thread(tmp_path, steps):
    write(tmp_path, "images")
    epoch = shuffled_batches(stored(tmp_path), 8, 1)
    for _ in range(steps):
        next(epoch)
    assert len(readers()) == min(steps, 1)
    epoch.close()
    assert not readers()
    assert list(epoch) == []


@pytest.mark.usefixtures("small_windows")
def test_an_error_of_the_consumer_ends_the_thread(tmp_path):
    write(tmp_path, "images")

    def train():
        for _ in shuffled_batches(stored(tmp_path), 8, 1):
            assert readers()
            raise RuntimeError("the consumer")

    with pytest.raises(RuntimeError, match="the consumer"):
        train()
    assert not readers()


@pytest.mark.usefixtures("small_windows")
def test_reading_stops_within_a_block(tmp_path, monkeypatch):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    closed, reading, read = threading.Event(), threading.Event(), []
    true_read = StoredArray.read
    first_window = len(epoch_order(COUNT, samples.images.nbytes // COUNT + 8, 8, 1)[0].runs)

    def slow(self, first, into):
        if self is samples.images:
            read.append(first)
            if len(read) > first_window:  # the second window, which is not needed yet
                reading.set()
                closed.wait(10)
        true_read(self, first, into)

    monkeypatch.setattr(StoredArray, "read", slow)
    epoch = shuffled_batches(samples, 8, 1)
    next(epoch)
    assert reading.wait(10)
    threading.Timer(0.2, closed.set).start()
    epoch.close()
    assert len(read) == first_window + 1
    assert not readers()


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("name", ["images", "labels"])
def test_a_file_that_became_shorter_is_named(tmp_path, name):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    path = tmp_path / f"{name}.npy"
    os.truncate(path, path.stat().st_size - 1)
    message = (
        rf"{name}\.npy: ends within rows \d+ to 202 of 203; delete it and prepare the data again"
    )
    with pytest.raises(UserError, match=message):
        list(shuffled_batches(samples, 1, 1))  # none is left out
    with pytest.raises(UserError, match=message):
        list(streamed(samples, 8))
    with pytest.raises(UserError, match=message):
        samples.take(torch.tensor([202]))
    assert len(samples.take(torch.tensor([201]))[0]) == 1
    assert not readers()


@pytest.mark.usefixtures("small_windows")
def test_a_file_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    # As on a failing disk: the file is open, and reading it is an error.
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, samples.labels._file.fileno())
    os.close(folder)
    with pytest.raises(UserError, match=r"labels\.npy: cannot be read \(Is a directory\)"):
        list(shuffled_batches(samples, 8, 1))
    assert not readers()


@pytest.mark.usefixtures("small_windows")
def test_a_file_that_was_deleted_is_named(tmp_path):
    write(tmp_path, "images")
    arrays = mapped(tmp_path)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"labels\.npy: cannot be read \(No such file"):
        place({"train": arrays}, CPU)


def test_files_are_closed_with_their_samples(tmp_path):
    write(tmp_path, "images")
    samples = stored(tmp_path)
    files = [samples.images._file, samples.labels._file]
    assert not any(file.closed for file in files)
    del samples
    assert all(file.closed for file in files)


@pytest.mark.parametrize(
    ("window", "kind"), [(COUNT * 32, MappedSamples), (COUNT * 32 - 1, StoredSamples)]
)
def test_a_split_larger_than_a_window_is_read(tmp_path, monkeypatch, window, kind):
    write(tmp_path, "images")  # 24 bytes per image and 8 per label
    monkeypatch.setattr(sample_order, "WINDOW", window)
    assert isinstance(place({"train": mapped(tmp_path)}, CPU)["train"], kind)


@pytest.mark.usefixtures("small_windows")
def test_arrays_that_are_part_of_a_file_are_not_read_as_the_file(tmp_path):
    images, labels = write(tmp_path, "images")
    file_images, file_labels = mapped(tmp_path)
    np.save(tmp_path / "columns.npy", np.asfortranarray(images))
    columns = np.load(tmp_path / "columns.npy", mmap_mode="r")
    expected = list(streamed(MappedSamples(images[3:], labels[3:], CPU), 8))
    for arrays in (
        (images[3:], labels[3:]),
        (file_images[3:], file_labels[3:]),
        (columns[3:], labels[3:]),
    ):
        assert_same(streamed(place({"train": arrays}, CPU)["train"], 8), expected)
    assert isinstance(place({"train": (columns, file_labels)}, CPU)["train"], MappedSamples)


@given(chunk=st.integers(1, 5000))
def test_copying_in_pieces_copies_everything(chunk, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "pieces"
    folder.mkdir(exist_ok=True)
    images, labels = write(folder, "masks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "CHUNK", chunk)
        for samples in (MappedSamples(*mapped(folder), CPU), stored(folder)):
            resident = batches._resident(samples)
            assert np.array_equal(resident.images.numpy(), images)
            assert np.array_equal(resident.labels.numpy(), labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("placement", ["resident", "mapped", "stored"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gets_the_same_batches(tmp_path, monkeypatch, request, kind, placement):
    expected = all_placements(tmp_path, kind)["resident"]
    if placement != "resident":
        monkeypatch.setattr(batches, "DEVICE_SHARE", 0)
    if placement == "stored":
        request.getfixturevalue("small_windows")
    samples = place({"train": mapped(tmp_path)}, torch.device("cuda"))["train"]
    assert type(samples) is type(all_placements(tmp_path, kind)[placement])
    for found, right in (
        (shuffled_batches(samples, 8, 3), shuffled_batches(expected, 8, 3)),
        (streamed(samples, 8), streamed(expected, 8)),
    ):
        got = list(found)
        assert all(part.device.type == "cuda" for batch in got for part in batch)
        assert_same([tuple(part.cpu() for part in batch) for batch in got], right)


@pytest.mark.parametrize("count", [0, 1])
def test_one_sample_is_refused(count):
    samples = ResidentSamples(torch.zeros(count, 1, 2, 2), torch.zeros(count))
    with pytest.raises(ValueError, match="two samples"):
        shuffled_batches(samples, 8, 0)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_normalization_is_per_channel_in_stored_units(memory):
    normalize = normalization([10.0, 20.0], [2.0, 4.0], CPU, memory)
    images = torch.tensor([10, 12, 20, 28], dtype=torch.uint8).reshape(1, 2, 1, 2)
    normalized = normalize(images.expand(3, 2, 1, 2))
    assert normalized[0].flatten().tolist() == [0.0, 1.0, 0.0, 2.0]
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=memory)
