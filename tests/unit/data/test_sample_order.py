from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data import sample_order
from nontrivial.data.sample_order import epoch_order, from_step, steps_per_epoch

WINDOW, BLOCK = 4000, 500


def drawn(count, size, batch_size, seed):
    with patch.object(sample_order, "WINDOW", WINDOW), patch.object(sample_order, "BLOCK", BLOCK):
        return epoch_order(count, size, batch_size, seed)


def rows_of(windows):
    return torch.cat([window.rows() for window in windows])


counts = st.integers(2, 3000)
sizes = st.integers(1, 60)  # bytes of a sample
batch_sizes = st.integers(1, 250)
seeds = st.integers(0, 2**63 - 1)


@given(counts, sizes, batch_sizes, seeds)
def test_an_epoch_is_full_batches_of_different_samples(count, size, batch_size, seed):
    batches = rows_of(drawn(count, size, batch_size, seed))
    rows = batches.flatten().tolist()
    assert batches.shape == (steps_per_epoch(count, batch_size), min(batch_size, count))
    assert len(set(rows)) == len(rows)
    assert count - len(rows) < min(batch_size, count)
    assert set(rows) <= set(range(count))


@given(counts, sizes, batch_sizes, seeds)
def test_windows_are_bounded_and_as_large_as_each_other(count, size, batch_size, seed):
    windows = drawn(count, size, batch_size, seed)
    batch = min(batch_size, count)
    for window in windows:
        assert len(window) * size <= max(WINDOW, batch * size)
        assert all(0 <= first < last <= count for first, last in window.runs)
        assert list(window.runs) == sorted(window.runs)
    lengths = [len(window) for window in windows]
    # Up to one block, because the last block may be shorter.
    assert max(lengths) - min(lengths) <= 2 * max(BLOCK // size, batch)


@given(st.integers(2, 300), batch_sizes, seeds)
def test_what_fits_into_a_window_is_one_permutation(count, batch_size, seed):
    batches = rows_of(drawn(count, WINDOW // count, batch_size, seed))
    permutation = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(batches.flatten(), permutation[: batches.numel()])


@given(counts, sizes, batch_sizes, seeds)
def test_positions_are_those_of_the_rows_in_the_runs(count, size, batch_size, seed):
    for window in drawn(count, size, batch_size, seed):
        laid = np.concatenate([np.arange(*run) for run in window.runs])
        assert len(laid) == len(window)
        assert torch.equal(torch.from_numpy(laid)[window.places()], window.rows())


@given(counts, sizes, batch_sizes, seeds, st.data())
def test_an_epoch_resumes_from_any_step(count, size, batch_size, seed, data):
    windows = drawn(count, size, batch_size, seed)
    steps = steps_per_epoch(count, batch_size)
    step = data.draw(st.integers(0, steps - 1))
    left = from_step(windows, step)
    assert torch.equal(rows_of(left), rows_of(windows)[step:])
    assert sum(window.batches for window in left) == steps - step
    again = data.draw(st.integers(0, steps - step - 1))
    assert from_step(left, again) == from_step(windows, step + again)
    assert from_step(windows, steps) == []
    with pytest.raises(ValueError, match="ends 1 batches before"):
        from_step(windows, steps + 1)


@given(counts, sizes, batch_sizes, seeds)
def test_the_order_depends_on_the_seed_alone(count, size, batch_size, seed):
    torch.manual_seed(seed)
    first = drawn(count, size, batch_size, seed)
    state = torch.get_rng_state()
    assert first == drawn(count, size, batch_size, seed)
    assert torch.equal(rows_of(first), rows_of(first))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [1, 40], ids=["one window", "many windows"])
def test_other_seeds_give_other_orders_and_leave_out_other_samples(size):
    orders = [rows_of(drawn(1003, size, 10, seed)) for seed in range(20)]
    assert len({tuple(rows.flatten().tolist()) for rows in orders}) == 20
    left_out = [set(range(1003)) - set(rows.flatten().tolist()) for rows in orders]
    assert all(len(rows) == 3 for rows in left_out)
    assert len(set().union(*left_out)) > 20


def test_a_window_mixes_samples_from_all_over_the_data():
    windows = drawn(10_000, 4, 5, 0)  # 40,000 bytes: 10 windows of 8 blocks of 125 samples
    assert [len(window) for window in windows] == [1000] * 10
    for window in windows:
        assert len({first // 125 for first, _ in window.runs}) >= 8
        assert np.ptp([first for first, _ in window.runs]) > 2500
        # Within the window, no batch is a run of neighbours.
        assert (window.rows().diff(dim=1) == 1).float().mean() < 0.05


def test_an_order_of_many_samples_is_short():
    windows = epoch_order(10**9, 100, 256, 0)
    assert sum(window.batches for window in windows) == 10**9 // 256
    assert sum(len(window.runs) for window in windows) < 1.01 * 10**11 / sample_order.BLOCK


@pytest.mark.parametrize("count", [0, 1])
def test_one_sample_is_refused(count):
    with pytest.raises(ValueError, match="two samples"):
        epoch_order(count, 1, 8, 0)
