import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.compute.batches import (
    MappedSamples,
    ResidentSamples,
    in_order,
    normalization,
    place,
    shuffled,
    steps_per_epoch,
)

CPU = torch.device("cpu")


@given(count=st.integers(2, 200), size=st.integers(1, 250), seed=st.integers(0, 2**63 - 1))
def test_an_epoch_is_full_batches_of_different_samples(count, size, seed):
    batches = list(shuffled(count, size, seed, CPU))
    rows = torch.cat(batches).tolist()
    assert len(batches) == steps_per_epoch(count, size)
    assert {len(batch) for batch in batches} == {min(size, count)}
    assert len(set(rows)) == len(rows)
    assert count - len(rows) < min(size, count)
    assert set(rows) <= set(range(count))


def test_order_follows_the_seed():
    first, again, other = (torch.cat(list(shuffled(50, 10, seed, CPU))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="two samples"):
        next(shuffled(1, 8, 0, CPU))


def test_in_order_takes_every_row_once():
    assert [rows.tolist() for rows in in_order(5, 2, CPU)] == [[0, 1], [2, 3], [4]]


def test_a_mapped_file_gives_what_stands_in_it(tmp_path):
    images = np.arange(6 * 2 * 3 * 3, dtype=np.uint8).reshape(6, 2, 3, 3)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    placed = place({"train": (mapped, np.arange(6))}, CPU)["train"]
    assert isinstance(placed, MappedSamples)
    resident = ResidentSamples(torch.from_numpy(images), torch.arange(6))
    rows = torch.tensor([4, 0, 3])
    for samples in (placed, resident):
        taken, labels = samples.take(rows)
        assert np.array_equal(taken.numpy(), images[[4, 0, 3]])
        assert labels.tolist() == [4, 0, 3]
        assert taken.dtype == torch.uint8
        assert len(samples) == 6


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_normalization_is_per_channel_in_stored_units(order):
    normalize = normalization([10.0, 20.0], [2.0, 4.0], CPU, order)
    images = torch.tensor([10, 12, 20, 28], dtype=torch.uint8).reshape(1, 2, 1, 2)
    normalized = normalize(images.expand(3, 2, 1, 2))
    assert normalized[0].flatten().tolist() == [0.0, 1.0, 0.0, 2.0]
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=order)
