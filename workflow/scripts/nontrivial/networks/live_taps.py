"""Taps of a kernel that meet data along one axis; a tap that only ever sees padding is dead.

On small maps most taps are: on a map of one pixel, eight of nine taps of a padded 3x3 kernel.
"""

from dataclasses import dataclass

import numpy as np
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class LivePart:
    """The part of a kernel that computes the same convolution, along one axis.

    Attributes:
        first: its first tap.
        count: number of its taps.
        padding: zeros in front, and as many behind.
        dilation: step between its taps.
    """

    first: int
    count: int
    padding: int
    dilation: int


def live_taps(
    length: int,
    outputs: int,
    taps: int,
    stride: int,
    padding: int,
    dilation: int,
    transposed: bool = False,
) -> np.ndarray:
    """Return which taps of a kernel meet data, along one axis.

    Tap t of output o reads position o * stride - padding + t * dilation, which is data if it
    is one of the ``length`` inputs. A transposed convolution swaps input and output.

    Args:
        length: size of the input.
        outputs: size of the output.
        taps: size of the kernel.
        stride: step between outputs.
        padding: zeros in front of the input.
        dilation: step between taps.
        transposed: whether it is a transposed convolution.

    Returns:
        (taps,) bool.
    """
    if transposed:
        length, outputs = outputs, length
    offset = np.arange(taps) * dilation - padding
    first = np.maximum(0, -(offset // stride))  # the least o that reads at or after the start
    last = np.minimum(outputs - 1, (length - 1 - offset) // stride)
    return first <= last


def live_part(length: int, taps: int, stride: int, padding: int, dilation: int) -> LivePart:
    """Return a kernel without its dead ends, along one axis of a convolution (not transposed).

    Dead taps between live ones stay. All stay where no tap is live, or where without the ends
    no padding, the same in front and behind, leads to as many outputs.

    Args:
        length: size of the input.
        taps: size of the kernel.
        stride: step between outputs.
        padding: zeros in front of the input, and as many behind.
        dilation: step between taps.
    """
    outputs = _outputs(length, taps, stride, padding, dilation)
    live = np.flatnonzero(live_taps(length, outputs, taps, stride, padding, dilation)).tolist()
    first, count, front = 0, taps, padding
    if live:
        first, count = live[0], live[-1] - live[0] + 1
        front = padding - first * dilation
        if front < 0 or _outputs(length, count, stride, front, dilation) != outputs:
            first, count, front = 0, taps, padding
    # Of a tap alone the dilation means nothing, but with channels innermost and strides
    # torch 2.14 then reads past its memory.
    return LivePart(first, count, front, dilation if count > 1 else 1)


def front_padding(module: _ConvNd, axis: int) -> int:
    """Return how many zeros a convolution puts in front of its input, along one axis."""
    if module.padding == "valid":
        return 0
    if module.padding == "same":
        # torch puts the odd one of an uneven number behind.
        return module.dilation[axis] * (module.kernel_size[axis] - 1) // 2
    return module.padding[axis]


def _outputs(length: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    return (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
