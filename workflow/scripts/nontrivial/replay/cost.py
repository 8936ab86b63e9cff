"""Multiply-accumulates of convolutions and linear layers, the bulk of the work."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nontrivial.replay.graph import Graph, Kind, Operation
from nontrivial.replay.samplewise import listed_name
from nontrivial.replay.value_numbering import Samples, Values, convolution_geometry


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates per sample, of all taps and of live taps only.

    The product of a tap with padding is zero; all others are live.

    Attributes:
        passes: of one full pass per target, the naive loop.
        clean: of what no zeroed kernel reaches, computed once for all targets.
        recomputed: of what depends on a zeroed kernel.
        live_passes: live ones of ``passes``.
        live_clean: live ones of ``clean``.
        live_recomputed: live ones of ``recomputed``.
    """

    passes: int
    clean: int
    recomputed: int
    live_passes: int
    live_clean: int
    live_recomputed: int


def count_multiply_accumulates(graph: Graph, values: Values) -> Cost:
    """Return the cost of one sample.

    Args:
        graph: of the network.
        values: of the targets. Those that are the same for every sample cost nothing.
    """
    products = [_products(graph, operation) for operation in graph.operations]
    clean_values = values.needed_clean()
    reached = {values.table[number].operation for number in clean_values}
    clean = [0, 0]
    recomputed = [0, 0]
    for number in values.needed():
        value = values.table[number]
        if value.samples is Samples.ALL:
            sums = clean if number in clean_values else recomputed
            for which in (0, 1):
                sums[which] += products[value.operation][which]
    one_pass = [sum(products[index][which] for index in reached) for which in (0, 1)]
    targets = len(values.outputs)
    return Cost(
        targets * one_pass[0],
        clean[0],
        recomputed[0],
        targets * one_pass[1],
        clean[1],
        recomputed[1],
    )


def _products(graph: Graph, operation: Operation) -> tuple[int, int]:
    """Return the multiply-accumulates of one operation and sample: (all taps, live taps)."""
    if operation.kind is Kind.CONVOLUTION:
        weight = graph.operations[operation.inputs[1]].function()
        # Each weight is used at every output position; in a transposed convolution, input position.
        images = graph.operations[operation.inputs[0]]
        positions = (images if operation.options.transposed else operation).sample_shape[1:]
        live = weight.shape[0] * weight.shape[1]
        for axis in convolution_geometry(graph, operation):
            live *= int(axis.uses().sum())
        return weight.numel() * torch.Size(positions).numel(), live
    linear = _linear_weight(graph, operation)
    if linear is None or operation.shape is None:
        return 0, 0
    products = torch.Size(operation.shape).numel() * linear.shape[1]
    return products, products


def _linear_weight(graph: Graph, operation: Operation) -> Tensor | None:
    if isinstance(operation.function, nn.Linear):
        return operation.function.weight
    if operation.kind is Kind.SAMPLEWISE and listed_name(operation.function) == "linear":
        read = graph.operations[operation.inputs[1]]
        return read.function() if read.kind is Kind.PARAMETER else None
    return None
