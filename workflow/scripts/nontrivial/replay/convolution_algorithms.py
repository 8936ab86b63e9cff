"""How a convolution of fixed parameters is computed: by the fastest algorithm for its map.

``direct``: torch's own, without dead taps. ``dense``: on a map of one output position, one
matrix product over the pixels that its taps meet. ``pointwise``: of a single tap, a matrix
product over channels. Winograd's: of 3x3 taps, where that is faster.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nontrivial.networks.misread import row_major
from nontrivial.networks.tap_geometry import TapGeometry
from nontrivial.replay import winograd
from nontrivial.replay.graph import ConvolutionOptions, Operation
from nontrivial.replay.winograd import TensorOptions, WinogradConvolution, Workspace

_FUNCTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

Convolution = Callable[[Tensor], Tensor]


def choose_algorithm(
    operation: Operation,
    weight: Tensor,
    bias: Tensor,
    axes: tuple[TapGeometry, ...],
    options: TensorOptions,
    workspace: Workspace,
) -> Convolution:
    """Return the convolution as a function from images (N, C, ...) to (N, C', ...).

    Args:
        operation: the convolution, which knows the shape of its result.
        weight: folded, in the type and on the device of the options.
        bias: folded, (C',).
        axes: how its taps meet data.
        options: device and type of the computation.
        workspace: for intermediate results.
    """
    convolution, outputs = operation.options, operation.sample_shape
    if convolution.transposed:
        return _as_called(operation, weight, bias)
    if convolution.groups == 1 and len(axes) == 2:
        size = axes[0].length, axes[1].length
        if outputs[1:] == (1, 1) and all(axis.live().any() for axis in axes):
            return _dense(weight, bias, axes)
        # Next to Winograd's, spatial axes are outermost in memory, which suits pointwise too.
        if _is_pointwise(axes) and winograd.is_faster(outputs, outputs, 1, options):
            return _pointwise(weight, bias, convolution.stride)
        dilation = _same_size_dilation(axes)
        inputs = (weight.shape[1], *size)
        if dilation and winograd.is_faster(inputs, outputs, dilation, options):
            return WinogradConvolution(weight, bias, size, dilation, workspace)
    return _direct(weight, bias, axes, convolution)


def channels_last(tensor: Tensor) -> Tensor:
    """Return images, or weights of a 2-D convolution, with channels innermost in memory."""
    if tensor.ndim != 4:
        return row_major(tensor)
    return tensor.contiguous(memory_format=torch.channels_last)


def _as_called(operation: Operation, weight: Tensor, bias: Tensor) -> Convolution:
    return lambda images: operation.function(images, weight, bias)


def _direct(
    weight: Tensor, bias: Tensor, axes: tuple[TapGeometry, ...], options: ConvolutionOptions
) -> Convolution:
    live = [axis.live_range() for axis in axes]
    for dim, part in enumerate(live, start=2):
        weight = weight.narrow(dim, part.first, part.count)
    weight = channels_last(weight)
    function = _FUNCTIONS[len(axes)]
    padding = tuple(part.padding for part in live)
    dilation = tuple(part.dilation for part in live)
    rest = (options.stride, padding, dilation, options.groups)
    return lambda images: function(channels_last(images), weight, bias, *rest)


def _dense(weight: Tensor, bias: Tensor, axes: tuple[TapGeometry, ...]) -> Convolution:
    rows, columns = axes
    channels = weight.shape[1]
    # With one output position a live tap reads one pixel of the map.
    met, taps = [], []
    for y in np.flatnonzero(rows.live()).tolist():
        for x in np.flatnonzero(columns.live()).tolist():
            row = y * rows.dilation - rows.padding
            column = x * columns.dilation - columns.padding
            met.append(row * columns.length + column)
            taps.append(weight[:, :, y, x])
    # Channels innermost, as the convolution before leaves them.
    matrix = torch.stack(taps).permute(0, 2, 1).reshape(-1, weight.shape[0]).contiguous()
    everywhere = met == list(range(rows.length * columns.length))
    chosen = torch.tensor(met, device=weight.device)

    def convolve(images: Tensor) -> Tensor:
        pixels = images.permute(0, 2, 3, 1).reshape(len(images), -1, channels)
        if not everywhere:
            pixels = pixels.index_select(1, chosen)
        return torch.addmm(bias, pixels.flatten(1), matrix)[:, :, None, None]

    return convolve


def _is_pointwise(axes: tuple[TapGeometry, ...]) -> bool:
    return all(axis.taps == 1 and axis.padding == 0 for axis in axes)


def _pointwise(weight: Tensor, bias: Tensor, stride: tuple[int, ...]) -> Convolution:
    matrix = weight.flatten(1).t().contiguous()

    def convolve(images: Tensor) -> Tensor:
        pixels = images.permute(2, 3, 0, 1)[:: stride[0], :: stride[1]]
        height, width, count, channels = pixels.shape
        out = torch.addmm(bias, pixels.reshape(-1, channels), matrix)
        return out.view(height, width, count, -1).permute(2, 3, 0, 1)

    return convolve


def _same_size_dilation(axes: tuple[TapGeometry, ...]) -> int | None:
    """Return the dilation of 3x3 taps that keep the size of the map; None for any others."""
    dilation = axes[0].dilation
    same = all(
        (axis.taps, axis.stride, axis.padding, axis.dilation) == (3, 1, dilation, dilation)
        for axis in axes
    )
    return dilation if same else None
