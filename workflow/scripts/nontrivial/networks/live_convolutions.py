"""Convolutions that compute with the live taps of their kernels only.

In a ResNet34 with torchvision's stem at 32 x 32 pixels half of all weights only ever meet
padding. In training, their products with zeros, their casts and their gradients are wasted;
and in bf16 on a CPU torch 2.14 does not even write these gradients where the stride is not 1
(3x3 taps of stride 2 on one pixel): they are whatever the memory held.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import Call, forward_calls, forward_order, stored_weight
from nontrivial.networks.tap_geometry import LiveRange, module_tap_geometry

Parts = tuple[LiveRange, LiveRange]  # of rows and of columns


class LiveConv2d(nn.Conv2d):
    """A convolution without its dead taps on maps of known sizes; on others it is as before.

    Its parameters keep their whole size; a dead tap gets a gradient of zero, as before. A
    copy of it, and what is pickled of it, is a plain ``torch.nn.Conv2d``.

    Attributes:
        live_parts: by (height, width) of a map.
    """

    live_parts: dict[tuple[int, int], Parts]

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of images (N, C, H, W) or of one (C, H, W)."""
        parts = self.live_parts.get((input.shape[-2], input.shape[-1]))
        if parts is None:
            return super().forward(input)
        rows, columns = parts
        return nn.functional.conv2d(
            input,
            _live_weight(self.weight, rows, columns),
            self.bias,
            self.stride,
            (rows.padding, columns.padding),
            (rows.dilation, columns.dilation),
            self.groups,
        )

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Return how to make the copy, which outlives the block that this class is for."""
        state = {name: value for name, value in vars(self).items() if name != "live_parts"}
        return object.__new__, (nn.Conv2d,), state


@contextmanager
def without_dead_taps(
    model: nn.Module, channels: int, size: tuple[int, int]
) -> Iterator[list[str]]:
    """Leave dead taps out of the convolutions of a network inside the block.

    Only modules whose type is ``torch.nn.Conv2d`` itself change, and nothing of them but
    that type, where outer taps meet nothing but padding. What is computed stays the same but
    for the order of sums.

    Args:
        model: the network.
        channels: number of image channels.
        size: (height, width) of most images that it will see.

    Yields:
        Module paths of the changed convolutions, in order of their first calls.

    Raises:
        UserError: the network does not take images of that shape.
    """
    calls = forward_calls(model, channels, size)
    live_parts: dict[str, dict[tuple[int, ...], Parts]] = {}
    for call in calls:
        parts = _live_parts(call)
        if parts is not None:
            live_parts.setdefault(call.path, {})[call.input_size] = parts
    modules = {path: module for path, module in forward_order(calls).items() if path in live_parts}
    try:
        for path, module in modules.items():
            module.live_parts = live_parts[path]
            module.__class__ = LiveConv2d
        yield list(modules)
    finally:
        for module in modules.values():
            module.__class__ = nn.Conv2d
            vars(module).pop("live_parts", None)


def _live_weight(weight: Tensor, rows: LiveRange, columns: LiveRange) -> Tensor:
    # Not by narrowing, whose gradient is filled with zeros once per axis and then copied into
    # the order in memory of the weight.
    height, width = weight.shape[2:]
    left, right = columns.first, width - columns.first - columns.count
    top, bottom = rows.first, height - rows.first - rows.count
    return nn.functional.pad(weight, (-left, -right, -top, -bottom))


def _live_parts(call: Call) -> Parts | None:
    """Return the live parts of a kernel in one call, or None where it is best left alone."""
    module = call.module
    if not _is_plain(module):
        return None
    axes = module_tap_geometry(module, call.input_size, call.output_size)
    rows, columns = (axis.live_range() for axis in axes)
    return None if (rows.count, columns.count) == module.kernel_size else (rows, columns)


def _is_plain(module: _ConvNd) -> bool:
    # A subclass, or a weight that is computed from other parameters, may mean something else.
    if type(module) is not nn.Conv2d or stored_weight(module) is None:
        return False
    if module.padding_mode != "zeros":
        return False
    # Of an uneven number of zeros one more stands behind than in front.
    return module.padding != "same" or all(
        dilation * (taps - 1) % 2 == 0
        for dilation, taps in zip(module.dilation, module.kernel_size, strict=True)
    )
