"""A network as a graph of operations, whichever tracer it came from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor


class UntraceableError(Exception):
    """The network cannot be expressed as a graph; the message says why."""


class Kind(Enum):
    """What replay knows about an operation.

    INPUT: the images. PARAMETER: a parameter or buffer, the same for every sample.
    CONVOLUTION, NORMALIZATION (batch normalization with running statistics), RELU and ADD (two
    tensors of one shape) treat every sample independently. SAMPLEWISE: any other operation
    that does. BATCHWISE: all others; each sample of the result may depend on the whole batch.
    """

    INPUT = "input"
    PARAMETER = "parameter"
    CONVOLUTION = "convolution"
    NORMALIZATION = "normalization"
    RELU = "relu"
    ADD = "add"
    SAMPLEWISE = "samplewise"
    BATCHWISE = "batchwise"


ELEMENTWISE = frozenset({Kind.RELU, Kind.ADD})


@dataclass(frozen=True)
class Ref:
    """An argument that is the result of an earlier operation."""

    index: int


@dataclass(frozen=True)
class SymbolicSize:
    """An integer argument that depends on the batch size: ``per_sample`` * size + ``offset``."""

    per_sample: int
    offset: int

    def __call__(self, batch_size: int) -> int:
        """Return the integer for a batch size."""
        return self.per_sample * batch_size + self.offset


BATCH_SIZE = SymbolicSize(1, 0)


@dataclass(frozen=True)
class ConvolutionOptions:
    """Options of a convolution, one value per spatial axis.

    ``output_padding`` is None except for a transposed convolution.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...] | None = None

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return self.output_padding is not None


@dataclass(frozen=True)
class BatchNormalization:
    """Batch normalization in evaluation mode: (x - mean) / sqrt(var + eps) * gamma + beta."""

    mean: Tensor
    var: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return (scale, shift) of x * scale + shift, each (C,) float64."""
        scale = (self.var.double() + self.eps).rsqrt()
        if self.gamma is not None:
            scale = scale * self.gamma.double()
        shift = -self.mean.double() * scale
        return scale, shift if self.beta is None else shift + self.beta.double()


@dataclass(eq=False)
class Operation:
    """One operation.

    Attributes:
        name: of its node in the traced network, for messages.
        kind: what is known about it.
        function: called with args and kwargs, in which :class:`Ref` and :class:`SymbolicSize`
            are placeholders for values. It changes none of its arguments.
        args: positional arguments. Those of a convolution are (images, weight, bias or None).
        kwargs: keyword arguments.
        shape: of one sample of the result; None where the result is not a tensor with the
            samples along dimension 0.
        element_size: bytes per element of the result.
        convolution: options of a convolution.
        normalization: statistics and parameters of a normalization.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    element_size: int = 4
    convolution: ConvolutionOptions | None = None
    normalization: BatchNormalization | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the operations whose results it reads, in the order of its arguments."""
        found = leaves((self.args, self.kwargs))
        return tuple(leaf.index for leaf in found if isinstance(leaf, Ref))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the result, of an operation that has one."""
        assert self.shape is not None, f"{self.name} has no samples"
        return self.shape

    @property
    def options(self) -> ConvolutionOptions:
        """Options of an operation that is a convolution."""
        assert self.convolution is not None, f"{self.name} is not a convolution"
        return self.convolution

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of the result."""
        return torch.Size(self.shape or ()).numel() * self.element_size

    def call(self, values: dict[int, Any], batch_size: int) -> Any:
        """Return the result.

        Args:
            values: results of the operations that it reads, by index.
            batch_size: number of samples in them.
        """
        return self.function(
            *fill(self.args, values, batch_size),
            **{name: fill(value, values, batch_size) for name, value in self.kwargs.items()},
        )


TensorKey = tuple[int, torch.Size, tuple[int, ...], torch.dtype]


def tensor_key(tensor: Tensor) -> TensorKey:
    """Return the address and layout of a tensor; tensors of one key always hold equal values."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def may_share_memory(first: Tensor, second: Tensor) -> bool:
    """Return whether the address ranges of two tensors overlap."""
    (start, end), (other_start, other_end) = _address_range(first), _address_range(second)
    return start < other_end and other_start < end


def _address_range(tensor: Tensor) -> tuple[int, int]:
    reach = sum((s - 1) * step for s, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (reach + 1) * tensor.element_size() * (tensor.numel() > 0)


@dataclass(eq=False)
class Graph:
    """Operations in the order in which they ran.

    Attributes:
        operations: each reads earlier ones only.
        output: index of the operation whose result is the network's.
        parameters: index of each parameter's operation, by :func:`tensor_key`, so that tied
            parameters are one.
        traced_with: ``torch.fx`` or ``torch.export``.
    """

    operations: list[Operation]
    output: int
    parameters: dict[TensorKey, int]
    traced_with: str

    def readers(self) -> list[list[int]]:
        """Return for each operation the indices of those that read its result."""
        readers: list[list[int]] = [[] for _ in self.operations]
        for index, operation in enumerate(self.operations):
            for read in set(operation.inputs):
                readers[read].append(index)
        return readers


def fill(argument: Any, values: dict[int, Any], batch_size: int) -> Any:
    """Return an argument with values in place of its placeholders, also inside containers."""
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, SymbolicSize):
        return argument(batch_size)
    return map_parts(argument, lambda part: fill(part, values, batch_size))


def map_parts(argument: Any, function: Callable[[Any], Any]) -> Any:
    """Return a tuple, list, dictionary or slice with a function applied to each of its parts.

    Anything else is returned unchanged.
    """
    if isinstance(argument, tuple):
        return tuple(function(part) for part in argument)
    if isinstance(argument, list):
        return [function(part) for part in argument]
    if isinstance(argument, dict):
        return {key: function(part) for key, part in argument.items()}
    if isinstance(argument, slice):
        return slice(*(function(p) for p in (argument.start, argument.stop, argument.step)))
    return argument


def leaves(argument: Any) -> Iterator[Any]:
    """Yield what an argument holds, containers inside containers opened."""
    if isinstance(argument, (tuple, list)):
        for part in argument:
            yield from leaves(part)
    elif isinstance(argument, dict):
        for part in argument.values():
            yield from leaves(part)
    elif isinstance(argument, slice):
        yield from (argument.start, argument.stop, argument.step)
    else:
        yield argument


def depends_on_batch_size(argument: Any) -> bool:
    """Return whether an argument holds a :class:`SymbolicSize`."""
    return any(isinstance(leaf, SymbolicSize) for leaf in leaves(argument))
