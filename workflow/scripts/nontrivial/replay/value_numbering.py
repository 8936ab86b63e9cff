"""The values that all targets need, each of them once.

This is value numbering, as compilers do it for common subexpressions. A value is an operation
together with the values that it reads. Targets that change nothing before an operation read the
same values, so they share its result: what no zeroed kernel reaches is shared by all targets,
and equal targets share everything. A convolution with a zeroed kernel returns its bias whatever
it reads, so it depends on nothing before it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from nontrivial.networks.tap_geometry import TapGeometry, tap_geometry
from nontrivial.replay.graph import Graph, Kind, Operation, depends_on_batch_size

OK = "ok"
CUT = "cut"
NO_EFFECT = "no_effect"


class Samples(Enum):
    """How many samples a value has.

    NONE: it is computed from parameters alone. ONE: one, which is the same for every image.
    ALL: one per image.
    """

    NONE = "none"
    ONE = "one"
    ALL = "all"


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        operation: index in the graph.
        inputs: numbers of the values that it reads, in the order of the operation's inputs.
        zeroed: whether it is a zeroed parameter, or a convolution with a zeroed kernel.
        varies: whether it depends on the images.
        samples: how many samples it has.
    """

    operation: int
    inputs: tuple[int, ...]
    zeroed: bool
    varies: bool
    samples: Samples


@dataclass(frozen=True)
class Values:
    """The values of some targets.

    Attributes:
        table: the values by number; each reads earlier ones only.
        outputs: number of each target's output, by name.
        clean: number of the output with nothing zeroed.
    """

    table: list[Value]
    outputs: dict[str, int]
    clean: int

    def status(self, target: str) -> str:
        """Return ``ok``, ``cut`` (one output for all images) or ``no_effect`` for a target."""
        output = self.outputs[target]
        if output == self.clean:
            return NO_EFFECT
        return OK if self.table[output].varies else CUT

    def targets_by_output(self) -> dict[int, tuple[str, ...]]:
        """Return the names of the targets that share each output."""
        names: dict[int, tuple[str, ...]] = {}
        for name, output in self.outputs.items():
            names[output] = (*names.get(output, ()), name)
        return names

    def needed(self) -> set[int]:
        """Return the values that the outputs of the targets depend on."""
        return self._ancestors(list(self.outputs.values()))

    def needed_clean(self) -> set[int]:
        """Return the values that the output with nothing zeroed depends on."""
        return self._ancestors([self.clean])

    def _ancestors(self, waiting: list[int]) -> set[int]:
        found: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.table[number].inputs)
        return found


def number_values(graph: Graph, targets: Mapping[str, Collection[int]], simplify: bool) -> Values:
    """Return the values of some targets.

    Args:
        graph: of the network.
        targets: indices of the parameters that are zero, by target name.
        simplify: whether to use that a convolution with a zeroed kernel returns its bias, that
            a kernel without live taps changes nothing, and that one sample may be the same for
            every image. Without, every operation is computed as in a pass over the network.
    """
    table: list[Value] = []
    numbers: dict[Value, int] = {}

    def number_of(value: Value) -> int:
        if value not in numbers:
            numbers[value] = len(table)
            table.append(value)
        return numbers[value]

    def evaluate(
        index: int, operation: Operation, reads: tuple[int, ...], zeroed: frozenset[int]
    ) -> int:
        if operation.kind is Kind.PARAMETER:
            return number_of(Value(index, (), index in zeroed, False, Samples.NONE))
        if simplify and operation.kind is Kind.CONVOLUTION and table[reads[1]].zeroed:
            # Only its bias matters.
            return number_of(Value(index, reads[2:], True, False, Samples.ONE))
        varies = operation.kind is Kind.INPUT or any(table[read].varies for read in reads)
        if operation.convolution is not None and table[reads[1]].zeroed:
            varies = False
        samples = _samples(operation, {table[read].samples for read in reads}, simplify)
        return number_of(Value(index, reads, False, varies, samples))

    def output(zeroed: frozenset[int]) -> int:
        evaluated: list[int] = []
        for index, operation in enumerate(graph.operations):
            reads = tuple(evaluated[read] for read in operation.inputs)
            evaluated.append(evaluate(index, operation, reads, zeroed))
        return evaluated[graph.output]

    clean = output(frozenset())
    dead = _dead_kernels(graph) if simplify else frozenset()
    outputs = {name: output(frozenset(zeroed) - dead) for name, zeroed in targets.items()}
    return Values(table, outputs, clean)


def convolution_geometry(graph: Graph, operation: Operation) -> tuple[TapGeometry, ...]:
    """Return how the taps of a convolution of a graph meet data, per axis."""
    options = operation.options
    images, weight = (graph.operations[read] for read in operation.inputs[:2])
    return tap_geometry(
        input_size=images.sample_shape[1:],
        output_size=operation.sample_shape[1:],
        kernel_size=tuple(weight.function().shape[2:]),
        stride=options.stride,
        padding=options.padding,
        dilation=options.dilation,
        transposed=options.transposed,
    )


def _samples(operation: Operation, inputs: set[Samples], simplify: bool) -> Samples:
    if inputs == {Samples.NONE} and not depends_on_batch_size((operation.args, operation.kwargs)):
        return Samples.NONE
    one = operation.kind not in (Kind.INPUT, Kind.BATCHWISE) and Samples.ALL not in inputs
    return Samples.ONE if simplify and one else Samples.ALL


def _dead_kernels(graph: Graph) -> frozenset[int]:
    """Return the parameters that only convolutions read, as kernels none of whose taps is live."""
    live: set[int] = set()
    read_at_all: set[int] = set()
    for operation in graph.operations:
        for position, read in enumerate(operation.inputs):
            if graph.operations[read].kind is Kind.PARAMETER:
                read_at_all.add(read)
                is_kernel = operation.kind is Kind.CONVOLUTION and position == 1
                if not is_kernel or _has_live_tap(graph, operation):
                    live.add(read)
    return frozenset(read_at_all - live)


def _has_live_tap(graph: Graph, operation: Operation) -> bool:
    return all(axis.live().any() for axis in convolution_geometry(graph, operation))
