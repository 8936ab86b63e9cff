"""Samples that stay in their files because they would take too much memory."""

import mmap
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from nontrivial.data.sample_order import Window
from nontrivial.errors import UserError


class StoredArray:
    """The file of a memory-mapped array, from which rows are read into buffers.

    Touched pages of a map count as memory of the process; a read takes only its buffer.

    Attributes:
        shape: of the array.
        dtype: of its values.
        nbytes: of all of them.
    """

    def __init__(self, mapped: np.memmap) -> None:
        """Open the file of the array for the lifetime of this object.

        Raises:
            UserError: the file cannot be opened.
        """
        self.shape, self.dtype, self.nbytes = mapped.shape, mapped.dtype, mapped.nbytes
        self._path, self._offset = str(mapped.filename), mapped.offset
        self._lock = Lock()
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._unreadable(error) from error
        weakref.finalize(self, self._file.close)

    @staticmethod
    def is_possible(array: np.ndarray) -> TypeGuard[np.memmap]:
        """Return whether the array is the whole map of a file, in row-major order."""
        base: object = array.base
        return (
            isinstance(array, np.memmap)
            and isinstance(base, mmap.mmap)  # a view has the offset of its base, not its own
            and array.filename is not None
            and array.flags.c_contiguous
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def read(self, first: int, into: np.ndarray) -> None:
        """Fill a contiguous array with the rows from ``first`` on.

        Raises:
            UserError: the file cannot be read or has become shorter.
        """
        rest = into.data.cast("B")
        row = self.nbytes // len(self)
        try:
            with self._lock:
                self._file.seek(self._offset + first * row)
                while rest and (got := self._file.readinto(rest)):
                    rest = rest[got:]
        except OSError as error:
            raise self._unreadable(error) from error
        if rest:
            raise UserError(
                f"{self._path}: ends within rows {first} to {first + len(into) - 1} of"
                f" {len(self)}; delete it and prepare the data again"
            )

    def buffer(self, rows: int) -> np.ndarray:
        """Return an uninitialized array of that many rows."""
        return np.empty((rows, *self.shape[1:]), self.dtype)

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(f"{self._path}: cannot be read ({error.strerror}); prepare the data again")


@dataclass(frozen=True)
class StoredSamples:
    """A split that is read from its files in parts: memory is bounded by two windows."""

    images: StoredArray
    labels: StoredArray
    device: torch.device

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.images)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels of the rows, on the device."""
        images, labels = self._buffers(len(rows))
        for place, row in enumerate(rows.tolist()):
            self.images.read(row, images[place : place + 1])
            self.labels.read(row, labels[place : place + 1])
        return torch.from_numpy(images).to(self.device), torch.from_numpy(labels).to(self.device)

    def slice(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return images and labels from one row to before another, in host memory."""
        images, labels = self._buffers(min(last, len(self)) - first)
        self.images.read(first, images)
        self.labels.read(first, labels)
        return torch.from_numpy(images), torch.from_numpy(labels)

    def shuffled(self, windows: list[Window]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield images and labels of each batch, in host memory."""
        with closing(self._read_ahead(windows)) as contents:
            for window, (images, labels) in zip(windows, contents, strict=True):
                for places in window.places().numpy():
                    # numpy gathers bytes several times faster than torch.
                    yield torch.from_numpy(images[places]), torch.from_numpy(labels[places])

    def _read_ahead(
        self, windows: list[Window]
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Yield the samples of each window while the next one is read.

        The yielded arrays are overwritten after the next window was requested.
        """
        if not windows:
            return
        stop = Event()
        room = max(len(window) for window in windows)
        buffers = [self._buffers(room) for _ in windows[:2]]

        def read(number: int) -> tuple[np.ndarray, np.ndarray]:
            images, labels = buffers[number % 2]
            place = 0
            for first, last in windows[number].runs:
                if stop.is_set():
                    break
                end = place + last - first
                self.images.read(first, images[place:end])
                self.labels.read(first, labels[place:end])
                place = end
            return images, labels

        # Leaving the pool waits for its thread, which checks for the stop after each run.
        with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
            try:
                coming = reader.submit(read, 0)
                for number in range(1, len(windows)):
                    ready = coming.result()
                    coming = reader.submit(read, number)
                    yield ready
                yield coming.result()
            finally:
                stop.set()

    def _buffers(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images.buffer(rows), self.labels.buffer(rows)
