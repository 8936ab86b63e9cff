"""Convolutions of three taps with fewer products than taps times outputs, along one axis.

Winograd 1980, "Arithmetic Complexity of Computations": the outputs of a small tile are
``output @ ((kernel @ taps) * (data @ inputs))``. Only tiles of two outputs are used. Their
coefficients are 0, 1, -1 and 1/2, so nothing is lost that a sum in another order would not
lose; larger tiles save more and lose digits. A dilated convolution is one convolution on
every ``dilation``-th place, so it is tiled like the others.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

# A map of one place: of three taps the middle one alone meets data.
_ONE = (np.array([[1.0]]), np.array([[0.0, 1, 0]]), np.array([[1.0]]))
# A map of two: what lies around it is zero, so three products do (a Toeplitz matrix).
_TWO = (
    np.array([[1.0, 1], [0, 1], [1, 0]]),
    np.array([[0.0, 1, 0], [0, -1, 1], [1, -1, 0]]),
    np.array([[1.0, 1, 0], [1, 0, 1]]),
)
# Two outputs inside a longer map: F(2, 3), of the four inputs from one before to one behind.
_TILE = (
    np.array([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    np.array([[1.0, 1, 1, 0], [0, 1, -1, -1]]),
)


@dataclass(frozen=True)
class Axis:
    """How three taps meet one axis of a map, output as long as input.

    Products stand in the order (kernel row, tile).

    Attributes:
        data: (products, length), from inputs to factors.
        kernel: (kernel rows, 3), from taps to factors.
        output: (length, products), from products to outputs.
        tiles: that share each kernel row.
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
def axis(length: int, dilation: int) -> Axis:
    """Return how three taps, padded by the dilation, meet an axis of some length.

    Args:
        length: of the map, in places.
        dilation: step between taps, in places.
    """
    places = -(-length // dilation)  # of each class of places that see each other
    if places <= 2:
        data, kernel, output = _ONE if places == 1 else _TWO
        outputs, before = places, 0
    else:
        data, kernel, output = _TILE
        outputs, before = 2, 1
    per_class = -(-places // outputs)
    tiles = per_class * dilation
    to_factors = np.zeros((len(data), tiles, length))
    to_outputs = np.zeros((length, len(data), tiles))
    for tile in range(tiles):
        first, phase = divmod(tile, dilation)
        for column in range(data.shape[1]):
            place = (first * outputs - before + column) * dilation + phase
            if 0 <= place < length:
                to_factors[:, tile, place] = data[:, column]
        for row in range(outputs):
            place = (first * outputs + row) * dilation + phase
            if place < length:
                to_outputs[place, :, tile] = output[row]
    return Axis(
        to_factors.reshape(-1, length),
        kernel,
        to_outputs.reshape(length, -1),
        tiles,
        places <= 2,
    )
