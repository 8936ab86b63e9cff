"""Samples near the arithmetic: on the device as stored, or gathered from the mapped file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DEVICE_SHARE = 0.5  # of the free memory of a GPU; the rest is for weights and activations
CHUNK = 64 << 20  # bytes of the mapped file copied to the GPU at a time


@dataclass(frozen=True)
class ResidentSamples:
    """All samples of a split on the device, images (N, C, H, W) and labels as stored."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.images.shape[0]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels of the rows, a tensor on the device."""
        return self.images[rows], self.labels[rows]

    def slice(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return images and labels from one row to before another."""
        return self.images[first:last], self.labels[first:last]


@dataclass(frozen=True)
class MappedSamples:
    """A split left in its memory-mapped file: memory is bounded by one batch."""

    images: np.ndarray
    labels: np.ndarray
    device: torch.device

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.images.shape[0]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels of the rows, copied to the device."""
        wanted = rows.cpu().numpy()
        images, labels = (
            torch.from_numpy(self.images[wanted]),
            torch.from_numpy(self.labels[wanted]),
        )
        return images.to(self.device), labels.to(self.device)

    def slice(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return images and labels from one row to before another, copied to the device."""
        images, labels = (np.array(array[first:last]) for array in (self.images, self.labels))
        return torch.from_numpy(images).to(self.device), torch.from_numpy(labels).to(self.device)


Samples = ResidentSamples | MappedSamples


@dataclass(frozen=True)
class Normalization:
    """Turns stored values into (x - mean) / std, on the device of the images.

    Attributes:
        mean: (1, C, 1, 1) float32, in stored units.
        std: (1, C, 1, 1) float32.
        memory_format: order of the result in memory, that of the network.
    """

    mean: Tensor
    std: Tensor
    memory_format: torch.memory_format

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 images."""
        images = images.to(torch.float32, memory_format=self.memory_format)
        return (images - self.mean) / self.std


def normalization(
    mean: list[float],
    std: list[float],
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Normalization:
    """Return the normalization of a data set's description, per channel."""
    shaped = [
        torch.tensor(values, dtype=torch.float32, device=device)[None, :, None, None]
        for values in (mean, std)
    ]
    return Normalization(*shaped, memory_format)


def fastest_memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """Return the order of axes in memory with which training is fastest.

    Channels last on a GPU, and in bf16 on the CPU (5 to 10% there); in fp32 on the CPU it
    is up to a quarter slower (ResNet34 at 32x32, PSPNet at 64x64, two EPYC cores).
    """
    if device.type == "cuda" or precision == "bf16":
        return torch.channels_last
    return torch.contiguous_format


def place(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], device: torch.device
) -> dict[str, Samples]:
    """Put each split on the device where it fits, in order; leave the others in their files.

    On the CPU nothing is copied: the mapped file and the system's cache of it do the same.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    budget = int(free * DEVICE_SHARE)
    placed: dict[str, Samples] = {}
    for name, (images, labels) in splits.items():
        if images.nbytes + labels.nbytes <= budget:
            placed[name] = ResidentSamples(_copy(images, device), _copy(labels, device))
            budget -= images.nbytes + labels.nbytes
        else:
            placed[name] = MappedSamples(images, labels, device)
    return placed


def shuffled(count: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows of each batch of one epoch, in an order drawn from the seed.

    Every batch is full, so that batch normalization always sees as many samples: the rest,
    other samples in every epoch, is left out. A split smaller than a batch is one batch.

    Raises:
        ValueError: there are fewer than two samples, which batch normalization needs.
    """
    if count < 2:
        raise ValueError("training needs at least two samples")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(device)
    size = min(batch_size, count)
    for step in range(steps_per_epoch(count, batch_size)):
        yield order[step * size : (step + 1) * size]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of batches that :func:`shuffled` yields."""
    return max(1, count // batch_size)


def in_order(count: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows of each batch in stored order, the last one as small as it is."""
    for first in range(0, count, batch_size):
        yield torch.arange(first, min(first + batch_size, count), device=device)


def streamed(samples: Samples, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) of each batch in stored order, on the device.

    From a mapped file to a GPU the next batch is copied while this one is computed with.
    """
    if isinstance(samples, MappedSamples) and samples.device.type == "cuda":
        yield from _copied_ahead(samples, batch_size)
        return
    for first in range(0, len(samples), batch_size):
        yield samples.slice(first, first + batch_size)


def _copied_ahead(samples: MappedSamples, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    computing, copying = (
        torch.cuda.current_stream(samples.device),
        torch.cuda.Stream(samples.device),
    )

    def copy(first: int) -> tuple[Tensor, Tensor]:
        # Only pinned memory is copied without the processor waiting.
        pinned = [
            torch.from_numpy(np.array(array[first : first + batch_size])).pin_memory()
            for array in (samples.images, samples.labels)
        ]
        with torch.cuda.stream(copying):
            images, labels = (part.to(samples.device, non_blocking=True) for part in pinned)
        return images, labels

    coming = copy(0)
    for first in range(0, len(samples), batch_size):
        ready = coming
        computing.wait_stream(copying)
        for part in ready:
            part.record_stream(computing)  # its memory is not reused before it was computed with
        if first + batch_size < len(samples):
            coming = copy(first + batch_size)
        yield ready


def _copy(array: np.ndarray, device: torch.device) -> Tensor:
    rows = max(1, CHUNK * len(array) // max(1, array.nbytes))
    first = torch.from_numpy(np.array(array[:1]))
    copied = torch.empty(array.shape, dtype=first.dtype, device=device)
    for start in range(0, len(array), rows):
        copied[start : start + rows] = torch.from_numpy(np.array(array[start : start + rows]))
    return copied
