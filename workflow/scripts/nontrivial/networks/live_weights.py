"""Weights that can meet data at an input size: those of taps that do not only see padding."""

from collections.abc import Iterable

import numpy as np
from torch.nn.modules.conv import _ConvTransposeNd

from nontrivial.networks.convolutions import Call, stored_weight
from nontrivial.networks.live_taps import front_padding, live_taps


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
                front_padding(module, axis),
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
