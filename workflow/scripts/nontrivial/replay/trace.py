"""From a network to its operations: traced, lowered, and checked.

``torch.fx`` first; what it cannot follow, ``torch.export`` often can. At the end the
operations are run as replay will run them, and must give what the network gives.
"""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from nontrivial.errors import UserError
from nontrivial.replay.graph import Graph, Kind
from nontrivial.replay.lowering import BATCHES, Lowering, UntraceableError
from nontrivial.replay.zeroing import same_bits

_BATCHES_FROM = 2  # torch.export takes a batch of one for another network
_CHECKED = (3, 1)  # images in a batch for which the operations must give the network's output
_SEED = 0
_CHECKING_SEED = 1  # other images than those that were lowered with
_TOLERANCE = 1e-3  # of the largest value: rows by themselves may differ in their last bits


def trace(model: nn.Module, sample_shape: tuple[int, ...]) -> Graph:
    """Return the operations of a network.

    Args:
        model: in evaluation mode, on its device.
        sample_shape: of one sample, (C, H, W).

    Raises:
        UntraceableError: neither way of tracing gives what the network gives.
        UserError: the forward pass changes the network's own parameters or buffers, or does
            not return one tensor.
    """
    reasons = []
    with _unchanged(model), torch.no_grad():
        checked = [random_images(model, n, sample_shape, _CHECKING_SEED) for n in _CHECKED]
        expected = [model(images) for images in checked]
        if not all(isinstance(output, Tensor) for output in expected):
            raise UserError(
                f"the network returns {type(expected[0]).__name__}, not one tensor;"
                " correct its factory"
            )
        for name, list_nodes in (("torch.fx", _symbolic), ("torch.export", _exported)):
            try:
                graph = _lower(model, list_nodes(model, sample_shape), sample_shape, name)
                for images, output in zip(checked, expected, strict=True):
                    _check(graph, images, output)
                return graph
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                # Tracing runs the user's forward with stand-ins for tensors: it may raise anything.
                message = str(error).strip() or type(error).__name__
                reasons.append(f"{name}: {message.splitlines()[0]}")
    raise UntraceableError("; ".join(reasons))


def random_images(
    model: nn.Module, rows: int, sample_shape: tuple[int, ...], seed: int = _SEED
) -> Tensor:
    """Return the same random images at every call with a seed, on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.randn(rows, *sample_shape, generator=generator).to(device)


def _symbolic(model: nn.Module, sample_shape: tuple[int, ...]) -> list[fx.Node]:
    return list(fx.Tracer().trace(model).nodes)


def _exported(model: nn.Module, sample_shape: tuple[int, ...]) -> list[fx.Node]:
    images = random_images(model, BATCHES[0], sample_shape)
    batch = {0: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (images,), dynamic_shapes=(batch,))
    for bounds in exported.range_constraints.values():
        if str(bounds.upper) != "int_oo" or int(bounds.lower) > _BATCHES_FROM:
            raise UntraceableError(f"it holds for batches of {bounds.lower} to {bounds.upper} only")
    module = exported.module(check_guards=False)
    # Constants that the program made up are not in the network.
    for node in module.graph.nodes:
        if node.op == "get_attr":
            node.meta["constant"] = operator.attrgetter(node.target)(module)
    return [node for node in module.graph.nodes if node.target != "_guards_fn"]


def _lower(
    model: nn.Module, nodes: list[fx.Node], sample_shape: tuple[int, ...], name: str
) -> Graph:
    batches = [random_images(model, rows, sample_shape) for rows in BATCHES]
    return Lowering(model, nodes, batches, name).run()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put back what the block changes in the network, and refuse it.

    Raises:
        UserError: a parameter or buffer is not what it was.
    """
    stores = [store for m in model.modules() for store in (m._parameters, m._buffers)]
    held = [
        (store, name, tensor, tensor.detach().clone())
        for store in stores
        for name, tensor in store.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        changed = False
        for store, name, tensor, before in held:
            if store.get(name) is not tensor or not same_bits(tensor, before):
                changed = True
                with torch.no_grad():
                    tensor.copy_(before)
                store[name] = tensor
        if changed:
            raise UserError(
                "the network's forward pass changes its own parameters or buffers in evaluation"
                " mode, so no two passes are comparable; correct its factory"
            )


def _check(graph: Graph, images: Tensor, expected: Tensor) -> None:
    """Refuse operations that do not give the network's own output, bit by bit on the CPU.

    What the tables call row by row is run on one row alone, too.
    """
    values: dict[int, Any] = {}
    for index, operation in enumerate(graph.operations):
        is_given = operation.kind is Kind.IMAGES
        values[index] = images if is_given else operation.call(values, len(images))
        if operation.kind not in (Kind.IMAGES, Kind.PARAMETER, Kind.WHOLE):
            alone = {
                read: values[read]
                if graph.operations[read].kind is Kind.PARAMETER
                else _one_row(values[read])
                for read in operation.inputs
            }
            if not _close(operation.call(alone, 1), _one_row(values[index]), _TOLERANCE):
                raise UntraceableError(f"{operation.name} does not treat every sample by itself")
    tolerance = 0.0 if images.device.type == "cpu" else _TOLERANCE
    if not _close(values[graph.output], expected, tolerance):
        raise UntraceableError("the traced operations do not give the network's output")


def _one_row(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) else type(value)(_one_row(v) for v in value)


def _close(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, Tensor):
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        if not expected.is_floating_point():
            return True
        finite = expected[expected.isfinite()]
        scale = finite.abs().max().item() if finite.numel() else 0.0
        return torch.allclose(found, expected, rtol=0, atol=tolerance * scale, equal_nan=True)
    return all(_close(a, b, tolerance) for a, b in zip(found, expected, strict=True))
