"""How a convolution of fixed weights is computed: the fastest way that is exact for its map.

``direct``: torch's own. ``dense``: a map of one output place is one matrix product over the
places that its taps meet. ``pointwise``: one tap, a matrix product over channels.
``filtered``: three by three taps by minimal filtering, where that is faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nontrivial.networks.live_taps import live_part
from nontrivial.replay.graph import Filter, Operation
from nontrivial.replay.minimal_filtering import Axis, axis

# What minimal filtering costs, in products of a direct convolution's rate: fitted to 16 shapes
# of ResNets and PSPNets on two EPYC cores.
_PER_PRODUCT = 1.25  # its matrix products are small ones
_PER_MOVE = 30.0  # an element written by its sums
_TINY = 2  # places a side of a map on which a direct convolution is half as fast
_KRONECKER = 16  # places up to which both axes are transformed in one product
_CHUNK = 16 << 20  # bytes of factors that are made at a time

_DIRECT = {
    1: torch.nn.functional.conv1d,
    2: torch.nn.functional.conv2d,
    3: torch.nn.functional.conv3d,
}


@dataclass(frozen=True)
class Place:
    """Where and in which numbers convolutions are computed."""

    device: torch.device
    dtype: torch.dtype


class Scratch:
    """Memory for what a convolution needs in between, kept from one to the next."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return memory of that name; what it held is lost."""
        count = int(np.prod(shape))
        held = self._held.get(name)
        if held is None or held.numel() < count or held.dtype != like.dtype:
            held = self._held[name] = torch.empty(count, dtype=like.dtype, device=like.device)
        return held[:count].view(shape)


Convolution = Callable[[Tensor], Tensor]


def prepare(
    operation: Operation,
    weight: Tensor,
    bias: Tensor,
    inputs: tuple[int, ...],
    place: Place,
    scratch: Scratch,
) -> Convolution:
    """Return a function from images (N, C, ...) to (N, C', ...).

    Args:
        operation: the convolution, which knows the shape that it puts out.
        weight: folded, in the place's type, on its device.
        bias: folded, (C',).
        inputs: shape of one row that it reads, (C, ...).
        place: where.
        scratch: to work in.
    """
    numbers, outputs = operation.filter, operation.shape
    if numbers.transposed:
        return _as_called(operation, weight, bias)
    if numbers.groups == 1 and len(inputs) == 3:
        if outputs[1:] == (1, 1) and _is_met(weight, inputs, numbers):
            return _dense(weight, bias, inputs, numbers)
        # Where its neighbours are filtered their places lie outermost, and so may its own.
        if _is_pointwise(weight, numbers) and _filters(outputs, outputs, 1, place):
            return _pointwise(weight, bias, outputs, numbers)
        dilation = _same_size(weight, numbers)
        if dilation and _filters(inputs, outputs, dilation, place):
            axes = axis(inputs[1], dilation), axis(inputs[2], dilation)
            return _Filtered(weight, bias, *axes, scratch)
    return _direct(weight, bias, inputs, numbers)


def channels_last(tensor: Tensor) -> Tensor:
    """Return images, or weights of a convolution over them, with channels innermost in memory."""
    if tensor.ndim != 4:
        return tensor.contiguous()
    return tensor.contiguous(memory_format=torch.channels_last)


def _as_called(operation: Operation, weight: Tensor, bias: Tensor) -> Convolution:
    return lambda images: operation.function(images, weight, bias)


def _direct(weight: Tensor, bias: Tensor, inputs: tuple[int, ...], numbers: Filter) -> Convolution:
    axes = (inputs[1:], weight.shape[2:], numbers.stride, numbers.padding, numbers.dilation)
    parts = [live_part(*axis) for axis in zip(*axes, strict=True)]
    for side, part in enumerate(parts, start=2):
        weight = weight.narrow(side, part.first, part.count)
    weight = channels_last(weight)
    function = _DIRECT[len(parts)]
    padding = tuple(part.padding for part in parts)
    dilation = tuple(part.dilation for part in parts)
    after = (numbers.stride, padding, dilation, numbers.groups)
    return lambda images: function(channels_last(images), weight, bias, *after)


