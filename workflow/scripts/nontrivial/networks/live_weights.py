"""Weights that can meet data at an input size: those of live taps."""

from collections.abc import Iterable
from functools import reduce

import numpy as np

from nontrivial.networks.convolutions import Call, stored_weight
from nontrivial.networks.tap_geometry import module_tap_geometry


def live_mask(call: Call) -> np.ndarray:
    """Return which taps of a convolution's kernel meet data in one call.

    Returns:
        Bool, of the kernel's spatial shape.
    """
    axes = module_tap_geometry(call.module, call.input_size, call.output_size)
    return reduce(np.multiply.outer, [axis.live() for axis in axes])


def count_weights(calls: Iterable[Call], paths: Iterable[str]) -> tuple[int, int]:
    """Return (live, total) numbers of weights of some kernels.

    A tap is live if it meets data in any call of the module, or of a module that shares its
    weight. A shared weight counts once.

    Args:
        calls: the convolution calls of a forward pass at the data set's input size.
        paths: module paths of the kernels, each with a stored weight.
    """
    calls = list(calls)
    chosen = set(paths)
    weights = {
        id(weight): weight
        for call in calls
        if call.path in chosen and (weight := stored_weight(call.module)) is not None
    }
    live = total = 0
    for weight in weights.values():
        masks = [live_mask(call) for call in calls if stored_weight(call.module) is weight]
        channel_pairs = weight.shape[0] * weight.shape[1]
        live += channel_pairs * int(np.logical_or.reduce(masks).sum())
        total += weight.numel()
    return live, total
