"""The steps of the computation: one per group of values, with what it reads and what it frees."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nontrivial.replay.graph import ELEMENTWISE, Graph, Kind, Operation
from nontrivial.replay.operation_functions import OperationFunction, OperationFunctions
from nontrivial.replay.schedule import Group, Schedule
from nontrivial.replay.value_numbering import Samples, Values

# Their results are new memory, of which nothing else is a view.
_ALLOCATING = frozenset({Kind.CONVOLUTION, Kind.ADD, Kind.RELU})


def _add_in_place(total: Tensor, other: Tensor) -> Tensor:
    # Of two types, the sum has the wider one.
    return total.add_(other) if total.dtype == other.dtype else total + other


_IN_PLACE: dict[Kind, Callable[..., Tensor]] = {Kind.RELU: torch.relu_, Kind.ADD: _add_in_place}


@dataclass(frozen=True)
class Slice:
    """Members ``first`` to ``first + count`` of a group; the whole group if ``whole``."""

    group: Group
    first: int
    count: int
    whole: bool

    def read(self, store: dict[Group, Any], batch_size: int) -> Any:
        """Return the samples of these members."""
        stacked = store[self.group]
        if self.whole:
            return stacked
        return stacked[self.first * batch_size : (self.first + self.count) * batch_size]


@dataclass(frozen=True)
class Segment:
    """Consecutive members of a group that read constants alike, so one call computes them.

    Attributes:
        count: number of members.
        slices: where the samples of each operation that is read are stored.
        single: constants of one sample, by operation that is read; they are expanded.
        unbatched: constants without samples, such as weights, by operation that is read.
    """

    count: int
    slices: dict[int, list[Slice]]
    single: dict[int, Any]
    unbatched: dict[int, Any]

    def operands(self, store: dict[Group, Any], batch_size: int, broadcast: bool) -> dict[int, Any]:
        """Return what the segment reads, by operation.

        Args:
            store: the groups that are held in memory.
            batch_size: number of samples of each member.
            broadcast: whether to return single samples as they are, not expanded.
        """
        operands = dict(self.unbatched)
        for read, slices in self.slices.items():
            operands[read] = _stacked([part.read(store, batch_size) for part in slices])
        for read, value in self.single.items():
            operands[read] = value if broadcast else expanded(value, self.count * batch_size)
        return operands


@dataclass
class Step:
    """The computation of one group.

    Attributes:
        group: what is computed.
        function: of the operation.
        segments: of the group.
        broadcast: whether the function broadcasts a single sample by itself.
        in_place: the function that overwrites one of its operands, where that is safe.
        frees: groups that nothing needs after this step.
        outputs: (names of targets, member) of the outputs that are ready after this step.
    """

    group: Group
    function: OperationFunction
    segments: list[Segment]
    broadcast: bool
    in_place: Callable[[dict[int, Any]], Tensor] | None = None
    frees: list[Group] = field(default_factory=list)
    outputs: list[tuple[tuple[str, ...], int]] = field(default_factory=list)

    def run(self, store: dict[Group, Any], batch_size: int) -> None:
        """Compute the group and store it."""
        results = []
        for segment in self.segments:
            operands = segment.operands(store, batch_size, self.broadcast)
            if self.in_place is not None:
                results.append(self.in_place(operands))
            else:
                results.append(self.function(operands, segment.count * batch_size))
        store[self.group] = _stacked(results)


class StepBuilder:
    """Builds the steps of a schedule."""

    def __init__(
        self,
        graph: Graph,
        values: Values,
        schedule: Schedule,
        functions: OperationFunctions,
        constants: dict[int, Any],
        reference: bool,
    ):
        """Take what the steps are built from.

        Args:
            graph: of the network.
            values: of the targets.
            schedule: of the values with one sample per image.
            functions: of the operations.
            constants: all other values, by number.
            reference: whether no operation may run in place.
        """
        self._operations = graph.operations
        self._values = values.table
        self._targets = values.targets_by_output()
        self._schedule = schedule
        self._functions = functions
        self._constants = constants
        self._reference = reference

    def build(self) -> list[Step]:
        """Return the steps in their order; the groups of the images have none."""
        steps = [
            self._step(group, numbers)
            for group, numbers in self._schedule.members.items()
            if self._operations[group[0]].kind is not Kind.INPUT
        ]
        position = {step.group: number for number, step in enumerate(steps)}
        for group, readers in self._schedule.readers.items():
            last = max((position[reader] for reader in readers), default=position.get(group))
            if last is not None:
                steps[last].frees.append(group)
        return steps

    def _step(self, group: Group, numbers: list[int]) -> Step:
        operation = self._operations[group[0]]
        segments = [self._segment(operation, alike) for alike in self._alike(numbers)]
        step = Step(
            group=group,
            function=self._functions.function(group[0]),
            segments=segments,
            broadcast=operation.kind in ELEMENTWISE,
            outputs=[
                (self._targets[number], member)
                for member, number in enumerate(numbers)
                if number in self._targets
            ],
        )
        if not self._reference and operation.kind in _IN_PLACE and len(segments) == 1:
            step.in_place = self._in_place(operation, segments[0], group)
        return step

    def _alike(self, numbers: list[int]) -> list[list[int]]:
        """Split a group into runs of members whose constant operands are the same."""
        runs: list[list[int]] = []
        last = None
        for number in numbers:
            reads = self._values[number].inputs
            constants = tuple(None if r in self._schedule.group_of else r for r in reads)
            if constants == last:
                runs[-1].append(number)
            else:
                runs.append([number])
            last = constants
        return runs

    def _segment(self, operation: Operation, numbers: list[int]) -> Segment:
        segment = Segment(len(numbers), {}, {}, {})
        for argument, read in enumerate(operation.inputs):
            sources = [self._values[number].inputs[argument] for number in numbers]
            if sources[0] in self._schedule.group_of:
                segment.slices[read] = self._slices(sources)
                continue
            constant = self._constants[sources[0]]
            if self._values[sources[0]].samples is Samples.ONE:
                segment.single[read] = constant
            else:
                segment.unbatched[read] = constant
        return segment

    def _slices(self, sources: list[int]) -> list[Slice]:
        """Return the slices of groups that hold some values, in their order."""
        parts: list[tuple[Group, int, int]] = []
        for source in sources:
            group = self._schedule.group_of[source]
            member = self._schedule.members[group].index(source)
            if parts and parts[-1][0] == group and parts[-1][1] + parts[-1][2] == member:
                parts[-1] = (group, parts[-1][1], parts[-1][2] + 1)
            else:
                parts.append((group, member, 1))
        return [
            Slice(group, first, count, count == len(self._schedule.members[group]))
            for group, first, count in parts
        ]

    def _in_place(
        self, operation: Operation, segment: Segment, group: Group
    ) -> Callable[[dict[int, Any]], Tensor] | None:
        """Return the operation as one that overwrites an operand that nothing else reads."""
        function = _IN_PLACE[operation.kind]
        overwritable = (
            read
            for read, slices in segment.slices.items()
            if operation.inputs.count(read) == 1 and self._is_last_reader(group, read, slices)
        )
        overwritten = next(overwritable, None)
        if overwritten is None:
            return None
        order = (overwritten, *(read for read in operation.inputs if read != overwritten))
        return lambda operands: function(*(operands[read] for read in order))

    def _is_last_reader(self, group: Group, read: int, slices: list[Slice]) -> bool:
        """Return whether a group alone reads the memory of an operand, and no caller gets it."""
        if len(slices) != 1 or not slices[0].whole:
            return False
        source = slices[0].group
        return (
            self._operations[read].kind in _ALLOCATING
            and self._schedule.readers[source] == {group}
            and not any(number in self._targets for number in self._schedule.members[source])
        )


def expanded(value: Any, batch_size: int) -> Any:
    """Return a value of one sample, or a container of such, expanded to a batch."""
    if isinstance(value, Tensor):
        return value.expand(batch_size, *value.shape[1:])
    return type(value)(expanded(part, batch_size) for part in value)


def _stacked(parts: list[Any]) -> Any:
    """Return parts concatenated along the batch dimension, in the memory format of the first."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if first.ndim == 4 and not first.is_contiguous() and first.stride(0) < first.stride(3):
        return torch.cat([part.permute(2, 3, 0, 1) for part in parts], dim=2).permute(2, 3, 0, 1)
    return torch.cat(parts)
