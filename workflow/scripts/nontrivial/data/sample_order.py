"""The order of the samples in an epoch, which follows from their number, size and the seed.

Where the samples are stored decides how rows are fetched, never which ones.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nontrivial.execution.reproducibility import derive_seed

WINDOW = 1 << 30  # bytes of samples that are shuffled together and must fit into memory
BLOCK = 8 << 20  # bytes of adjacent samples, enough for a disk to read at full speed


@dataclass(frozen=True)
class Window:
    """Samples that are shuffled together.

    Attributes:
        runs: (first row, row after the last) of adjacent samples, in reading order.
        batch_size: B, samples in a batch.
        seed: of their order.
        first: number of the first batch that is not skipped.
    """

    runs: tuple[tuple[int, int], ...]
    batch_size: int
    seed: int
    first: int = 0

    def __len__(self) -> int:
        """Return the number of samples in the runs."""
        return sum(last - first for first, last in self.runs)

    @property
    def batches(self) -> int:
        """Number of batches that are not skipped."""
        return len(self) // self.batch_size - self.first

    def places(self) -> Tensor:
        """Return the positions of each batch's samples in the concatenated runs.

        Returns:
            int64 (batches, B).
        """
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(self.seed))
        whole = len(self) // self.batch_size
        return drawn[: whole * self.batch_size].view(whole, -1)[self.first :]

    def rows(self) -> Tensor:
        """Return the rows of the samples of each batch, int64 (batches, B)."""
        return torch.cat([torch.arange(*run) for run in self.runs])[self.places()]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of batches in an epoch."""
    return max(1, count // batch_size)


def epoch_order(count: int, bytes_per_sample: int, batch_size: int, seed: int) -> list[Window]:
    """Draw the order of one epoch.

    Up to :data:`WINDOW` bytes of samples are shuffled as a whole. Otherwise, blocks of adjacent
    batches are assigned at random to windows of equal size, and each window is shuffled, so that it
    mixes samples from about a hundred parts of the data.

    Every batch is full, so that batch normalization always sees the same number of samples. The
    remaining samples, different ones in each epoch, are left out. A split smaller than a batch is
    one batch.

    Raises:
        ValueError: there are fewer than two samples, which batch normalization needs.
    """
    if count < 2:
        raise ValueError("training needs at least two samples")
    size = min(batch_size, count)
    if count * bytes_per_sample <= WINDOW:
        return [Window(((0, count),), size, seed)]
    generator = torch.Generator().manual_seed(seed)
    offset = int(torch.randint(count, (), generator=generator))
    block = size * max(1, BLOCK // (size * bytes_per_sample))  # samples
    used = size * steps_per_epoch(count, batch_size)
    blocks = torch.randperm(-(-used // block), generator=generator)
    windows = -(-len(blocks) // max(1, WINDOW // (block * bytes_per_sample)))
    return [
        Window(_runs(dealt.tolist(), block, used, offset, count), size, derive_seed(seed, number))
        for number, dealt in enumerate(blocks.tensor_split(windows))
    ]


def from_step(windows: list[Window], step: int) -> list[Window]:
    """Return the windows of an epoch from the batch with that number, from 0.

    Raises:
        ValueError: the epoch has fewer batches.
    """
    left = []
    for window in windows:
        if step < window.batches:
            left.append(replace(window, first=window.first + step))
        step -= min(step, window.batches)
    if step:
        raise ValueError(f"the epoch ends {step} batches before the requested step")
    return left


def _runs(
    blocks: list[int], block: int, used: int, offset: int, count: int
) -> tuple[tuple[int, int], ...]:
    """Return the rows of blocks that are counted from the offset and wrap around."""
    runs = []
    for number in blocks:
        first = offset + number * block
        last = offset + min((number + 1) * block, used)
        if first < count < last:
            runs += [(first, count), (0, last - count)]
        else:
            runs.append((first % count, (last - 1) % count + 1))
    return tuple(sorted(runs))  # the file is read in one direction
