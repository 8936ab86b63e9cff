"""The values that all targets need, each of them once.

A value is an operation together with the values that it reads. Targets that leave everything
before an operation alone read the same values, so they share its result: what is clean is
shared by all, and equal targets share everything. A zeroed kernel puts out its bias whatever
it reads, so nothing before it matters to it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from nontrivial.replay.graph import Count, Graph, Kind, Operation, leaves

OK = "ok"
CUT = "cut"
NO_EFFECT = "no_effect"


class Span(Enum):
    """How many rows a value has.

    BATCHLESS: none, it comes from parameters alone. SINGLE: one, which stands for every
    sample. FULL: one per sample.
    """

    BATCHLESS = "batchless"
    SINGLE = "single"
    FULL = "full"


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        operation: index in the graph.
        inputs: the values that it reads, in the order of the operation's inputs.
        zeroed: whether the operation is a convolution whose kernel is zero, or a parameter
            that is.
        varies: whether it depends on the images.
        span: how many rows it has.
    """

    operation: int
    inputs: tuple[int, ...]
    zeroed: bool
    varies: bool
    span: Span


@dataclass(frozen=True)
class Values:
    """The values of some targets.

    Attributes:
        values: each reads earlier ones only.
        outputs: the value that each target puts out, by name.
        clean: the output with nothing zeroed.
    """

    values: list[Value]
    outputs: dict[str, int]
    clean: int

    def status(self, target: str) -> str:
        """Return ``ok``, ``cut`` (one output for all images) or ``no_effect`` of a target."""
        output = self.outputs[target]
        if output == self.clean:
            return NO_EFFECT
        return OK if self.values[output].varies else CUT

    def needed(self) -> set[int]:
        """Return the values that some target's output rests on."""
        return self._under(list(self.outputs.values()))

    def clean_ones(self) -> set[int]:
        """Return the values of the network with nothing zeroed."""
        return self._under([self.clean])

    def _under(self, waiting: list[int]) -> set[int]:
        found: set[int] = set()
        while waiting:
            value = waiting.pop()
            if value not in found:
                found.add(value)
                waiting.extend(self.values[value].inputs)
        return found


def number(graph: Graph, targets: Mapping[str, Collection[int]], shortcuts: bool) -> Values:
    """Return the values of some targets.

    Args:
        graph: the network's.
        targets: by name, the indices of the parameters that are zero.
        shortcuts: whether to use that a zeroed kernel puts out its bias, that a kernel none
            of whose taps meets data changes nothing, and that one row may stand for all.
            Without, every operation is computed as in a pass over the network.
    """
    values: list[Value] = []
    known: dict[Value, int] = {}

    def intern(made: Value) -> int:
        if made not in known:
            known[made] = len(values)
            values.append(made)
        return known[made]

    def value(
        index: int, operation: Operation, reads: tuple[int, ...], zeroed: frozenset[int]
    ) -> int:
        if operation.kind is Kind.PARAMETER:
            return intern(Value(index, (), index in zeroed, False, Span.BATCHLESS))
        if shortcuts and operation.kind is Kind.CONVOLUTION and values[reads[1]].zeroed:
            # Only its bias matters.
            return intern(Value(index, reads[2:], True, False, Span.SINGLE))
        varies = operation.kind is Kind.IMAGES or any(values[read].varies for read in reads)
        if operation.filter is not None and values[reads[1]].zeroed:
            varies = False  # whatever its rows are
        spans = {values[read].span for read in reads}
        return intern(Value(index, reads, False, varies, _span(operation, spans, shortcuts)))

    def output(zeroed: frozenset[int]) -> int:
        chosen: list[int] = []
        for index, operation in enumerate(graph.operations):
            reads = tuple(chosen[read] for read in operation.inputs)
            chosen.append(value(index, operation, reads, zeroed))
        return chosen[graph.output]

    clean = output(frozenset())
    dead = _dead_parameters(graph) if shortcuts else frozenset()
    outputs = {name: output(frozenset(zeroed) - dead) for name, zeroed in targets.items()}
    return Values(values, outputs, clean)


def _span(operation: Operation, inputs: set[Span], shortcuts: bool) -> Span:
    follows = any(isinstance(leaf, Count) for leaf in leaves((operation.args, operation.kwargs)))
    if inputs == {Span.BATCHLESS} and not follows:
        return Span.BATCHLESS
    one_row = operation.kind not in (Kind.IMAGES, Kind.WHOLE) and Span.FULL not in inputs
    return Span.SINGLE if shortcuts and one_row else Span.FULL


def _dead_parameters(graph: Graph) -> frozenset[int]:
    """Return the kernels none of whose taps ever meets data."""
    live: dict[int, bool] = {}
    for operation in graph.operations:
        for place, read in enumerate(operation.inputs):
            if graph.operations[read].kind is Kind.PARAMETER:
                is_kernel = operation.kind is Kind.CONVOLUTION and place == 1
                live[read] = live.get(read, False) or not is_kernel or _meets_data(graph, operation)
    return frozenset(read for read, meets in live.items() if not meets)


def tap_uses(graph: Graph, operation: Operation, sides: tuple[int, ...]) -> list[np.ndarray]:
    """Return, per axis, how many outputs (of a transposed one: inputs) each tap meets data at.

    Args:
        graph: where the operation stands.
        operation: a convolution.
        sides: of its kernel.
    """
    inputs = graph.operations[operation.inputs[0]].shape[1:]
    outputs = operation.shape[1:]
    numbers = operation.filter
    if numbers.transposed:
        inputs, outputs = outputs, inputs
    uses = []
    for axis, taps in enumerate(sides):
        places = (
            np.arange(outputs[axis])[:, None] * numbers.stride[axis]
            - numbers.padding[axis]
            + np.arange(taps) * numbers.dilation[axis]
        )
        uses.append(((places >= 0) & (places < inputs[axis])).sum(axis=0))
    return uses


def _meets_data(graph: Graph, operation: Operation) -> bool:
    sides = graph.operations[operation.inputs[1]].function().shape[2:]
    return all(uses.any() for uses in tap_uses(graph, operation, tuple(sides)))
