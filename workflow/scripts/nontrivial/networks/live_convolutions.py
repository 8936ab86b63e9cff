"""Convolutions that compute with the live taps of their kernels only.

In a ResNet34 with torchvision's stem at 32 x 32 pixels, half of all weights only ever meet padding.
Training would waste their products with zeros, their casts and their gradients. In bf16 on a CPU,
torch 2.14 does not even write these gradients if the stride is not 1 (3x3 taps of stride 2 on one
pixel): they hold whatever was in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import SupportsIndex, cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import Call, forward_calls, forward_order, stored_weight
from nontrivial.networks.tap_geometry import LiveRange, module_tap_geometry

Parts = tuple[LiveRange, LiveRange]  # of rows and of columns


class LiveConv2d(nn.Conv2d):
    """A convolution without its dead taps on maps of known sizes, unchanged on others.

    It shares the parameters, hooks and settings of the convolution it stands for. The parameters
    keep their full size; the gradient of a dead tap is zero. A copy or a pickle of it is a plain
    ``torch.nn.Conv2d``, because it outlives the block that this class is for.

    Attributes:
        live_parts: by (height, width) of the input map.
    """

    live_parts: dict[tuple[int, ...], Parts]

    @classmethod
    def sharing(cls, module: nn.Conv2d, live_parts: dict[tuple[int, ...], Parts]) -> "LiveConv2d":
        """Return a convolution that shares everything with another."""
        live = cls.__new__(cls)
        vars(live).update(vars(module), live_parts=live_parts)
        return live

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of images (N, C, H, W) or of one image (C, H, W)."""
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

    def own_state(self) -> dict[str, object]:
        """Return the attributes that a plain convolution has."""
        return {name: value for name, value in vars(self).items() if name != "live_parts"}

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        """Copy as a plain convolution."""
        return object.__new__, (nn.Conv2d,), self.own_state()


@contextmanager
def without_dead_taps(
    model: nn.Module, channels: int, size: tuple[int, int]
) -> Iterator[list[str]]:
    """Replace the convolutions of a network that have dead taps, inside the block.

    Only modules whose type is exactly ``torch.nn.Conv2d`` are replaced, in every module that holds
    them. State-dict names and parameters stay. The results differ only by the order of sums.

    Args:
        model: network that holds the convolutions as submodules.
        channels: number of image channels.
        size: (height, width) of most images that it will see.

    Yields:
        Module paths of the replaced convolutions, in the order of their first calls.

    Raises:
        UserError: the network does not take images of that shape.
    """
    calls = forward_calls(model, channels, size)
    live_parts: dict[str, dict[tuple[int, ...], Parts]] = {}
    for call in calls:
        parts = _live_parts(call)
        if parts is not None:
            live_parts.setdefault(call.path, {})[call.input_size] = parts
    pairs = [
        (module, LiveConv2d.sharing(cast(nn.Conv2d, module), live_parts[path]))
        for path, module in forward_order(calls).items()
        if path in live_parts
    ]
    _replace(model, {id(module): live for module, live in pairs})
    try:
        yield list(live_parts)
    finally:
        _replace(model, {id(live): module for module, live in pairs})
        for module, live in pairs:
            vars(module).update(live.own_state())  # its mode, for example


def _replace(model: nn.Module, replacements: dict[int, nn.Module]) -> None:
    """Replace submodules, given by identity, in every module that holds them."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[name] = replacements[id(child)]


def _live_weight(weight: Tensor, rows: LiveRange, columns: LiveRange) -> Tensor:
    # Narrowing would fill the gradient with zeros once per axis, then copy it into the memory
    # format of the weight.
    height, width = weight.shape[2:]
    left, right = columns.first, width - columns.first - columns.count
    top, bottom = rows.first, height - rows.first - rows.count
    return nn.functional.pad(weight, (-left, -right, -top, -bottom))


def _live_parts(call: Call) -> Parts | None:
    """Return the live parts of a kernel in one call, or None if it is not to be replaced."""
    module = call.module
    if not _is_plain(module):
        return None
    axes = module_tap_geometry(module, call.input_size, call.output_size)
    rows, columns = (axis.live_range() for axis in axes)
    return None if (rows.count, columns.count) == module.kernel_size else (rows, columns)


def _is_plain(module: _ConvNd) -> bool:
    # A subclass, or a weight computed from other parameters, may behave differently.
    if type(module) is not nn.Conv2d or stored_weight(module) is None:
        return False
    if module.padding_mode != "zeros":
        return False
    # An odd number of zeros puts one more behind than in front.
    return module.padding != "same" or all(
        dilation * (taps - 1) % 2 == 0
        for dilation, taps in zip(module.dilation, module.kernel_size, strict=True)
    )
