"""The function that computes each operation of a graph, and the values that are constant."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nontrivial.networks.misread import row_major
from nontrivial.replay.convolution_algorithms import channels_last, choose_algorithm
from nontrivial.replay.folding import folded_parameters
from nontrivial.replay.graph import Graph, Kind, Operation
from nontrivial.replay.value_numbering import Samples, Value, Values, convolution_geometry
from nontrivial.replay.winograd import TensorOptions, Workspace

# Of the values that an operation reads, by its index, and the number of samples.
OperationFunction = Callable[[dict[int, Any], int], Any]


class OperationFunctions:
    """Chooses the function of each operation: the fastest one, or exactly the network's own."""

    def __init__(self, graph: Graph, options: TensorOptions, reference: bool):
        """Take what the choice depends on.

        Args:
            graph: of the network.
            options: device and type of convolutions.
            reference: whether operations are called exactly as the network calls them.
        """
        self._graph = graph
        self._options = options
        self._reference = reference
        self._workspace = Workspace()
        self._convolutions: dict[int, Callable[[Tensor], Tensor]] = {}

    def function(self, index: int) -> OperationFunction:
        """Return the function of an operation."""
        operation = self._graph.operations[index]
        if operation.kind is Kind.CONVOLUTION and not self._reference:
            convolve, read = self._convolution(index), operation.inputs[0]
            dtype = self._options.dtype
            return lambda values, batch_size: convolve(values[read].to(dtype))
        if operation.kind is Kind.BATCHWISE and not self._reference:
            # It may depend on the memory format, which replay changes.
            return lambda values, batch_size: operation.call(
                {read: _row_major(value) for read, value in values.items()}, batch_size
            )
        return operation.call

    def constants(self, values: Values) -> dict[int, Any]:
        """Return the needed values that do not have one sample per image, by number."""
        constants: dict[int, Any] = {}
        for number in sorted(values.needed()):
            value = values.table[number]
            if value.samples is not Samples.ALL:
                constants[number] = self._constant(value, constants)
        return constants

    def _constant(self, value: Value, constants: dict[int, Any]) -> Any:
        operation = self._graph.operations[value.operation]
        if operation.kind is Kind.PARAMETER:
            parameter = operation.function()
            return torch.zeros_like(parameter) if value.zeroed else parameter
        if value.zeroed:
            _, bias = self._folded(operation)
            ones = (1,) * (len(operation.sample_shape) - 1)
            return bias.view(1, -1, *ones).expand(1, *operation.sample_shape)
        sources = zip(operation.inputs, value.inputs, strict=True)
        operands = {read: constants[source] for read, source in sources}
        if value.samples is Samples.NONE:
            return operation.call(operands, 1)
        result = self.function(value.operation)(operands, 1)
        return channels_last(result) if isinstance(result, Tensor) else result

    def _folded(self, operation: Operation) -> tuple[Tensor, Tensor]:
        weight, *bias = (self._graph.operations[i].function() for i in operation.inputs[1:])
        return folded_parameters(operation, weight, bias[0] if bias else None, self._options.dtype)

    def _convolution(self, index: int) -> Callable[[Tensor], Tensor]:
        if index not in self._convolutions:
            operation = self._graph.operations[index]
            axes = convolution_geometry(self._graph, operation)
            self._convolutions[index] = choose_algorithm(
                operation, *self._folded(operation), axes, self._options, self._workspace
            )
        return self._convolutions[index]


def _row_major(value: Any) -> Any:
    return row_major(value) if isinstance(value, Tensor) else value
