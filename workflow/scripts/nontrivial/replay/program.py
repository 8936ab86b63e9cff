"""Computes the outputs of all targets, batch by batch, and frees what is no longer needed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nontrivial.replay.fast_convolution import Place, Scratch, channels_last, prepare
from nontrivial.replay.folding import weight_and_bias
from nontrivial.replay.graph import ELEMENTWISE, Graph, Kind, Operation
from nontrivial.replay.schedule import Group, Schedule
from nontrivial.replay.values import Span, Value, Values

# Kinds whose results are new memory, which nothing else looks into.
_NEW = frozenset({Kind.CONVOLUTION, Kind.ADD, Kind.RELU})


def _add_into(total: Tensor, more: Tensor) -> Tensor:
    # Of two types the wider one is that of the sum.
    return total.add_(more) if total.dtype == more.dtype else total + more


_IN_PLACE: dict[Kind, Callable] = {Kind.RELU: torch.relu_, Kind.ADD: _add_into}


@dataclass(frozen=True)
class _Rows:
    """Members ``first`` to ``first + count`` of a group; all of it if ``whole``."""

    group: Group
    first: int
    count: int
    whole: bool

    def take(self, store: dict[Group, Any], rows: int) -> Any:
        held = store[self.group]
        return held if self.whole else held[self.first * rows : (self.first + self.count) * rows]


@dataclass(frozen=True)
class _Run:
    """Consecutive members of a group whose operands are alike.

    Attributes:
        count: of members.
        rows: by operation that is read, where its rows are.
        single: by operation that is read, a value of one row that stands for all.
        batchless: by operation that is read, a value without rows, a weight say.
    """

    count: int
    rows: dict[int, list[_Rows]]
    single: dict[int, Any]
    batchless: dict[int, Any]

    def operands(self, store: dict[Group, Any], rows: int, broadcast: bool) -> dict[int, Any]:
        operands = dict(self.batchless)
        for read, parts in self.rows.items():
            taken = [part.take(store, rows) for part in parts]
            operands[read] = taken[0] if len(taken) == 1 else _joined(taken)
        for read, value in self.single.items():
            operands[read] = value if broadcast else _spread(value, self.count * rows)
        return operands


@dataclass
class _Step:
    """One group's computation.

    Attributes:
        group: what is computed.
        compute: from operands, by operation that is read, and the number of rows.
        runs: of its members.
        broadcast: whether the computation spreads one row over all by itself.
        in_place: the operand that the result may be written over, if any.
        frees: groups that nothing needs after this step.
        outputs: (names of targets, member) that are ready after this step.
    """

    group: Group
    compute: Callable[[dict[int, Any], int], Any]
    runs: list[_Run]
    broadcast: bool
    in_place: Callable[[dict[int, Any]], Tensor] | None = None
    frees: list[Group] = field(default_factory=list)
    outputs: list[tuple[tuple[str, ...], int]] = field(default_factory=list)

    def run(self, store: dict[Group, Any], rows: int) -> None:
        results = []
        for run in self.runs:
            operands = run.operands(store, rows, self.broadcast)
            if self.in_place is not None:
                results.append(self.in_place(operands))
            else:
                results.append(self.compute(operands, run.count * rows))
        store[self.group] = results[0] if len(results) == 1 else _joined(results)


class Program:
    """Computes the outputs of all targets, for one batch after the other.

    What every sample has in common is computed here, once. Of the rest, values of one
    operation on small maps ride together, several targets in one larger batch.
    """

    def __init__(
        self,
        graph: Graph,
        values: Values,
        place: Place,
        context: Callable[[], contextlib.AbstractContextManager],
        batch_size: int,
        stack_bytes: int,
        reference: bool,
    ):
        """Plan the computation.

        Args:
            graph: the network's operations.
            values: that the targets need.
            place: device and type of the computation.
            context: in which operations run.
            batch_size: the largest number of samples in a batch.
            stack_bytes: of a result that holds several targets, at most.
            reference: whether operations are called exactly as the network calls them.
        """
        self._graph = graph
        self._values = values.values
        self._context = context
        self._place = place
        self._reference = reference
        self._scratch = Scratch()
        self._convolutions: dict[int, Callable[[Tensor], Tensor]] = {}
        needed = values.needed()
        with self._computing():
            self._fixed = self._compute_fixed(needed)
        self._cut = [
            (names, self._fixed[output])
            for output, names in _by_output(values).items()
            if output in self._fixed
        ]
        self._steps: list[_Step] = []
        self._images: Group | None = None
        self._plan(values, Schedule(graph, values, batch_size, stack_bytes, not reference))
        self._fixed = {}  # the steps hold what they need

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), self._context():
            yield

    def run(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield (targets, their output) for a batch, each target once.

        Args:
            images: (N, C, H, W) float32, normalized, on the device.
        """
        rows = len(images)
        for names, value in self._cut:
            yield names, _spread(value, rows).float()
        if not self._reference:
            images = channels_last(images.to(self._place.dtype))
        store: dict[Group, Any] = {}
        if self._images is not None:
            store[self._images] = images
        steps = iter(self._steps)
        while True:
            ready = None
            # The context must not be that of the caller, who works on what is yielded.
            with self._computing():
                for step in steps:
                    step.run(store, rows)
                    if step.outputs:
                        ready = step
                        break
                    for group in step.frees:
                        del store[group]
            if ready is None:
                return
            held = store[ready.group]
            for group in ready.frees:
                del store[group]
            for names, member in ready.outputs:
                yield names, held[member * rows : (member + 1) * rows].float()
            del held

    def _compute_fixed(self, needed: set[int]) -> dict[int, Any]:
        fixed: dict[int, Any] = {}
        for number in sorted(needed):
            value = self._values[number]
            if value.span is Span.FULL:
                continue
            operation = self._graph.operations[value.operation]
            fixed[number] = self._fixed_value(operation, value, fixed)
        return fixed

    def _fixed_value(self, operation: Operation, value: Value, fixed: dict[int, Any]) -> Any:
        if operation.kind is Kind.PARAMETER:
            parameter = operation.function()
            return torch.zeros_like(parameter) if value.zeroed else parameter
        if value.zeroed:
            bias = self._folded(operation)[1]
            ones = (1,) * (len(operation.shape) - 1)
            return bias.view(1, -1, *ones).expand(1, *operation.shape)
        sources = zip(operation.inputs, value.inputs, strict=True)
        operands = {read: fixed[source] for read, source in sources}
        if value.span is Span.BATCHLESS:
            return operation.call(operands, 1)
        result = self._compute(value.operation)(operands, 1)
        return channels_last(result) if isinstance(result, Tensor) else result

    def _folded(self, operation: Operation) -> tuple[Tensor, Tensor]:
        read = [self._graph.operations[index].function() for index in operation.inputs[1:]]
        weight, bias = read[0], read[1] if len(read) > 1 else None
        return weight_and_bias(operation, weight, bias, self._place.dtype)

    def _convolution(self, index: int) -> Callable[[Tensor], Tensor]:
        if index not in self._convolutions:
            operation = self._graph.operations[index]
            inputs = self._graph.operations[operation.inputs[0]].shape
            self._convolutions[index] = prepare(
                operation, *self._folded(operation), inputs, self._place, self._scratch
            )
        return self._convolutions[index]

    def _plan(self, values: Values, schedule: Schedule) -> None:
        by_output = _by_output(values)
        for group, numbers in schedule.members.items():
            if self._graph.operations[group[0]].kind is Kind.IMAGES:
                self._images = group
                continue
            step = self._step(group, schedule, by_output)
            step.outputs = [
                (by_output[number], place)
                for place, number in enumerate(numbers)
                if number in by_output
            ]
            self._steps.append(step)
        place = {step.group: number for number, step in enumerate(self._steps)}
        for group, reading in schedule.readers.items():
            last = max((place[reader] for reader in reading), default=place.get(group))
            if last is not None:
                self._steps[last].frees.append(group)

    def _step(
        self,
        group: Group,
        schedule: Schedule,
        by_output: dict[int, tuple[str, ...]],
    ) -> _Step:
        operation = self._graph.operations[group[0]]
        runs = [
            self._run(operation, numbers, schedule)
            for numbers in self._alike(schedule.members[group], schedule.group_of)
        ]
        step = _Step(
            group=group,
            compute=self._compute(group[0]),
            runs=runs,
            broadcast=operation.kind in ELEMENTWISE,
        )
        if not self._reference and operation.kind in _IN_PLACE and len(runs) == 1:
            step.in_place = self._in_place(operation, runs[0], group, schedule, by_output)
        return step

    def _alike(self, numbers: list[int], group_of: dict[int, Group]) -> list[list[int]]:
        """Split a group into runs in which every operand is full, or the same fixed value."""
        runs: list[list[int]] = []
        last = None
        for number in numbers:
            reads = self._values[number].inputs
            kind = tuple(None if read in group_of else read for read in reads)
            if kind == last:
                runs[-1].append(number)
            else:
                runs.append([number])
            last = kind
        return runs

    def _run(
        self,
        operation: Operation,
        numbers: list[int],
        schedule: Schedule,
    ) -> _Run:
        rows: dict[int, list[_Rows]] = {}
        single: dict[int, Any] = {}
        batchless: dict[int, Any] = {}
        for slot, read in enumerate(operation.inputs):
            sources = [self._values[number].inputs[slot] for number in numbers]
            if sources[0] not in schedule.group_of:
                value = self._values[sources[0]]
                held = self._fixed[sources[0]]
                (single if value.span is Span.SINGLE else batchless)[read] = held
                continue
            parts: list[tuple[Group, int, int]] = []
            for source in sources:
                held_in = schedule.group_of[source]
                place = schedule.members[held_in].index(source)
                if parts and parts[-1][0] == held_in and sum(parts[-1][1:]) == place:
                    parts[-1] = (held_in, parts[-1][1], parts[-1][2] + 1)
                else:
                    parts.append((held_in, place, 1))
            rows[read] = [
                _Rows(held_in, first, count, count == len(schedule.members[held_in]))
                for held_in, first, count in parts
            ]
        return _Run(len(numbers), rows, single, batchless)

    def _compute(self, index: int) -> Callable[[dict[int, Any], int], Any]:
        operation = self._graph.operations[index]
        if operation.kind is Kind.CONVOLUTION and not self._reference:
            convolve, read, dtype = self._convolution(index), operation.inputs[0], self._place.dtype
            return lambda operands, rows: convolve(operands[read].to(dtype))
        if operation.kind is Kind.WHOLE and not self._reference:
            # It may look at the order in memory, which replay changes.
            return lambda operands, rows: operation.call(
                {read: _contiguous(value) for read, value in operands.items()}, rows
            )
        return operation.call

    def _in_place(
        self,
        operation: Operation,
        run: _Run,
        group: Group,
        schedule: Schedule,
        by_output: dict[int, tuple[str, ...]],
    ) -> Callable[[dict[int, Any]], Tensor] | None:
        """Return the operation as one that writes over an operand that only it reads, if any."""
        for read, parts in run.rows.items():
            producer = self._graph.operations[read].kind
            alone = (
                len(parts) == 1
                and parts[0].whole
                and operation.inputs.count(read) == 1
                and producer in _NEW
                and schedule.readers[parts[0].group] == {group}
                and not any(number in by_output for number in schedule.members[parts[0].group])
            )
            if not alone:
                continue
            function = _IN_PLACE[operation.kind]
            others = [other for other in operation.inputs if other != read]
            return lambda operands, read=read: function(
                operands[read], *(operands[other] for other in others)
            )
        return None


def _by_output(values: Values) -> dict[int, tuple[str, ...]]:
    """Return the targets of each output value."""
    names: dict[int, tuple[str, ...]] = {}
    for name, output in values.outputs.items():
        names[output] = (*names.get(output, ()), name)
    return names


def _spread(value: Any, rows: int) -> Any:
    if isinstance(value, Tensor):
        return value.expand(rows, *value.shape[1:])
    return type(value)(_spread(part, rows) for part in value)


def _joined(parts: list[Any]) -> Tensor:
    """Return rows behind each other, in memory in the order of the first part."""
    first = parts[0]
    if first.ndim == 4 and not first.is_contiguous() and first.stride(0) < first.stride(3):
        return torch.cat([part.permute(2, 3, 0, 1) for part in parts], dim=2).permute(2, 3, 0, 1)
    return torch.cat(parts)


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) else value
