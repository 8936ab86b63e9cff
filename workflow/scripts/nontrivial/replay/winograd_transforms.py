"""Winograd's transforms for kernels of three taps, along one axis.

Winograd 1980, "Arithmetic Complexity of Computations": the outputs of a small tile are
``output @ ((kernel @ taps) * (data @ inputs))``, with fewer products than taps times outputs.
Only tiles of two outputs are used. Their coefficients are 0, 1, -1 and 1/2, so they lose no
more accuracy than a sum in another order; larger tiles save more products but lose digits. A
dilated convolution is one convolution over every ``dilation``-th position, and is tiled alike.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

# A map of one position: only the middle tap meets data.
_ONE = (np.array([[1.0]]), np.array([[0.0, 1, 0]]), np.array([[1.0]]))
# A map of two: the padding around it is zero, so three products suffice (a Toeplitz matrix).
_TWO = (
    np.array([[1.0, 1], [0, 1], [1, 0]]),
    np.array([[0.0, 1, 0], [0, -1, 1], [1, -1, 0]]),
    np.array([[1.0, 1, 0], [1, 0, 1]]),
)
# Two outputs of a longer map: F(2, 3), on the four inputs from one before to one behind.
_TILE = (
    np.array([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    np.array([[1.0, 1, 1, 0], [0, 1, -1, -1]]),
)


@dataclass(frozen=True)
class AxisTransform:
    """The transforms of three taps over one axis of a map, with output as long as input.

    Products are in the order (row of the kernel transform, tile).

    Attributes:
        data: (products, length), from inputs to factors.
        kernel: (kernel rows, 3), from taps to factors.
        output: (length, products), from products to outputs.
        tiles: number of tiles, which share each kernel row.
        exact: whether all coefficients are 0, 1 or -1.
    """

    data: np.ndarray
    kernel: np.ndarray
    output: np.ndarray
    tiles: int
    exact: bool

    @property
    def products(self) -> int:
        """Number of products."""
        return len(self.data)


@cache
def axis_transform(length: int, dilation: int) -> AxisTransform:
    """Return the transforms of three taps, padded by the dilation, over an axis.

    Args:
        length: of the map.
        dilation: step between taps.
    """
    positions = -(-length // dilation)  # of each phase; taps join positions of one phase only
    if positions <= 2:
        data, kernel, output = _ONE if positions == 1 else _TWO
        outputs, before = positions, 0
    else:
        data, kernel, output = _TILE
        outputs, before = 2, 1
    tiles = -(-positions // outputs) * dilation
    to_factors = np.zeros((len(data), tiles, length))
    to_outputs = np.zeros((length, len(data), tiles))
    for tile in range(tiles):
        first, phase = divmod(tile, dilation)
        for column in range(data.shape[1]):
            position = (first * outputs - before + column) * dilation + phase
            if 0 <= position < length:
                to_factors[:, tile, position] = data[:, column]
        for row in range(outputs):
            position = (first * outputs + row) * dilation + phase
            if position < length:
                to_outputs[position, :, tile] = output[row]
    return AxisTransform(
        to_factors.reshape(-1, length),
        kernel,
        to_outputs.reshape(length, -1),
        tiles,
        positions <= 2,
    )
