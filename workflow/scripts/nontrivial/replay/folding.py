"""Convolution and batch normalization as one operation, in evaluation mode."""

from dataclasses import replace

import torch
from torch import Tensor

from nontrivial.replay.graph import Graph, Kind, Operation


def fold(graph: Graph) -> Graph:
    """Return the graph with every normalization that alone reads a convolution folded into it.

    The folded convolution stands at the normalization's index, so no other index changes;
    nothing reads the bare one any more.
    """
    operations = list(graph.operations)
    users = graph.users()
    for index, operation in enumerate(operations):
        if operation.kind is not Kind.NORMALIZATION:
            continue
        (read,) = operation.inputs
        convolution = graph.operations[read]  # bare: of two in a row only the first is folded
        alone = users[read] == [index] and read != graph.output
        if convolution.kind is Kind.CONVOLUTION and alone:
            operations[index] = replace(convolution, normalization=operation.normalization)
    return replace(graph, operations=operations)


def weight_and_bias(operation: Operation, weight: Tensor, bias: Tensor | None, dtype: torch.dtype):
    """Return the weight and bias of a convolution with its normalization folded in.

    Args:
        operation: a convolution, folded or bare.
        weight: its own weight.
        bias: its own bias, or None.
        dtype: of the result; the folding itself is done in float64.

    Returns:
        (weight, bias); the bias is there always.
    """
    weight = weight.detach().double()
    out = 1 if operation.filter.transposed else 0
    channels = weight.shape[out] * (operation.filter.groups if operation.filter.transposed else 1)
    bias = weight.new_zeros(channels) if bias is None else bias.detach().double()
    if operation.normalization is not None:
        scale, shift = operation.normalization.scale_and_shift()
        weight = weight * _per_output(scale, operation, weight)
        bias = bias * scale + shift
    return weight.to(dtype), bias.to(dtype)


def _per_output(scale: Tensor, operation: Operation, weight: Tensor) -> Tensor:
    """Return the scale of each output channel, shaped to multiply the weight."""
    ones = (1,) * (weight.ndim - 2)
    if not operation.filter.transposed:
        return scale.view(-1, 1, *ones)
    # (in, out / groups, ...): the groups' inputs follow each other.
    groups = operation.filter.groups
    per_group = scale.view(groups, 1, -1, *ones)
    spread = per_group.expand(groups, weight.shape[0] // groups, weight.shape[1], *ones)
    return spread.reshape(weight.shape[0], weight.shape[1], *ones)