def _dense(weight: Tensor, bias: Tensor, inputs: tuple[int, ...], numbers: Filter) -> Convolution:
    channels, height, width = inputs
    met, taps = [], []
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            row = y * numbers.dilation[0] - numbers.padding[0]
            column = x * numbers.dilation[1] - numbers.padding[1]
            if 0 <= row < height and 0 <= column < width:
                met.append(row * width + column)
                taps.append(weight[:, :, y, x])
    # Channels innermost, as the convolution before leaves them.
    matrix = torch.stack(taps).permute(0, 2, 1).reshape(-1, weight.shape[0]).contiguous()
    everywhere = met == list(range(height * width))
    chosen = torch.tensor(met, device=weight.device)

    def convolve(images: Tensor) -> Tensor:
        places = images.permute(0, 2, 3, 1).reshape(len(images), -1, channels)
        if not everywhere:
            places = places.index_select(1, chosen)
        return torch.addmm(bias, places.flatten(1), matrix)[:, :, None, None]

    return convolve


def _is_met(weight: Tensor, inputs: tuple[int, ...], numbers: Filter) -> bool:
    """Return whether some tap of a map of one output place meets data."""
    return all(
        any(0 <= tap * step - before < length for tap in range(taps))
        for taps, step, before, length in zip(
            weight.shape[2:], numbers.dilation, numbers.padding, inputs[1:], strict=True
        )
    )


def _is_pointwise(weight: Tensor, numbers: Filter) -> bool:
    return weight.shape[2:] == (1, 1) and not any(numbers.padding)


def _pointwise(
    weight: Tensor, bias: Tensor, outputs: tuple[int, ...], numbers: Filter
) -> Convolution:
    matrix = weight.flatten(1).t().contiguous()

    def convolve(images: Tensor) -> Tensor:
        places = images.permute(2, 3, 0, 1)[:: numbers.stride[0], :: numbers.stride[1]]
        height, width, rows, channels = places.shape
        out = torch.addmm(bias, places.reshape(-1, channels), matrix)
        return out.view(height, width, rows, -1).permute(2, 3, 0, 1)

    return convolve


def _same_size(weight: Tensor, numbers: Filter) -> int | None:
    """Return the dilation of three by three taps that keep the size of the map, or None."""
    dilation = numbers.dilation[0]
    same = (
        weight.shape[2:] == (3, 3)
        and numbers.stride == (1, 1)
        and numbers.dilation == (dilation, dilation) == numbers.padding
    )
    return dilation if same else None


def _filters(
    inputs: tuple[int, ...], outputs: tuple[int, ...], dilation: int, place: Place
) -> bool:
    """Return whether minimal filtering is faster than torch's convolution, on two EPYC cores.

    On a GPU torch's library chooses among such algorithms itself.
    """
    if place.device.type != "cpu":
        return False
    axes = [axis(length, dilation) for length in inputs[1:]]
    if place.dtype != torch.float32 and not all(part.exact for part in axes):
        return False
    channels, height, width = inputs
    half, whole = axes[0].products * width, axes[0].products * axes[1].products
    moves = (channels + outputs[0]) * (height * width + half + whole)
    filtered = _PER_PRODUCT * whole * channels * outputs[0] + _PER_MOVE * moves
    live = _live_products(height, dilation) * _live_products(width, dilation)
    direct = live * channels * outputs[0] * (2 if max(height, width) <= _TINY else 1)
    return filtered < direct


def _live_products(length: int, dilation: int) -> int:
    """Return how often one of three taps meets data along an axis."""
    return length + 2 * max(0, length - dilation)


