"""Convolutions of 3x3 taps by Winograd's transforms along both axes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nontrivial.networks.tap_geometry import TapGeometry
from nontrivial.replay.winograd_transforms import AxisTransform, axis_transform

# Cost relative to the products of a direct convolution, fitted to 16 shapes of ResNets and
# PSPNets on two EPYC cores.
_PER_PRODUCT = 1.25  # of small matrix products
_PER_ELEMENT = 30.0  # per element that the transforms write
_SMALL = 2  # largest side of a map on which a direct convolution runs at half the rate
_JOINT_POSITIONS = 16  # positions up to which both axes are transformed by one matrix
_CHUNK_BYTES = 16 << 20  # of transformed inputs at a time


@dataclass(frozen=True)
class TensorOptions:
    """Device and type that convolutions are computed in."""

    device: torch.device
    dtype: torch.dtype


class Workspace:
    """Memory for intermediate results, reused from one convolution to the next."""

    def __init__(self) -> None:
        """Start empty."""
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the buffer of a name in a shape; its contents are undefined."""
        count = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < count or buffer.dtype != like.dtype:
            buffer = torch.empty(count, dtype=like.dtype, device=like.device)
            self._buffers[name] = buffer
        return buffer[:count].view(shape)


def is_faster(
    inputs: tuple[int, ...], outputs: tuple[int, ...], dilation: int, options: TensorOptions
) -> bool:
    """Return whether Winograd's transforms are faster than torch's convolution, on two EPYC cores.

    Always False on a GPU, where cuDNN chooses among such algorithms itself.

    Args:
        inputs: shape of one sample of the input, (C, H, W).
        outputs: shape of one sample of the output, (C', H, W).
        dilation: step between taps, equal to the padding.
        options: of the computation.
    """
    if options.device.type != "cpu":
        return False
    channels, height, width = inputs
    rows, columns = axis_transform(height, dilation), axis_transform(width, dilation)
    if options.dtype != torch.float32 and not (rows.exact and columns.exact):
        return False
    half, whole = rows.products * width, rows.products * columns.products
    elements = (channels + outputs[0]) * (height * width + half + whole)
    winograd = _PER_PRODUCT * whole * channels * outputs[0] + _PER_ELEMENT * elements
    live = _live_products(height, dilation) * _live_products(width, dilation)
    direct = live * channels * outputs[0] * (2 if max(height, width) <= _SMALL else 1)
    return winograd < direct


def _live_products(length: int, dilation: int) -> int:
    axis = TapGeometry(length, length, taps=3, stride=1, padding=dilation, dilation=dilation)
    return int(axis.uses().sum())


class WinogradConvolution:
    """A convolution of 3x3 taps, padded by its dilation, from images (N, C, H, W) to (N, C', H, W).

    It computes with the spatial axes outermost in memory, and returns such tensors.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        size: tuple[int, int],
        dilation: int,
        workspace: Workspace,
    ):
        """Transform the kernel.

        Args:
            weight: (C', C, 3, 3).
            bias: (C',).
            size: (height, width) of the map.
            dilation: step between taps, equal to the padding.
            workspace: for intermediate results.
        """
        self._workspace = workspace
        self._bias = bias
        self._rows, self._columns = (axis_transform(length, dilation) for length in size)
        kernel = torch.einsum(
            "ay,bx,oiyx->abio",
            torch.from_numpy(self._rows.kernel).to(weight.device),
            torch.from_numpy(self._columns.kernel).to(weight.device),
            weight.double(),
        )
        self._kernel = kernel.to(weight.dtype).contiguous()
        self._jointly = size[0] * size[1] <= _JOINT_POSITIONS
        data, output = _axis_matrices(self._rows, self._columns)
        if self._jointly:
            data, output = _joint_matrices(self._rows, self._columns)
        self._data, self._output = (
            [torch.from_numpy(np.ascontiguousarray(matrix)).to(weight) for matrix in matrices]
            for matrices in (data, output)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return the convolution of a batch, computed in chunks of bounded memory."""
        maps = images.permute(2, 3, 0, 1)
        height, width, count, channels = maps.shape
        products = self._rows.products * self._columns.products
        widest = max(channels, self._kernel.shape[-1])
        chunk = max(1, _CHUNK_BYTES // (products * widest * images.element_size()))
        convolve = self._convolve_jointly if self._jointly else self._convolve_by_axis
        if count <= chunk:
            return convolve(maps.contiguous()).permute(2, 3, 0, 1)
        chunk = -(-count // -(-count // chunk))  # chunks of equal size
        out = images.new_empty(height, width, count, self._kernel.shape[-1])
        for first in range(0, count, chunk):
            part = maps[:, :, first : first + chunk].contiguous()
            out[:, :, first : first + chunk] = convolve(part)
        return out.permute(2, 3, 0, 1)

    def _convolve_jointly(self, maps: Tensor) -> Tensor:
        height, width, count, channels = maps.shape
        out = self._kernel.shape[-1]
        (data,), (output,) = self._data, self._output
        products = len(data)
        kernel = self._kernel.flatten(0, 1)
        factors = self._workspace.take("factors", (products, count * channels), maps)
        torch.mm(data, maps.view(height * width, -1), out=factors)
        found = self._workspace.take("products", (products + 1, count * out), maps)
        torch.bmm(
            factors.view(len(kernel), -1, channels),
            kernel,
            out=found[:products].view(len(kernel), -1, out),
        )
        found[products].view(count, out).copy_(self._bias)
        return torch.mm(output, found).view(height, width, count, out)

    def _convolve_by_axis(self, maps: Tensor) -> Tensor:
        height, width, count, channels = maps.shape
        out = self._kernel.shape[-1]
        rows, columns = self._rows.products, self._columns.products
        take = self._workspace.take
        half = take("products", (rows, width * count * channels), maps)
        torch.mm(self._data[0], maps.view(height, -1), out=half)
        factors = take("factors", (rows, columns, count * channels), maps)
        torch.bmm(self._data[1].expand(rows, -1, -1), half.view(rows, width, -1), out=factors)
        found = take("products", (rows, columns, count * out), maps)
        kernels = self._kernel.shape[1]
        for row in range(rows):
            torch.bmm(
                factors[row].view(kernels, -1, channels),
                self._kernel[row // self._rows.tiles],
                out=found[row].view(kernels, -1, out),
            )
        half = take("factors", (rows, width, count * out), maps)
        torch.bmm(self._output[1].expand(rows, -1, -1), found, out=half)
        result = torch.mm(self._output[0], half.view(rows, -1)).view(height, width, count, out)
        return result.add_(self._bias)


Matrices = tuple[list[np.ndarray], list[np.ndarray]]  # of the inputs, of the outputs


def _axis_matrices(rows: AxisTransform, columns: AxisTransform) -> Matrices:
    return [rows.data, columns.data], [rows.output, columns.output]


def _joint_matrices(rows: AxisTransform, columns: AxisTransform) -> Matrices:
    """Return the matrices that transform both axes at once.

    Products are in the order (row kernel, column kernel, row tile, column tile), so that each
    pair of kernel rows is one matrix product. The last product is always the bias.
    """
    order = np.arange(rows.products * columns.products)
    grid = order.reshape(len(rows.kernel), rows.tiles, len(columns.kernel), columns.tiles)
    order = grid.transpose(0, 2, 1, 3).ravel()
    output = np.kron(rows.output, columns.output)[:, order]
    output = np.pad(output, ((0, 0), (0, 1)), constant_values=1)
    return [np.kron(rows.data, columns.data)[order]], [output]
