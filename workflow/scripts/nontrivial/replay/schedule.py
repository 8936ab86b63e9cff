"""The order in which values are computed, and which of them together."""

from nontrivial.replay.graph import Graph, Kind
from nontrivial.replay.values import Span, Values

Group = tuple[int, int]  # operation, number: values of one operation that are computed together


class Schedule:
    """Groups of values with a row per sample, in the order of their computation.

    Attributes:
        members: the values of each group, in the order of their rows; the groups stand in the
            order of their computation, each after what it reads.
        group_of: the group of each value.
        readers: the groups that read each group.
    """

    def __init__(
        self, graph: Graph, values: Values, batch_size: int, stack_bytes: int, together: bool
    ):
        """Order and group the values of some targets.

        Args:
            graph: the network's operations.
            values: of the targets.
            batch_size: the largest number of samples in a batch.
            stack_bytes: of a result that holds several targets, at most.
            together: whether a group may hold several targets at all.
        """
        self._graph = graph
        self._values = values.values
        self._stacked_rows = stack_bytes // batch_size if together else 0
        self._windows = self._limited([self._window(n) for n in range(len(graph.operations))])
        order = self._target_order(values)
        self.group_of: dict[int, Group] = {}
        members: dict[Group, list[int]] = {}
        places = self._places(values, order)
        for number, place in sorted(places.items(), key=lambda item: (item[1], item[0])):
            operation = self._values[number].operation
            group = self.group_of[number] = (operation, place // self._windows[operation])
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
        """Return the targets in the order of the first operation that they change.

        So the clean values on which a target rests are not needed for much longer.
        """
        clean = values.clean_ones()

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

    def _places(self, values: Values, order: list[str]) -> dict[int, int]:
        """Return for each value of full batches the first target in order that needs it."""
        places: dict[int, int] = {}
        for place, name in enumerate(order):
            waiting = [values.outputs[name]]
            while waiting:
                number = waiting.pop()
                if number not in places and self._values[number].span is Span.FULL:
                    places[number] = place
                    waiting.extend(self._values[number].inputs)
        return places

    def _limited(self, windows: list[int]) -> list[int]:
        """Return no wider windows than those of the values that wait meanwhile.

        What is read again behind a tiny map, a skip connection say, waits for all the targets
        that ride together on it, so its size counts too.
        """
        limited = list(windows)
        for index, users in enumerate(self._graph.users()):
            if self._graph.operations[index].kind in (Kind.PARAMETER, Kind.IMAGES):
                continue
            for between in range(index + 1, max(users, default=index) + 1):
                limited[between] = min(limited[between], windows[index])
        return limited

    def _window(self, index: int) -> int:
        """Return how many targets' results of an operation fit into one."""
        operation = self._graph.operations[index]
        if operation.kind in (Kind.IMAGES, Kind.WHOLE):
            return 1
        read = [self._graph.operations[i] for i in operation.inputs]
        rows = [operation, *(one for one in read if one.kind is not Kind.PARAMETER)]
        if any(one.shape is None for one in rows):
            return 1  # not one tensor that another could stand behind
        largest = max(one.row_bytes for one in rows)
        # A power of two, so that the groups of one operation fit into those of the next.
        return 1 << max(0, (self._stacked_rows // largest).bit_length() - 1)

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
