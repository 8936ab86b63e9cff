"""From traced nodes to the operations of a graph."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import convolutions, stored_weight
from nontrivial.replay import convolution_pattern, normalization_pattern
from nontrivial.replay.convolution_pattern import ConvolutionCall, Padding
from nontrivial.replay.graph import (
    BATCH_SIZE,
    Graph,
    Kind,
    Operation,
    Ref,
    SymbolicSize,
    UntraceableError,
    depends_on_batch_size,
    leaves,
    map_parts,
    tensor_key,
)
from nontrivial.replay.out_of_place import (
    as_function,
    filled_like,
    new_tensor_method,
    out_of_place,
)
from nontrivial.replay.probing import Probes
from nontrivial.replay.samplewise import is_samplewise_call, is_samplewise_module, listed_name
from nontrivial.replay.symbolic_sizes import reads_shape_only, stays_affine, symbolic_size

_LIKE = frozenset({torch.zeros_like, torch.ones_like, torch.empty_like})
_NEW = frozenset({"new_zeros", "new_ones", "new_full", "new_empty"})


class Lowering:
    """Turns the nodes of one network into operations."""

    def __init__(self, model: nn.Module, nodes: list[fx.Node], batches: list[Tensor], tracer: str):
        """Take what was traced.

        Args:
            model: the network, in evaluation mode.
            nodes: in the order in which they run.
            batches: images, a batch of each size in
                :data:`nontrivial.replay.probing.BATCH_SIZES`.
            tracer: ``torch.fx`` or ``torch.export``.
        """
        self._model = model
        self._nodes = nodes
        self._position = {node: position for position, node in enumerate(nodes)}
        self._probes = Probes(model)
        self._batches = batches
        self._graph = Graph([], -1, {}, tracer)
        # What each node became: a Ref, a SymbolicSize, a constant, or a container of these.
        self._lowered: dict[fx.Node, Any] = {}
        weights = (stored_weight(module) for module in convolutions(model).values())
        self._kernels = {tensor_key(weight) for weight in weights if weight is not None}

    def run(self) -> Graph:
        """Return the graph.

        Raises:
            UntraceableError: a graph cannot express what the nodes do.
        """
        for node in self._nodes:
            if node.op == "output":
                self._graph.output = self._output(node)
                return self._graph
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "get_attr":
                self._attribute(node)
            else:
                self._call(node)
        raise UntraceableError("there is no output")

    def _output(self, node: fx.Node) -> int:
        result = node.args[0]
        if isinstance(result, (tuple, list)) and len(result) == 1:
            result = result[0]  # torch.export always returns a tuple
        ref = self._lowered.get(result) if isinstance(result, fx.Node) else None
        if not isinstance(ref, Ref):
            raise UntraceableError("the output is not one tensor")
        if self._graph.operations[ref.index].shape is None:
            raise UntraceableError("the output does not have one sample per image")
        return ref.index

    def _placeholder(self, node: fx.Node) -> None:
        if not any(operation.kind is Kind.INPUT for operation in self._graph.operations):
            self._probes.set(node, self._batches)
            self._lowered[node] = self._add(node, Operation(node.name, Kind.INPUT, _not_called))
        elif node.args:  # the default of another argument
            self._probes.set_constant(node, node.args[0])
            self._lowered[node] = node.args[0]
        else:
            raise UntraceableError(f"the forward pass takes a second argument, {node.target}")

    def _attribute(self, node: fx.Node) -> None:
        value = node.meta.get("constant")
        try:
            value = operator.attrgetter(str(node.target))(self._model)
        except AttributeError:
            if value is None:
                raise
        self._probes.set_constant(node, value)
        self._lowered[node] = self._parameter(value) if isinstance(value, Tensor) else value

    def _parameter(self, tensor: Tensor) -> Ref:
        key = tensor_key(tensor)
        if key not in self._graph.parameters:
            self._graph.parameters[key] = len(self._graph.operations)
            self._append(Operation("parameter", Kind.PARAMETER, lambda: tensor))
        return Ref(self._graph.parameters[key])

    def _append(self, operation: Operation) -> Ref:
        self._graph.operations.append(operation)
        return Ref(len(self._graph.operations) - 1)

    def _add(self, node: fx.Node, operation: Operation) -> Ref:
        """Append the operation of a node, with the shape and type of its result."""
        value = self._probes.inspect(node)
        if isinstance(value, Tensor) and self._probes.has_samples(node):
            operation.shape = tuple(value.shape[1:])
        sizes = [tensor.element_size() for tensor in self._probes.tensors(node)]
        operation.element_size = max(sizes, default=operation.element_size)
        return self._append(operation)

    def _call(self, node: fx.Node) -> None:
        changed = self._probes.run(node)
        if not changed and not self._probes.tensors(node):
            self._lowered[node] = self._constant(node)
            return
        sources = (n for n in node.all_input_nodes if self._probes.same_tensor(node, n))
        source = next(sources, None)
        if source is not None and not changed:
            self._lowered[node] = self._lowered[source]
            return
        self._lowered[node] = self._add(node, self._operation(node, in_place=bool(changed)))
        for tensor in changed:
            self._redirect(node, tensor)

    def _constant(self, node: fx.Node) -> Any:
        read = [self._lowered[n] for n in node.all_input_nodes]
        if not reads_shape_only(node) and any(isinstance(lowered, Ref) for lowered in read):
            raise UntraceableError(f"{node.name} turns tensors into Python numbers")
        if depends_on_batch_size(read) and not stays_affine(node):
            raise UntraceableError(f"{node.name} may behave differently at other batch sizes")
        return symbolic_size(node.name, self._probes.values(node))

    def _redirect(self, node: fx.Node, changed: Tensor) -> None:
        """Let later readers of a tensor that a node changed in place read the node's result."""
        if any(changed is tensor for tensor in (*self._model.parameters(), *self._model.buffers())):
            raise UntraceableError(f"{node.name} changes a parameter")
        for earlier in self._probes.sharing_storage(changed):
            if earlier is node:
                continue
            value = self._probes.inspect(earlier)
            if isinstance(value, Tensor) and tensor_key(value) == tensor_key(changed):
                self._lowered[earlier] = self._lowered[node]
            elif any(self._position[user] > self._position[node] for user in earlier.users):
                raise UntraceableError(f"{node.name} changes part of a tensor that is read later")

    def _operation(self, node: fx.Node, in_place: bool) -> Operation:
        args = self._arguments(node.args)
        kwargs = self._arguments(dict(node.kwargs))
        target = node.target
        if node.op == "call_module":
            return self._module(node, self._model.get_submodule(str(target)), args, kwargs)
        if node.op == "call_method" and target in _NEW:
            function = new_tensor_method(str(target), self._probes.inspect(node.args[0]))
            return Operation(node.name, Kind.BATCHWISE, function, args[1:], kwargs)
        if target in _LIKE and len(args) == 1 and self._is_batch(node.args[0]):
            function = filled_like(as_function(target), self._probes.inspect(node.args[0]))
            return Operation(node.name, Kind.SAMPLEWISE, function, (BATCH_SIZE,), kwargs)
        if in_place:
            target, kwargs = out_of_place(target, kwargs)
        return self._function(node, target, args, kwargs)

    def _arguments(self, argument: Any) -> Any:
        """Return an argument with nodes replaced by what they became."""
        if isinstance(argument, fx.Node):
            return self._lowered[argument]
        return map_parts(argument, self._arguments)

    def _module(self, node: fx.Node, module: nn.Module, args: tuple, kwargs: dict) -> Operation:
        if module._forward_hooks or module._forward_pre_hooks:
            raise UntraceableError(f"{node.target} has hooks")
        if isinstance(module, _ConvNd) and stored_weight(module) is not None:
            if len(args) != 1 or kwargs:
                raise UntraceableError(f"{node.target} is called with more than one tensor")
            return self._convolution(node, convolution_pattern.match_module(module, args[0]))
        if any(tensor_key(parameter) in self._kernels for parameter in module.parameters()):
            raise UntraceableError(f"{node.target} uses a kernel in an unknown way")
        if isinstance(module, nn.ReLU):
            return Operation(node.name, Kind.RELU, torch.relu, args)
        if getattr(module, "inplace", False):
            module = copy.copy(module)
            vars(module)["inplace"] = False
        samplewise = (
            not module.training and self._has_samples(node) and is_samplewise_module(module)
        )
        normalization = normalization_pattern.match_module(module) if samplewise else None
        if normalization is not None:
            return Operation(
                node.name, Kind.NORMALIZATION, module, args, normalization=normalization
            )
        samplewise = samplewise and not depends_on_batch_size((args, kwargs))
        kind = Kind.SAMPLEWISE if samplewise else Kind.BATCHWISE
        return Operation(node.name, kind, module, args, kwargs)

    def _convolution(self, node: fx.Node, call: ConvolutionCall) -> Operation:
        images = call.images
        if call.padding is not None:
            images = self._padded(node, images, call.padding)
        bias = None if call.bias is None else self._parameter(call.bias)
        args = (images, self._parameter(call.weight), bias)
        read = self._graph.operations[images.index]
        samplewise = self._has_samples(node) and read.shape is not None
        kind = Kind.CONVOLUTION if samplewise else Kind.BATCHWISE
        return Operation(node.name, kind, call.function, args, convolution=call.options)

    def _padded(self, node: fx.Node, images: Ref, padding: Padding) -> Ref:
        given = self._graph.operations[images.index]
        if given.shape is None:
            return self._append(Operation(node.name, Kind.BATCHWISE, padding, (images,)))
        operation = Operation(node.name, Kind.SAMPLEWISE, padding, (images,))
        operation.shape = padding.padded_shape(given.shape)
        operation.element_size = given.element_size
        return self._append(operation)

    def _function(
        self, node: fx.Node, target: Callable | str, args: tuple, kwargs: dict
    ) -> Operation:
        """Return the operation of a function, a method or an ATen operator."""
        name = listed_name(target)
        sizes = tuple(leaves(args[1:]))
        if name in ("view", "reshape") and all(isinstance(s, (int, SymbolicSize)) for s in sizes):
            if not sizes:
                raise UntraceableError(f"{node.name} takes its shape by keyword")
            keeps = sizes[0] == BATCH_SIZE and not depends_on_batch_size(sizes[1:])
            keeps = keeps and self._has_samples(node) and self._is_batch(node.args[0])
            kind = Kind.SAMPLEWISE if keeps else Kind.BATCHWISE
            # Not view: replay may compute its input in another memory format.
            return Operation(node.name, kind, torch.reshape, (args[0], sizes))
        call = convolution_pattern.match_call(name or "", args, kwargs, self._tensor)
        if call is not None:
            return self._convolution(node, call)
        normalization = (
            None if kwargs else normalization_pattern.match_call(target, args, self._tensor)
        )
        if normalization is not None and self._is_batch(node.args[0]):
            function = normalization_pattern.function_of(normalization)
            return Operation(
                node.name, Kind.NORMALIZATION, function, args[:1], normalization=normalization
            )
        given, named = self._probes.inspect((node.args, node.kwargs))
        if not self._is_samplewise(node, name, given, named, (args, kwargs)):
            return Operation(node.name, Kind.BATCHWISE, as_function(target), args, kwargs)
        if name == "relu":
            return Operation(node.name, Kind.RELU, torch.relu, args[:1])
        if name == "add" and len(args) == 2 and not kwargs and _same_shape_and_type(*given):
            return Operation(node.name, Kind.ADD, torch.add, args)
        return Operation(node.name, Kind.SAMPLEWISE, as_function(target), args, kwargs)

    def _is_samplewise(
        self, node: fx.Node, name: str | None, given: tuple, named: dict, lowered: Any
    ) -> bool:
        return (
            name is not None
            and self._has_samples(node)
            and all(self._has_samples(n) or self._is_constant(n) for n in node.all_input_nodes)
            and not depends_on_batch_size(lowered)
            and is_samplewise_call(name, tuple(given), dict(named))
        )

    def _tensor(self, argument: Any) -> Tensor | None:
        """Return the parameter or buffer that a lowered argument is, or None."""
        if isinstance(argument, Ref) and self._kind(argument) is Kind.PARAMETER:
            return self._graph.operations[argument.index].function()
        return None

    def _kind(self, ref: Ref) -> Kind:
        return self._graph.operations[ref.index].kind

    def _has_samples(self, node: fx.Node) -> bool:
        return self._tensor(self._lowered.get(node)) is None and self._probes.has_samples(node)

    def _is_batch(self, argument: Any) -> bool:
        return isinstance(argument, fx.Node) and self._has_samples(argument)

    def _is_constant(self, node: fx.Node) -> bool:
        lowered = self._lowered[node]
        return not isinstance(lowered, Ref) or self._kind(lowered) is Kind.PARAMETER


def _not_called() -> None:
    raise AssertionError("the images are given, not computed")


def _same_shape_and_type(*tensors: Any) -> bool:
    first, second = tensors
    return (
        isinstance(first, Tensor)
        and isinstance(second, Tensor)
        and first.shape == second.shape
        and first.dtype == second.dtype
    )
