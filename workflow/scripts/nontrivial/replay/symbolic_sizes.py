"""Integers that are computed from shapes: constants, or functions of the batch size."""

import operator
from typing import Any

import torch
from torch import fx

from nontrivial.replay.graph import SymbolicSize, UntraceableError
from nontrivial.replay.probing import BATCH_SIZES

_SHAPE_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim"})
_SHAPE_METHODS = frozenset({"size", "dim", "ndimension", "numel"})
_SHAPE_FUNCTIONS = frozenset({len, torch.ops.aten.sym_size.int, torch.ops.aten.sym_size.default})
_AFFINE = frozenset(
    {getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.neg}
)


def reads_shape_only(node: fx.Node) -> bool:
    """Return whether a node asks a tensor for its shape, type or device."""
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in _SHAPE_ATTRIBUTES
    return node.op == "call_function" and node.target in _SHAPE_FUNCTIONS


def stays_affine(node: fx.Node) -> bool:
    """Return whether a node keeps affine functions of the batch size affine, at any size."""
    return node.target in _AFFINE


def symbolic_size(name: str, values: list[Any]) -> Any:
    """Return a constant, or an integer as a function of the batch size, from its probed values.

    Args:
        name: of the node, for messages.
        values: a number, or a tuple or list of them, for each size in :data:`BATCH_SIZES`.

    Raises:
        UntraceableError: the value depends on the batch size, but not as an affine function.
    """
    first = values[0]
    if isinstance(first, (tuple, list)):
        if len({len(value) for value in values}) > 1:
            raise UntraceableError(f"{name} has a length that depends on the batch size")
        parts = [symbolic_size(name, list(parts)) for parts in zip(*values, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts
    if all(value == first for value in values):
        return first
    if not all(type(value) is int for value in values):
        raise UntraceableError(f"{name} depends on the batch size and is not an integer")
    per_sample, rest = divmod(values[1] - values[0], BATCH_SIZES[1] - BATCH_SIZES[0])
    size = SymbolicSize(per_sample, values[0] - per_sample * BATCH_SIZES[0])
    if rest or [size(batch_size) for batch_size in BATCH_SIZES] != values:
        raise UntraceableError(f"{name} is not an affine function of the batch size")
    return size
