"""Write a ``.npy`` array row by row, without holding it or knowing its length beforehand."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nontrivial.execution.atomic import replacing


class ArrayStream:
    """An array that is being written along its first axis.

    Attributes:
        rows: number of rows written so far.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Start an array without rows.

        Args:
            file: open for writing and seeking.
            shape: of one row.
            dtype: of the array.
        """
        self.rows = 0
        self._file = file
        self._shape = shape
        self._dtype = dtype
        self._file.write(self._header())

    def append(self, rows: np.ndarray) -> None:
        """Append rows (N, *shape) of the array's dtype.

        Raises:
            ValueError: the rows have another shape or dtype.
        """
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"rows {rows.dtype}{rows.shape[1:]}, array {self._dtype}{self._shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        # numpy pads the header to a length that does not depend on the number of rows
        # (GROWTH_AXIS_MAX_DIGITS in numpy/lib/format.py), so it can be overwritten in place.
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.rows, *self._shape),
            },
        )
        return buffer.getvalue()


@contextmanager
def array_stream(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[ArrayStream]:
    """Yield a stream for rows of ``shape``; the file appears when the block succeeds."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        stream = ArrayStream(file, tuple(shape), np.dtype(dtype))
        yield stream
        stream.finish()
