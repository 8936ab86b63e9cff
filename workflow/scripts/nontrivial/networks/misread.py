"""Convolutions that torch 2.14 may compute from the wrong memory, on a CPU with AVX-512.

Both faults are oneDNN 3.12's, and need images or weights in channels-last memory:

- One input channel per group, an output of one column, a stride of (1, more than 1). oneDNN takes
  a wrong step from one row of the output to the next, so all but the first come from other rows,
  or from uninitialized memory. In fp32 only with one group.
- One tap along an axis with a dilation and a stride. In bf16, this sometimes ends the process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import convolutions


def may_be_misread(module: _ConvNd) -> bool:
    """Return whether torch may compute a convolution from the wrong memory for some map."""
    return may_skip_rows(module) or dilates_one_tap(module)


def may_skip_rows(module: _ConvNd) -> bool:
    """Return whether outputs of one column would be wrong."""
    if not isinstance(module, nn.Conv2d) or module.in_channels != module.groups:
        return False
    return module.kernel_size[1] > 1 and module.stride[0] == 1 < module.stride[1]


def dilates_one_tap(module: _ConvNd) -> bool:
    """Return whether one tap along an axis has a dilation, which has no effect, and a stride."""
    if not isinstance(module, nn.Conv2d):
        return False
    axes = zip(module.kernel_size, module.dilation, module.stride, strict=True)
    return any(taps == 1 and dilation > 1 and stride > 1 for taps, dilation, stride in axes)


@contextmanager
def computed_safely(model: nn.Module) -> Iterator[None]:
    """Run a network that holds such a convolution without oneDNN, inside the block."""
    onednn: Any = torch.backends.mkldnn
    before = onednn.enabled
    if any(map(may_be_misread, convolutions(model).values())):
        onednn.enabled = False
    try:
        yield
    finally:
        onednn.enabled = before