class _Filtered:
    """Three by three taps by minimal filtering along both axes."""

    def __init__(self, weight: Tensor, bias: Tensor, rows: Axis, columns: Axis, scratch: Scratch):
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(weight)

        self._rows, self._columns = rows, columns
        self._scratch = scratch
        self._bias = bias
        places = rows.output.shape[0] * columns.output.shape[0]
        kernel = torch.einsum(
            "ay,bx,oiyx->abio",
            torch.from_numpy(rows.kernel).to(weight.device),
            torch.from_numpy(columns.kernel).to(weight.device),
            weight.double(),
        )
        self._kernel = kernel.to(weight.dtype).contiguous()
        self._both = places <= _KRONECKER
        if self._both:
            # Tiles of both axes together, behind the kernel rows of both.
            order = _kernel_rows_first(rows, columns)
            self._data = tensor(np.kron(rows.data, columns.data)[order])
            # One more product, always the bias.
            self._output = tensor(
                np.pad(
                    np.kron(rows.output, columns.output)[:, order],
                    ((0, 0), (0, 1)),
                    constant_values=1,
                )
            )
        else:
            self._data = tensor(rows.data), tensor(columns.data)
            self._output = tensor(rows.output), tensor(columns.output)

    def __call__(self, images: Tensor) -> Tensor:
        places = images.permute(2, 3, 0, 1)
        height, width, count, channels = places.shape
        products = self._rows.products * self._columns.products
        wide = max(channels, self._kernel.shape[-1])
        chunk = max(1, _CHUNK // (products * wide * images.element_size()))
        if count <= chunk:
            return self._convolve(places.contiguous()).permute(2, 3, 0, 1)
        chunk = -(-count // -(-count // chunk))  # equal ones
        out = images.new_empty(height, width, count, self._kernel.shape[-1])
        for first in range(0, count, chunk):
            part = places[:, :, first : first + chunk].contiguous()
            out[:, :, first : first + chunk] = self._convolve(part)
        return out.permute(2, 3, 0, 1)

    def _convolve(self, places: Tensor) -> Tensor:
        return self._together(places) if self._both else self._one_by_one(places)

    def _together(self, places: Tensor) -> Tensor:
        height, width, count, channels = places.shape
        out = self._kernel.shape[-1]
        products = len(self._data)
        kernel = self._kernel.flatten(0, 1)
        factors = self._scratch.take("factors", (products, count * channels), places)
        torch.mm(self._data, places.view(height * width, -1), out=factors)
        found = self._scratch.take("products", (products + 1, count * out), places)
        torch.bmm(
            factors.view(len(kernel), -1, channels),
            kernel,
            out=found[:products].view(len(kernel), -1, out),
        )
        found[products].view(count, out).copy_(self._bias)
        return torch.mm(self._output, found).view(height, width, count, out)

    def _one_by_one(self, places: Tensor) -> Tensor:
        height, width, count, channels = places.shape
        out = self._kernel.shape[-1]
        rows, columns = self._rows.products, self._columns.products
        take = self._scratch.take
        half = take("products", (rows, width * count * channels), places)
        torch.mm(self._data[0], places.view(height, -1), out=half)
        factors = take("factors", (rows, columns, count * channels), places)
        torch.bmm(self._data[1].expand(rows, -1, -1), half.view(rows, width, -1), out=factors)
        found = take("products", (rows, columns, count * out), places)
        kernels = self._kernel.shape[1]
        for row in range(rows):
            torch.bmm(
                factors[row].view(kernels, -1, channels),
                self._kernel[row // self._rows.tiles],
                out=found[row].view(kernels, -1, out),
            )
        half = take("factors", (rows, width, count * out), places)
        torch.bmm(self._output[1].expand(rows, -1, -1), found, out=half)
        result = torch.mm(self._output[0], half.view(rows, -1)).view(height, width, count, out)
        return result.add_(self._bias)


def _kernel_rows_first(rows: Axis, columns: Axis) -> np.ndarray:
    """Return the order (row kernel, column kernel, row tile, column tile) of products."""
    order = np.arange(rows.products * columns.products)
    order = order.reshape(len(rows.kernel), rows.tiles, len(columns.kernel), columns.tiles)
    return order.transpose(0, 2, 1, 3).ravel()
