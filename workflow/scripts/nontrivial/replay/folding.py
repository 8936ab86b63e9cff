"""Convolution and batch normalization folded into one convolution, in evaluation mode."""

from dataclasses import replace

import torch
from torch import Tensor

from nontrivial.replay.graph import Graph, Kind, Operation


def fold(graph: Graph) -> Graph:
    """Return the graph with normalizations folded into the convolutions before them.

    A convolution whose result anything else reads stays as it is. The folded convolution takes
    the normalization's index, so no other index changes and nothing reads the bare one.
    """
    operations = list(graph.operations)
    readers = graph.readers()
    for index, operation in enumerate(operations):
        if operation.kind is not Kind.NORMALIZATION:
            continue
        (read,) = operation.inputs
        convolution = graph.operations[read]  # bare: of two in a row only the first is folded
        alone = readers[read] == [index] and read != graph.output
        if convolution.kind is Kind.CONVOLUTION and alone:
            operations[index] = replace(convolution, normalization=operation.normalization)
    return replace(graph, operations=operations)


def folded_parameters(
    operation: Operation, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return (weight, bias) of a convolution with its normalization folded in.

    Args:
        operation: a convolution, folded or bare.
        weight: its own weight.
        bias: its own bias, or None.
        dtype: of the result; the folding itself is computed in float64.
    """
    options = operation.options
    weight = weight.detach().double()
    channels = weight.shape[1] * options.groups if options.transposed else weight.shape[0]
    bias = weight.new_zeros(channels) if bias is None else bias.detach().double()
    if operation.normalization is not None:
        scale, shift = operation.normalization.scale_and_shift()
        weight = weight * _per_output_channel(scale, operation, weight)
        bias = bias * scale + shift
    return weight.to(dtype), bias.to(dtype)


def _per_output_channel(scale: Tensor, operation: Operation, weight: Tensor) -> Tensor:
    """Return the scale of each output channel, shaped to multiply the weight."""
    ones = (1,) * (weight.ndim - 2)
    if not operation.options.transposed:
        return scale.view(-1, 1, *ones)
    # The weight is (in, out / groups, ...), with the inputs of one group after those of another.
    groups = operation.options.groups
    per_group = scale.view(groups, 1, -1, *ones)
    expanded = per_group.expand(groups, weight.shape[0] // groups, weight.shape[1], *ones)
    return expanded.reshape(weight.shape[0], weight.shape[1], *ones)
