"""Weights that can meet data: a tap of a kernel that only ever sees padding is dead.

On small maps most taps are: on a map of one pixel, eight of nine taps of a padded 3x3 kernel.
"""

from collections.abc import Iterable

import numpy as np
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nontrivial.network.convolutions import Call, stored_weight


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


def live_mask(call: Call) -> np.ndarray:
    """Return which taps of a convolution's kernel meet data in one call.

    Returns:
        Bool, of the kernel's spatial shape.
    """
    module = call.module
    mask = np.ones((), dtype=bool)
    for axis, taps in enumerate(module.kernel_size):
        if module.padding_mode == "zeros":
            live = live_taps(
                call.input_size[axis],
                call.output_size[axis],
                taps,
                module.stride[axis],
                _front_padding(module, axis),
                module.dilation[axis],
                isinstance(module, _ConvTransposeNd),
            )
        else:  # reflected, replicated or circular padding is data
            live = np.ones(taps, dtype=bool)
        mask = np.multiply.outer(mask, live)
    return mask


def count_weights(calls: Iterable[Call], paths: Iterable[str]) -> tuple[int, int]:
    """Return (live, total) weights of some kernels.

    A tap is live if it meets data in any call of the module, or of one that shares its
    weight; a shared weight counts once.

    Args:
        calls: the convolution calls of a forward pass at the data set's input size.
        paths: module paths of the kernels.
    """
    calls = list(calls)
    chosen = set(paths)
    weights = {
        id(weight): weight
        for weight in (stored_weight(call.module) for call in calls if call.path in chosen)
    }
    live = total = 0
    for weight in weights.values():
        masks = [live_mask(call) for call in calls if stored_weight(call.module) is weight]
        pairs = weight.shape[0] * weight.shape[1]  # of input and output channels
        live += pairs * int(np.logical_or.reduce(masks).sum())
        total += weight.numel()
    return live, total


def _front_padding(module: _ConvNd, axis: int) -> int:
    if module.padding == "valid":
        return 0
    if module.padding == "same":
        # torch puts the odd one of an uneven number behind.
        return module.dilation[axis] * (module.kernel_size[axis] - 1) // 2
    return module.padding[axis]
