"""From traced nodes to operations, with the values of small batches at hand.

Every node is run on random images in batches of several sizes. That tells which values are
numbers that follow the batch size, which tensors have a row per sample, and which nodes
change their arguments; those become operations that do not.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nontrivial.networks.convolutions import convolutions, stored_weight
from nontrivial.replay.calls import (
    called_name,
    convolve,
    method,
    normalize,
    on_empty,
    out_of_place,
    pad,
    rows_like,
)
from nontrivial.replay.graph import (
    Count,
    Filter,
    Graph,
    Kind,
    Normalization,
    Operation,
    Ref,
    leaves,
    memory,
)
from nontrivial.replay.rowwise import call_is_rowwise, module_is_rowwise, name_of

BATCHES = (2, 3, 5)  # three, so that a number that follows the batch is known to be linear
_LOOKED_AT = 1  # of them: the batch whose values are looked at

_SHAPE_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim"})
_SHAPE_METHODS = frozenset({"size", "dim", "ndimension", "numel"})
_SHAPE_FUNCTIONS = frozenset({len, torch.ops.aten.sym_size.int, torch.ops.aten.sym_size.default})
# Of numbers that follow the batch: what keeps them on a straight line, seen at any size.
_LINEAR = frozenset(
    {getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.neg}
)
_LIKE = frozenset({torch.zeros_like, torch.ones_like, torch.empty_like})
_NEW = frozenset({"new_zeros", "new_ones", "new_full", "new_empty"})


class UntraceableError(Exception):
    """The network's operations cannot be listed; the message says why."""


@dataclass
class _Probe:
    """The values of every node for one batch; versions tell which node changed which tensor."""

    rows: int
    values: dict[fx.Node, Any] = field(default_factory=dict)


