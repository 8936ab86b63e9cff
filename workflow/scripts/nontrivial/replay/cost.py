"""Multiply-accumulates of convolutions and linear layers: the work that cannot be avoided."""

from dataclasses import dataclass

import torch
from torch import nn

from nontrivial.replay.graph import Graph, Kind, Operation
from nontrivial.replay.rowwise import name_of
from nontrivial.replay.values import Span, Values, tap_uses


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates per sample, with every tap counted and with live ones only.

    A tap that meets padding is a product with zero; only the others are live.

    Attributes:
        passes: of one full pass for every target.
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


def count(graph: Graph, values: Values) -> Cost:
    """Return the cost of one sample.

    Args:
        graph: the network's operations, with the shapes of their results.
        values: of the targets; those that are the same for every sample cost nothing.
    """
    products = [_products(graph, operation) for operation in graph.operations]
    whole = values.clean_ones()
    reached = {values.values[number].operation for number in whole}
    clean = [0, 0]
    recomputed = [0, 0]
    for number in values.needed():
        value = values.values[number]
        if value.span is Span.FULL:
            sums = clean if number in whole else recomputed
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
    """Return (every tap, live taps) of one operation and one row."""
    if operation.kind is Kind.CONVOLUTION:
        weight = graph.operations[operation.inputs[1]].function()
        # A row of the weight meets (transposed: a place of the input feeds) so many places.
        transposed = operation.filter.transposed
        places = graph.operations[operation.inputs[0]].shape if transposed else operation.shape
        every = weight.numel() * torch.Size(places[1:]).numel()
        live = weight.shape[0] * weight.shape[1]
        for uses in tap_uses(graph, operation, tuple(weight.shape[2:])):
            live *= int(uses.sum())
        return every, live
    weight = _linear_weight(graph, operation)
    if weight is None or operation.shape is None:
        return 0, 0
    every = torch.Size(operation.shape).numel() * weight.shape[1]
    return every, every


def _linear_weight(graph: Graph, operation: Operation) -> torch.Tensor | None:
    if isinstance(operation.function, nn.Linear):
        return operation.function.weight
    if operation.kind is Kind.ROWWISE and name_of(operation.function) == "linear":
        read = graph.operations[operation.inputs[1]]
        return read.function() if read.kind is Kind.PARAMETER else None
    return None
