"""Computes the outputs of all targets, batch by batch, and frees what is no longer needed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from nontrivial.replay.convolution_algorithms import channels_last
from nontrivial.replay.graph import Graph, Kind
from nontrivial.replay.operation_functions import OperationFunctions
from nontrivial.replay.schedule import Group, Schedule
from nontrivial.replay.steps import Step, StepBuilder, expanded
from nontrivial.replay.value_numbering import Values
from nontrivial.replay.winograd import TensorOptions


class Interpreter:
    """Computes the values of some targets for one batch after the other.

    Values that are the same for every sample are computed once, on construction.
    """

    def __init__(
        self,
        graph: Graph,
        values: Values,
        options: TensorOptions,
        context: Callable[[], AbstractContextManager],
        batch_size: int,
        stack_bytes: int,
        reference: bool,
    ):
        """Plan the computation.

        Args:
            graph: of the network.
            values: of the targets.
            options: device and type of the computation.
            context: returns the context in which operations run.
            batch_size: the largest number of samples in a batch.
            stack_bytes: maximum size of a result that holds several targets.
            reference: whether operations are called exactly as the network calls them.
        """
        self._context = context
        self._dtype = options.dtype
        self._reference = reference
        functions = OperationFunctions(graph, options, reference)
        with self._computing():
            constants = functions.constants(values)
        self._constant_outputs = [
            (names, constants[output])
            for output, names in values.targets_by_output().items()
            if output in constants
        ]
        schedule = Schedule(graph, values, batch_size, stack_bytes, stacked=not reference)
        self._images: list[Group] = [
            group for group in schedule.members if graph.operations[group[0]].kind is Kind.INPUT
        ]
        builder = StepBuilder(graph, values, schedule, functions, constants, reference)
        self._steps = builder.build()

    def run(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield (names of targets, their output) for a batch, each target once.

        Args:
            images: (N, C, H, W) float32, normalized, on the device.
        """
        batch_size = len(images)
        for names, value in self._constant_outputs:
            yield names, expanded(value, batch_size).float()
        if not self._reference:
            images = channels_last(images.to(self._dtype))
        store: dict[Group, Any] = dict.fromkeys(self._images, images)
        steps = iter(self._steps)
        while (ready := self._run_until_output(steps, store, batch_size)) is not None:
            output = store[ready.group]
            _free(ready, store)
            for names, member in ready.outputs:
                yield names, output[member * batch_size : (member + 1) * batch_size].float()
            del output

    def _run_until_output(
        self, steps: Iterator[Step], store: dict[Group, Any], batch_size: int
    ) -> Step | None:
        """Run steps up to the next with outputs and return it, or None after the last step."""
        # Only here, because the caller of run works on what is yielded in a context of its own.
        with self._computing():
            for step in steps:
                step.run(store, batch_size)
                if step.outputs:
                    return step
                _free(step, store)
        return None

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), self._context():
            yield


def _free(step: Step, store: dict[Group, Any]) -> None:
    for group in step.frees:
        del store[group]
