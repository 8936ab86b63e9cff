"""The order in which values are computed, and which of them in one batch."""

from nontrivial.replay.graph import Graph, Kind
from nontrivial.replay.value_numbering import Samples, Values

Group = tuple[int, int]  # (operation, number): values of one operation computed in one batch


class Schedule:
    """Groups of values with one sample per image, in the order of their computation.

    The values of a group are stacked along the batch dimension. On small maps a batch of
    several targets takes less time than a small batch for each.

    Attributes:
        members: the values of each group, in the order of their samples. The groups are in the
            order of their computation, each after what it reads.
        group_of: the group of each value.
        readers: the groups that read each group.
    """

    def __init__(
        self, graph: Graph, values: Values, batch_size: int, stack_bytes: int, stacked: bool
    ):
        """Order and group the values of some targets.

        Args:
            graph: of the network.
            values: of the targets.
            batch_size: the largest number of samples in a batch.
            stack_bytes: maximum size of the result of a group of several targets.
            stacked: whether a group may hold several targets at all.
        """
        self._graph = graph
        self._values = values.table
        self._stack_bytes_per_sample = stack_bytes // batch_size if stacked else 0
        windows = [self._window(index) for index in range(len(graph.operations))]
        self.windows = self._limited(windows)
        order = self._target_order(values)
        self.group_of: dict[int, Group] = {}
        members: dict[Group, list[int]] = {}
        positions = self._first_targets(values, order)
        for number, position in sorted(positions.items(), key=lambda item: (item[1], item[0])):
            operation = self._values[number].operation
            group = self.group_of[number] = (operation, position // self.windows[operation])
            members.setdefault(group, []).append(number)
        self.members = self._depth_first(values, order, members)
        self.readers: dict[Group, set[Group]] = {group: set() for group in members}
        for group, numbers in members.items():
            for number in numbers:
                for read in self._read(number):
                    self.readers[read].add(group)

    def _read(self, number: int) -> list[Group]:
        """Return the groups that a value reads."""
        inputs = self._values[number].inputs
        return [self.group_of[read] for read in inputs if read in self.group_of]

    def _target_order(self, values: Values) -> list[str]:
        """Return the targets in the order of the first operation that each of them changes.

        So the clean values that a target reads can be freed soon after.
        """
        clean = values.needed_clean()

        def first_change(name: str) -> int:
            reached: set[int] = set()
            waiting = [values.outputs[name]]
            while waiting:
                number = waiting.pop()
                if number not in reached and number not in clean:
                    reached.add(number)
                    waiting.extend(self._values[number].inputs)
            changed = (self._values[number].operation for number in reached)
            return min(changed, default=len(self._graph.operations))

        return sorted(values.outputs, key=first_change)

    def _first_targets(self, values: Values, order: list[str]) -> dict[int, int]:
        """Return for each value the position in the order of the first target that needs it.

        Only values with one sample per image are computed for every batch.
        """
        positions: dict[int, int] = {}
        for position, name in enumerate(order):
            waiting = [values.outputs[name]]
            while waiting:
                number = waiting.pop()
                if number not in positions and self._values[number].samples is Samples.ALL:
                    positions[number] = position
                    waiting.extend(self._values[number].inputs)
        return positions

    def _window(self, index: int) -> int:
        """Return how many targets may share a group of an operation, by size alone."""
        operation = self._graph.operations[index]
        if operation.kind in (Kind.INPUT, Kind.BATCHWISE):
            return 1
        read = [self._graph.operations[i] for i in operation.inputs]
        tensors = [operation, *(source for source in read if source.kind is not Kind.PARAMETER)]
        if any(tensor.shape is None for tensor in tensors):
            return 1  # not one tensor that can be stacked
        largest = max(tensor.sample_bytes for tensor in tensors)
        # A power of two, so that the groups of one operation nest in those of the next.
        return 1 << max(0, (self._stack_bytes_per_sample // largest).bit_length() - 1)

    def _limited(self, windows: list[int]) -> list[int]:
        """Return the windows, none wider than that of a value held in memory meanwhile.

        A value that is read again behind a tiny map, for example over a skip connection, is
        held for all targets of the tiny map's group, so its size counts too.
        """
        limited = list(windows)
        for index, readers in enumerate(self._graph.readers()):
            if self._graph.operations[index].kind in (Kind.PARAMETER, Kind.INPUT):
                continue
            for between in range(index + 1, max(readers, default=index) + 1):
                limited[between] = min(limited[between], windows[index])
        return limited

    def _depth_first(
        self, values: Values, order: list[str], members: dict[Group, list[int]]
    ) -> dict[Group, list[int]]:
        """Return the groups, target by target, each after what it reads."""
        ordered: dict[Group, list[int]] = {}
        outputs = (self.group_of.get(values.outputs[name]) for name in order)
        waiting = [(group, False) for group in reversed(list(outputs)) if group is not None]
        while waiting:
            group, opened = waiting.pop()
            if group in ordered:
                continue
            if opened:
                ordered[group] = members[group]
                continue
            waiting.append((group, True))
            read = [source for number in members[group] for source in self._read(number)]
            waiting.extend((source, False) for source in reversed(read))
        return ordered
