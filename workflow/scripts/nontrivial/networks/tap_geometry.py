"""How the taps of a convolution kernel meet data and padding, along one axis.

On small maps most taps of a kernel read nothing but padding: on a map of one pixel, eight of
the nine taps of a padded 3x3 kernel. Such a tap is dead, the others are live.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class LiveRange:
    """A kernel without its dead ends that computes the same convolution, along one axis.

    Attributes:
        first: index of its first tap in the whole kernel.
        count: number of its taps.
        padding: zeros in front of the input, and as many behind.
        dilation: step between its taps.
    """

    first: int
    count: int
    padding: int
    dilation: int


@dataclass(frozen=True)
class TapGeometry:
    """A convolution along one axis.

    At position p, tap t reads the input at p * stride - padding + t * dilation, which is data
    if that index lies in the input, and padding otherwise. A transposed convolution is
    described by the convolution that it is the gradient of: its input and output are swapped.

    Attributes:
        length: size of the input, without padding.
        positions: size of the output.
        taps: size of the kernel.
        stride: step between positions.
        padding: zeros in front of the input.
        dilation: step between taps.

    Example:
        >>> TapGeometry(length=2, positions=2, taps=3, stride=1, padding=1, dilation=1).uses()
        array([1, 2, 1])
    """

    length: int
    positions: int
    taps: int
    stride: int
    padding: int
    dilation: int

    def uses(self) -> np.ndarray:
        """Return at how many positions each tap reads data, (taps,) int."""
        offset = np.arange(self.taps) * self.dilation - self.padding
        first = np.maximum(0, -(offset // self.stride))  # the least position at or after index 0
        last = np.minimum(self.positions - 1, (self.length - 1 - offset) // self.stride)
        return np.maximum(0, last - first + 1)

    def live(self) -> np.ndarray:
        """Return which taps read data at some position, (taps,) bool."""
        return self.uses() > 0

    def live_range(self) -> LiveRange:
        """Return the kernel without its dead ends.

        The convolution must pad as many zeros behind the input as in front. Dead taps between
        live ones stay. All taps stay if none is live, or if no equal padding on both sides
        gives the same number of positions without the dead ends.
        """
        live = np.flatnonzero(self.live()).tolist()
        first, count, padding = 0, self.taps, self.padding
        if live:
            cut = self.padding - live[0] * self.dilation
            left = live[-1] - live[0] + 1
            if cut >= 0 and self._positions(left, cut) == self.positions:
                first, count, padding = live[0], left, cut
        # The dilation of a single tap has no meaning, but with channels-last tensors and
        # strides torch 2.14 then reads beyond its memory.
        return LiveRange(first, count, padding, self.dilation if count > 1 else 1)

    def _positions(self, taps: int, padding: int) -> int:
        return (self.length + 2 * padding - self.dilation * (taps - 1) - 1) // self.stride + 1


def tap_geometry(
    *,
    input_size: Sequence[int],
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
) -> tuple[TapGeometry, ...]:
    """Return the geometry of a convolution along each of its axes.

    Args:
        input_size: spatial size of the input, without padding.
        output_size: spatial size of the output.
        kernel_size: spatial size of the kernel.
        stride: step between positions.
        padding: zeros in front of the input.
        dilation: step between taps.
        transposed: whether it is a transposed convolution.
    """
    if transposed:
        input_size, output_size = output_size, input_size
    axes = zip(input_size, output_size, kernel_size, stride, padding, dilation, strict=True)
    return tuple(TapGeometry(*axis) for axis in axes)


def module_tap_geometry(
    module: _ConvNd, input_size: Sequence[int], output_size: Sequence[int]
) -> tuple[TapGeometry, ...]:
    """Return the geometry of a convolution module in one call, along each of its axes.

    Reflected, replicated and circular padding is data, so all taps of such a module are live.

    Args:
        module: the convolution.
        input_size: spatial size of the input, without padding.
        output_size: spatial size of the output.
    """
    padding = front_padding(module)
    if module.padding_mode != "zeros":
        padding = (0,) * len(module.kernel_size)
        axes = zip(output_size, module.stride, module.kernel_size, module.dilation, strict=True)
        # All that the positions read, padding included.
        input_size = [
            (positions - 1) * stride + (taps - 1) * dilation + 1
            for positions, stride, taps, dilation in axes
        ]
    return tap_geometry(
        input_size=input_size,
        output_size=output_size,
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=padding,
        dilation=module.dilation,
        transposed=isinstance(module, _ConvTransposeNd),
    )


def front_padding(module: _ConvNd) -> tuple[int, ...]:
    """Return how many elements a convolution pads in front of its input, per axis."""
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding == "same":
        # Of an odd number of elements torch puts the odd one behind.
        sides = zip(module.dilation, module.kernel_size, strict=True)
        return tuple(dilation * (taps - 1) // 2 for dilation, taps in sides)
    return tuple(int(amount) for amount in module.padding)
