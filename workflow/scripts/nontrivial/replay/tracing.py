"""From a network to a checked graph of its operations.

``torch.fx`` is tried first; ``torch.export`` can often trace what it cannot. In the end the
operations are run as replay will run them, and must reproduce the network's output.
"""

import io
import operator
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, fx, nn

from nontrivial.errors import UserError
from nontrivial.replay.graph import Graph, Kind, UntraceableError
from nontrivial.replay.lowering import Lowering
from nontrivial.replay.probing import BATCH_SIZES, random_images
from nontrivial.replay.zeroing import same_bits

_EXPORT_FROM = 2  # torch.export specializes on a batch size of one
_CHECKED_SIZES = (3, 1)  # batch sizes at which the graph must reproduce the network's output
_CHECK_SEED = 1  # other images than those of lowering
_LONGEST_REASON = 160  # characters of a tracer's error in the warning
_TOLERANCE = 1e-3  # of the largest value: a sample alone may differ in its last bits


def trace(model: nn.Module, sample_shape: tuple[int, ...]) -> Graph:
    """Return the graph of a network.

    Args:
        model: in evaluation mode, on its device.
        sample_shape: of one sample, (C, H, W).

    Raises:
        UntraceableError: neither tracer reproduces the network's output.
        UserError: the forward pass changes the network's own parameters or buffers, or does
            not return one tensor.
    """
    reasons = []
    with _unchanged(model), torch.no_grad():
        checked = [random_images(model, n, sample_shape, _CHECK_SEED) for n in _CHECKED_SIZES]
        expected = [model(images) for images in checked]
        for output in expected:
            if not isinstance(output, Tensor):
                raise UserError(
                    f"the network returns {type(output).__name__}, not one tensor;"
                    " correct its factory"
                )
        for tracer, list_nodes in (("torch.fx", _symbolic_nodes), ("torch.export", _export_nodes)):
            try:
                batches = [random_images(model, size, sample_shape) for size in BATCH_SIZES]
                graph = Lowering(model, list_nodes(model, batches[0]), batches, tracer).run()
                for images, output in zip(checked, expected, strict=True):
                    _check(graph, images, output)
                return graph
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                # Tracers run the user's code with proxies for tensors, so it may raise anything.
                reasons.append(f"{tracer}: {_in_one_line(error)}")
    raise UntraceableError("; ".join(reasons))


def _in_one_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened if it is long."""
    message = str(error).strip()
    if not isinstance(error, UntraceableError):
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return textwrap.shorten(message.splitlines()[0], _LONGEST_REASON, placeholder=" ...")


def _symbolic_nodes(model: nn.Module, images: Tensor) -> list[fx.Node]:
    return list(fx.Tracer().trace(model).nodes)


def _export_nodes(model: nn.Module, images: Tensor) -> list[fx.Node]:
    batch = {0: torch.export.Dim.DYNAMIC}
    # Before it raises, torch prints the whole graph to standard error.
    with redirect_stderr(io.StringIO()):
        exported = torch.export.export(model, (images,), dynamic_shapes=(batch,))
    for bounds in exported.range_constraints.values():
        if str(bounds.upper) != "int_oo" or int(bounds.lower) > _EXPORT_FROM:
            raise UntraceableError(
                f"the program is valid only for batch sizes {bounds.lower} to {bounds.upper}"
            )
    module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for node in module.graph.nodes:
        if node.op == "get_attr":  # a constant of the exported program is not in the network
            node.meta["constant"] = operator.attrgetter(node.target)(module)
    return [node for node in module.graph.nodes if node.target != "_guards_fn"]


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Restore what the block changes in the network, and refuse the network if it does.

    Raises:
        UserError: a parameter or buffer was changed.
    """
    stores: list[dict[str, Any]] = [
        store for module in model.modules() for store in (module._parameters, module._buffers)
    ]
    saved: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (store, name, tensor, tensor.detach().clone())
        for store in stores
        for name, tensor in store.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        changed = False
        for store, name, tensor, before in saved:
            if store.get(name) is not tensor or not same_bits(tensor, before):
                changed = True
                with torch.no_grad():
                    tensor.copy_(before)
                store[name] = tensor
        if changed:
            raise UserError(
                "the network's forward pass changes its own parameters or buffers in evaluation"
                " mode, so two passes may differ; correct its factory"
            )


def _check(graph: Graph, images: Tensor, expected: Tensor) -> None:
    """Refuse a graph that does not reproduce the network's output, bit by bit on the CPU.

    Operations that are said to treat samples independently also run on one sample alone.
    """
    values: dict[int, Any] = {}
    for index, operation in enumerate(graph.operations):
        is_input = operation.kind is Kind.INPUT
        values[index] = images if is_input else operation.call(values, len(images))
        if operation.kind not in (Kind.INPUT, Kind.PARAMETER, Kind.BATCHWISE):
            alone = {
                read: values[read]
                if graph.operations[read].kind is Kind.PARAMETER
                else _first_sample(values[read])
                for read in operation.inputs
            }
            result = operation.call(alone, 1)
            if not _is_close(result, _first_sample(values[index]), _TOLERANCE):
                raise UntraceableError(f"{operation.name} mixes the samples of a batch")
    tolerance = 0.0 if images.device.type == "cpu" else _TOLERANCE
    if not _is_close(values[graph.output], expected, tolerance):
        raise UntraceableError("the traced operations do not reproduce the network's output")


def _first_sample(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) else type(value)(map(_first_sample, value))


def _is_close(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, Tensor):
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        if not expected.is_floating_point():
            return True
        finite = expected[expected.isfinite()]
        scale = finite.abs().max().item() if finite.numel() else 0.0
        return torch.allclose(found, expected, rtol=0, atol=tolerance * scale, equal_nan=True)
    return all(_is_close(a, b, tolerance) for a, b in zip(found, expected, strict=True))
