"""A network as a list of operations, whatever it was traced with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor


class Kind(Enum):
    """What replay knows of an operation.

    IMAGES: the input. PARAMETER: a parameter or buffer, the same for every sample.
    CONVOLUTION, NORMALIZATION, RELU, ADD: as in :mod:`nontrivial.replay.lowering`, by rows.
    ROWWISE: row n of its result depends on row n of its inputs alone. WHOLE: anything else.
    """

    IMAGES = "images"
    PARAMETER = "parameter"
    CONVOLUTION = "convolution"
    NORMALIZATION = "normalization"
    RELU = "relu"
    ADD = "add"
    ROWWISE = "rowwise"
    WHOLE = "whole"


ELEMENTWISE = frozenset({Kind.RELU, Kind.ADD})


@dataclass(frozen=True)
class Ref:
    """An argument that is the result of an earlier operation."""

    index: int


@dataclass(frozen=True)
class Count:
    """An integer argument that follows the batch: ``per_row`` * rows + ``offset``."""

    per_row: int
    offset: int

    def __call__(self, rows: int) -> int:
        """Return the number for so many rows."""
        return self.per_row * rows + self.offset


@dataclass(frozen=True)
class Filter:
    """The numbers of a convolution beside its weight, one per axis.

    ``output_padding`` is None but for a transposed convolution.
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
class Normalization:
    """Batch normalization in evaluation mode: (x - mean) / sqrt(var + eps) * gamma + beta."""

    mean: Tensor
    var: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return it as x * scale + shift, each (C,) float64."""
        scale = (self.var.double() + self.eps).rsqrt()
        if self.gamma is not None:
            scale = scale * self.gamma.double()
        shift = -self.mean.double() * scale
        return scale, shift if self.beta is None else shift + self.beta.double()


@dataclass(eq=False)
class Operation:
    """One operation.

    Attributes:
        name: where it stands in the traced network, for messages.
        kind: what is known of it.
        function: called with args and kwargs, in which :class:`Ref` and :class:`Count` stand
            for values. It changes none of its arguments.
        args: positional arguments.
        kwargs: arguments by name.
        shape: of one row of the result; None where the result is no tensor with a row per
            sample.
        element_size: bytes of an element of the result.
        filter: of a convolution. Its args are (images, weight, bias or None).
        normalization: of a normalization.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    element_size: int = 4
    filter: Filter | None = None
    normalization: Normalization | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """The operations whose results it reads, in the order of its arguments."""
        return tuple(ref.index for ref in _refs((self.args, self.kwargs)))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the result."""
        return torch.Size(self.shape or ()).numel() * self.element_size

    def call(self, values: dict[int, Any], rows: int) -> Any:
        """Return the result.

        Args:
            values: of the operations that it reads, by index.
            rows: number of rows in them.
        """
        return self.function(
            *fill(self.args, values, rows),
            **{name: fill(value, values, rows) for name, value in self.kwargs.items()},
        )


Memory = tuple[int, torch.Size, tuple[int, ...], torch.dtype]


def memory(tensor: Tensor) -> Memory:
    """Return where a tensor lies and how: two that agree hold the same values for ever."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors may lie in the same memory, if only in part."""
    (a, a_end), (b, b_end) = _extent(first), _extent(second)
    return a < b_end and b < a_end


def _extent(tensor: Tensor) -> tuple[int, int]:
    reach = sum((s - 1) * step for s, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (reach + 1) * tensor.element_size() * (tensor.numel() > 0)


@dataclass(eq=False)
class Graph:
    """Operations in the order in which they ran.

    Attributes:
        operations: each reads earlier ones only.
        output: index of the operation whose result is the network's.
        parameters: the index of each parameter's operation, by :func:`memory`, so that tied
            parameters are one.
        traced_with: ``torch.fx`` or ``torch.export``.
    """

    operations: list[Operation]
    output: int
    parameters: dict[Memory, int]
    traced_with: str

    def users(self) -> list[list[int]]:
        """Return for each operation those that read its result."""
        users: list[list[int]] = [[] for _ in self.operations]
        for index, operation in enumerate(self.operations):
            for read in set(operation.inputs):
                users[read].append(index)
        return users


def fill(argument: Any, values: dict[int, Any], rows: int) -> Any:
    """Return an argument with what stands for values replaced by them."""
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, Count):
        return argument(rows)
    if isinstance(argument, tuple):
        return tuple(fill(part, values, rows) for part in argument)
    if isinstance(argument, list):
        return [fill(part, values, rows) for part in argument]
    if isinstance(argument, dict):
        return {key: fill(part, values, rows) for key, part in argument.items()}
    if isinstance(argument, slice):
        return slice(
            *(fill(p, values, rows) for p in (argument.start, argument.stop, argument.step))
        )
    return argument


def leaves(argument: Any) -> Iterator[Any]:
    """Yield what stands in an argument, nested containers opened."""
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


def _refs(argument: Any) -> Iterator[Ref]:
    return (leaf for leaf in leaves(argument) if isinstance(leaf, Ref))