class Lowering:
    """Turns the nodes of one network into operations."""

    def __init__(self, model: nn.Module, nodes: list[fx.Node], batches: list[Tensor], name: str):
        """Take what was traced.

        Args:
            model: the network, in evaluation mode.
            nodes: in the order in which they run.
            batches: images, of each size in :data:`BATCHES`.
            name: of the way of tracing.
        """
        self._model = model
        self._nodes = nodes
        self._place = {node: place for place, node in enumerate(nodes)}
        self._probes = [_Probe(rows) for rows in BATCHES]
        self._images = batches
        self._graph = Graph([], -1, {}, name)
        self._meant: dict[fx.Node, Any] = {}  # Ref of an operation, or a number
        weights = (stored_weight(module) for module in convolutions(model).values())
        self._weights = {memory(weight) for weight in weights if weight is not None}

    def run(self) -> Graph:
        """Return the operations.

        Raises:
            UntraceableError: the nodes do something that operations cannot say.
        """
        for node in self._nodes:
            if node.op == "output":
                result = node.args[0]
                if isinstance(result, (tuple, list)) and len(result) == 1:
                    result = result[0]  # torch.export always puts out a tuple
                meant = self._meant.get(result) if isinstance(result, fx.Node) else None
                if not isinstance(meant, Ref):
                    raise UntraceableError("the output is not one tensor")
                if self._graph.operations[meant.index].shape is None:
                    raise UntraceableError("the output has not one row per sample")
                self._graph.output = meant.index
                return self._graph
            self._lower(node)
        raise UntraceableError("there is no output")

    def _lower(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "get_attr":
            tensor = node.meta.get("constant")
            try:
                tensor = operator.attrgetter(node.target)(self._model)
            except AttributeError:
                if tensor is None:
                    raise
            self._set_all(node, tensor)
            self._meant[node] = self._parameter(tensor) if isinstance(tensor, Tensor) else tensor
        else:
            self._call(node)

    def _placeholder(self, node: fx.Node) -> None:
        if any(operation.kind is Kind.IMAGES for operation in self._graph.operations):
            if not node.args:
                raise UntraceableError(f"the forward pass takes a second argument, {node.target}")
            self._set_all(node, node.args[0])
            self._meant[node] = node.args[0]
            return
        for probe, images in zip(self._probes, self._images, strict=True):
            probe.values[node] = images
        self._meant[node] = self._add(node, Operation(node.name, Kind.IMAGES, _not_called))

    def _set_all(self, node: fx.Node, value: Any) -> None:
        for probe in self._probes:
            probe.values[node] = value

    def _parameter(self, tensor: Tensor) -> Ref:
        found = self._graph.parameters.get(memory(tensor))
        if found is None:
            operation = Operation("parameter", Kind.PARAMETER, lambda: tensor)
            self._graph.operations.append(operation)
            found = self._graph.parameters[memory(tensor)] = len(self._graph.operations) - 1
        return Ref(found)

    def _add(self, node: fx.Node, operation: Operation) -> Ref:
        values = [probe.values[node] for probe in self._probes]
        tensors = [leaf for leaf in leaves(values) if isinstance(leaf, Tensor)]
        if isinstance(values[_LOOKED_AT], Tensor) and _has_rows(values):
            operation.shape = tuple(values[_LOOKED_AT].shape[1:])
        if tensors:
            operation.element_size = max(tensor.element_size() for tensor in tensors)
        self._graph.operations.append(operation)
        return Ref(len(self._graph.operations) - 1)

    def _call(self, node: fx.Node) -> None:
        changed = self._run(node)
        values = [probe.values[node] for probe in self._probes]
        if not any(isinstance(leaf, Tensor) for leaf in leaves(values)) and not changed:
            if not self._reads_shapes(node):
                raise UntraceableError(f"{node.name} turns values into plain numbers")
            if node.target not in _LINEAR and self._reads_counts(node):
                raise UntraceableError(f"{node.name} may do otherwise with other batch sizes")
            self._meant[node] = _number(node.name, values)
            return
        source = next((n for n in node.all_input_nodes if self._same_object(node, n)), None)
        if source is not None and not changed:
            self._meant[node] = self._meant[source]
            return
        self._meant[node] = self._add(node, self._operation(node, bool(changed)))
        for tensor in changed:
            self._rename(node, tensor)

    def _run(self, node: fx.Node) -> list[Tensor]:
        """Run a node on every probe and return the tensors of the checked one that it changed."""
        changed = []
        for number, probe in enumerate(self._probes):
            given = [probe.values[n] for n in node.all_input_nodes]
            before = [(leaf, leaf._version) for leaf in leaves(given) if isinstance(leaf, Tensor)]
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), probe.values.__getitem__)
            probe.values[node] = self._function(node)(*args, **kwargs)
            if number == _LOOKED_AT:
                changed = [leaf for leaf, version in before if leaf._version != version]
        return changed

    def _function(self, node: fx.Node) -> Callable:
        if node.op == "call_module":
            return self._model.get_submodule(node.target)
        if node.op == "call_method":
            return method(node.target)
        return node.target

    def _reads_shapes(self, node: fx.Node) -> bool:
        if node.op == "call_method" and node.target in _SHAPE_METHODS:
            return True
        if node.op == "call_function":
            if node.target in _SHAPE_FUNCTIONS:
                return True
            if node.target is getattr:
                return node.args[1] in _SHAPE_ATTRIBUTES
        return not any(isinstance(self._meant[n], Ref) for n in node.all_input_nodes)

    def _reads_counts(self, node: fx.Node) -> bool:
        read = [self._meant[n] for n in node.all_input_nodes]
        return any(isinstance(leaf, Count) for leaf in leaves(read))

    def _same_object(self, node: fx.Node, source: fx.Node) -> bool:
        return all(
            isinstance(probe.values[node], Tensor) and probe.values[node] is probe.values[source]
            for probe in self._probes
        )

    def _rename(self, node: fx.Node, changed: Tensor) -> None:
        """Let later readers of a tensor that was changed in place read the new value."""
        values = self._probes[_LOOKED_AT].values
        if any(changed is tensor for tensor in (*self._model.parameters(), *self._model.buffers())):
            raise UntraceableError(f"{node.name} changes a parameter")
        storage = changed.untyped_storage().data_ptr()
        for earlier, value in values.items():
            if earlier is node or not any(
                isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() == storage
                for leaf in leaves(value)
            ):
                continue
            if isinstance(value, Tensor) and memory(value) == memory(changed):
                self._meant[earlier] = self._meant[node]
            elif any(self._place[user] > self._place[node] for user in earlier.users):
                raise UntraceableError(f"{node.name} changes part of a tensor that is read later")

    def _operation(self, node: fx.Node, in_place: bool) -> Operation:
        args = self._arguments(node.args)
        kwargs = {name: self._arguments(value) for name, value in node.kwargs.items()}
        if node.op == "call_module":
            return self._module(node, self._model.get_submodule(node.target), args, kwargs)
        target = node.target
        if node.op == "call_method" and target in _NEW:
            tensor = self._probes[_LOOKED_AT].values[node.args[0]]
            return Operation(node.name, Kind.WHOLE, on_empty(target, tensor), args[1:], kwargs)
        if target in _LIKE and len(args) == 1:
            like = self._probes[_LOOKED_AT].values[node.args[0]]
            if _has_rows([probe.values[node.args[0]] for probe in self._probes]):
                made = rows_like(target, like)
                return Operation(node.name, Kind.ROWWISE, made, (Count(1, 0),), kwargs)
        if in_place:
            target, kwargs = out_of_place(target, kwargs)
        return self._listed(node, target, args, kwargs)

    def _arguments(self, argument: Any) -> Any:
        """Return an argument with operations and numbers in the places of nodes."""
        if isinstance(argument, fx.Node):
            return self._meant[argument]
        if isinstance(argument, tuple):
            return tuple(self._arguments(part) for part in argument)
        if isinstance(argument, list):
            return [self._arguments(part) for part in argument]
        if isinstance(argument, dict):
            return {key: self._arguments(part) for key, part in argument.items()}
        if isinstance(argument, slice):
            parts = (argument.start, argument.stop, argument.step)
            return slice(*(self._arguments(part) for part in parts))
        return argument

    def _module(self, node: fx.Node, module: nn.Module, args: tuple, kwargs: dict) -> Operation:
        if module._forward_hooks or module._forward_pre_hooks:
            raise UntraceableError(f"{node.target} has hooks")
        if isinstance(module, _ConvNd) and stored_weight(module) is not None:
            return self._convolution_module(node, module, args, kwargs)
        if any(memory(parameter) in self._weights for parameter in module.parameters()):
            raise UntraceableError(f"{node.target} uses a kernel in a way of its own")
        if isinstance(module, nn.ReLU):
            return Operation(node.name, Kind.RELU, torch.relu, args)
        if getattr(module, "inplace", False):
            module = copy.copy(module)
            module.inplace = False
        rowwise = not module.training and self._rows(node) and module_is_rowwise(module)
        if isinstance(module, _BatchNorm) and rowwise:
            normalization = Normalization(
                module.running_mean, module.running_var, module.weight, module.bias, module.eps
            )
            return Operation(
                node.name, Kind.NORMALIZATION, module, args, normalization=normalization
            )
        kind = Kind.ROWWISE if rowwise and not _follow_batch((args, kwargs)) else Kind.WHOLE
        return Operation(node.name, kind, module, args, kwargs)

    def _convolution_module(
        self, node: fx.Node, module: _ConvNd, args: tuple, kwargs: dict
    ) -> Operation:
        if len(args) != 1 or kwargs:
            raise UntraceableError(f"{node.target} is called with more than one tensor")
        images, padding = args[0], module.padding
        if module.padding_mode != "zeros":
            amounts = tuple(module._reversed_padding_repeated_twice)
            images = self._padded(node, images, amounts, module.padding_mode)
            padding = "valid"
        sides = tuple(module.kernel_size)
        images, padding = self._padding(node, images, padding, sides, tuple(module.dilation))
        transposed = isinstance(module, _ConvTransposeNd)
        numbers = Filter(
            stride=tuple(module.stride),
            padding=padding,
            dilation=tuple(module.dilation),
            groups=module.groups,
            output_padding=tuple(module.output_padding) if transposed else None,
        )
        bias = None if module.bias is None else self._parameter(module.bias)
        return self._convolution(node, images, self._parameter(module.weight), bias, numbers)

    def _padding(
        self,
        node: fx.Node,
        images: Any,
        padding: Any,
        sides: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> tuple[Any, tuple[int, ...]]:
        """Return (images, padding in numbers) of a convolution, padded before where need be."""
        if padding == "valid":
            return images, (0,) * len(sides)
        if padding != "same":
            return images, tuple(padding)
        total = [step * (side - 1) for step, side in zip(dilation, sides, strict=True)]
        if any(amount % 2 for amount in total):
            # One more behind than in front, as torch does it.
            more = [part for amount in reversed(total) for part in (0, amount % 2)]
            images = self._padded(node, images, tuple(more), "constant")
        return images, tuple(amount // 2 for amount in total)

    def _padded(self, node: fx.Node, images: Any, amounts: tuple[int, ...], mode: str) -> Ref:
        padding = pad(amounts, mode)
        operation = Operation(node.name, Kind.ROWWISE, padding, (images,))
        if not self._rows(node.args[0]):
            operation.kind = Kind.WHOLE
        else:
            given = self._probes[_LOOKED_AT].values[node.args[0]]
            operation.shape = tuple(padding(given).shape[1:])
            operation.element_size = given.element_size()
        self._graph.operations.append(operation)
        return Ref(len(self._graph.operations) - 1)

    def _convolution(
        self, node: fx.Node, images: Any, weight: Ref, bias: Ref | None, numbers: Filter
    ) -> Operation:
        kind = Kind.CONVOLUTION if self._rows(node) and self._rows(node.args[0]) else Kind.WHOLE
        args = (images, weight, bias)
        return Operation(node.name, kind, convolve(numbers), args, filter=numbers)

    def _listed(
        self, node: fx.Node, target: Callable | str, args: tuple, kwargs: dict
    ) -> Operation:
        name = name_of(target)
        values = self._probes[_LOOKED_AT].values
        given, named = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        function = method(target) if isinstance(target, str) else target
        if name in ("view", "reshape") and all(
            isinstance(leaf, (int, Count)) for leaf in leaves(args[1:])
        ):
            # Not view: what replay computes may lie in memory in another order.
            sizes = tuple(leaves(args[1:]))
            rows = sizes[0] == Count(1, 0) and not _follow_batch(sizes[1:]) and self._rows(node)
            kind = Kind.ROWWISE if rows and self._rows(node.args[0]) else Kind.WHOLE
            return Operation(node.name, kind, torch.reshape, (args[0], sizes))
        if name == "conv2d" or (name or "").startswith("conv"):
            convolution = self._functional_convolution(node, args, kwargs)
            if convolution is not None:
                return convolution
        if called_name(target) in ("batch_norm", "_native_batch_norm_legit_no_training"):
            normalization = self._functional_normalization(node, target, given, named, args)
            if normalization is not None:
                return normalization
        rowwise = (
            name is not None
            and self._rows(node)
            and all(self._rows(n) or self._batchless(n) for n in node.all_input_nodes)
            and not _follow_batch((args, kwargs))
            and call_is_rowwise(name, tuple(given), dict(named))
        )
        if rowwise and name == "relu":
            return Operation(node.name, Kind.RELU, torch.relu, args[:1])
        if rowwise and name == "add" and len(args) == 2 and not kwargs and _alike(given):
            return Operation(node.name, Kind.ADD, torch.add, args)
        kind = Kind.ROWWISE if rowwise else Kind.WHOLE
        return Operation(node.name, kind, function, args, kwargs)

    def _functional_convolution(self, node: fx.Node, args: tuple, kwargs: dict) -> Operation | None:
        """Return a convolution of the rows with a parameter, or None if it is something else."""
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        name = called_name(node.target)
        transposed = "transpose" in name
        if transposed:
            names = (*names[:5], "output_padding", "groups", "dilation")
        given = dict(zip(names, args, strict=False)) | kwargs
        weight, bias = given.get("weight"), given.get("bias")
        if not (isinstance(weight, Ref) and self._kind(weight) is Kind.PARAMETER):
            return None
        if bias is not None and not (isinstance(bias, Ref) and self._kind(bias) is Kind.PARAMETER):
            return None
        kernel = self._graph.operations[weight.index].function().shape[2:]

        def numbers(key: str, default: int) -> tuple[int, ...]:
            value = given.get(key, default)
            values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            return values * len(kernel) if len(values) == 1 else values

        padding = given.get("padding", 0)
        images, padding = self._padding(
            node,
            given["input"],
            padding if isinstance(padding, str) else numbers("padding", 0),
            tuple(kernel),
            numbers("dilation", 1),
        )
        filter_ = Filter(
            stride=numbers("stride", 1),
            padding=padding,
            dilation=numbers("dilation", 1),
            groups=given.get("groups", 1),
            output_padding=numbers("output_padding", 0) if transposed else None,
        )
        return self._convolution(node, images, weight, bias, filter_)

    def _functional_normalization(
        self, node: fx.Node, target: Callable, given: tuple, named: dict, args: tuple
    ) -> Operation | None:
        if (
            called_name(target) != "batch_norm"
            or named
            or not isinstance(target, torch._ops.OpOverload)
        ):
            return None
        _, gamma, beta, mean, var, training, _, eps, _ = given
        # Computed ones may follow a zeroed kernel.
        plain = all(
            arg is None or (isinstance(arg, Ref) and self._kind(arg) is Kind.PARAMETER)
            for arg in args[1:5]
        )
        if training or mean is None or not plain or not self._rows(node.args[0]):
            return None
        normalization = Normalization(mean, var, gamma, beta, eps)
        function = normalize(normalization)
        return Operation(
            node.name, Kind.NORMALIZATION, function, args[:1], normalization=normalization
        )

    def _kind(self, ref: Ref) -> Kind:
        return self._graph.operations[ref.index].kind

    def _rows(self, node: Any) -> bool:
        """Return whether a node's tensors have a row per sample in every probe."""
        if not isinstance(node, fx.Node):
            return False
        meant = self._meant.get(node)
        if isinstance(meant, Ref) and self._kind(meant) is Kind.PARAMETER:
            return False
        return _has_rows([probe.values[node] for probe in self._probes])

    def _batchless(self, node: fx.Node) -> bool:
        meant = self._meant[node]
        return not isinstance(meant, Ref) or self._kind(meant) is Kind.PARAMETER


def _not_called() -> None:
    raise AssertionError("the images are given, not computed")


def _has_rows(values: list[Any]) -> bool:
    for value, rows in zip(values, BATCHES, strict=True):
        tensors = list(leaves(value))
        if not tensors or not all(
            isinstance(tensor, Tensor) and tensor.ndim > 0 and tensor.shape[0] == rows
            for tensor in tensors
        ):
            return False
    return True


def _alike(tensors: tuple) -> bool:
    return all(isinstance(tensor, Tensor) for tensor in tensors) and (
        tensors[0].shape == tensors[1].shape and tensors[0].dtype == tensors[1].dtype
    )


def _follow_batch(argument: Any) -> bool:
    return any(isinstance(leaf, Count) for leaf in leaves(argument))


def _number(name: str, values: list[Any]) -> Any:
    """Return what stands for a plain value that was seen in every probe."""
    first = values[0]
    if isinstance(first, (tuple, list)):
        if len({len(value) for value in values}) > 1:
            raise UntraceableError(f"{name} has a length that follows the batch")
        parts = [_number(name, list(parts)) for parts in zip(*values, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts
    if all(value == first for value in values):
        return first
    if not all(type(value) is int for value in values):
        raise UntraceableError(f"{name} follows the batch and is no integer")
    per_row, rest = divmod(values[1] - values[0], BATCHES[1] - BATCHES[0])
    count = Count(per_row, values[0] - per_row * BATCHES[0])
    if rest or any(count(rows) != value for rows, value in zip(BATCHES, values, strict=True)):
        raise UntraceableError(f"{name} does not follow the batch in a straight line")
    return count
