"""What must follow from zeroing, whatever the weights: read from the network's graph.

``cut``: with the kernels zeroed no path leads from the images to the output, so every image
gets the same answer, by construction. ``no_effect``: no path leads from the kernels to the
output, or none of their taps ever meets data, so zeroing changes nothing.
"""

import logging
import operator
from collections.abc import Iterable, Set

import torch
from torch import fx

from nontrivial.experiment.zeroing import zeroed
from nontrivial.network.convolutions import convolutions, stored_weight

log = logging.getLogger("nontrivial")

OK = "ok"
CUT = "cut"
NO_EFFECT = "no_effect"

PROBES = 8  # random images where the graph cannot be read
_PROBE_SEED = 0

# What reads a tensor's shape, type or place, and never its values.
_SHAPE_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim"})
_SHAPE_METHODS = frozenset({"size", "dim", "ndimension", "numel", "new_zeros", "new_ones"})
_SHAPE_FUNCTIONS = frozenset({torch.zeros_like, torch.ones_like, torch.empty_like, len})
_IN_PLACE_FUNCTIONS = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
)


class Dependence:
    """Tells the status of targets of one network.

    The graph is traced symbolically, once. A network whose forward pass cannot be traced (it
    branches on values, say) is probed with random images instead, and a warning says so.
    """

    def __init__(self, model: torch.nn.Module, channels: int, size: tuple[int, int]):
        """Trace the network.

        Args:
            model: in evaluation mode.
            channels: number of image channels.
            size: (height, width) of the images.
        """
        self._model = model
        self._shape = (PROBES, channels, *size)
        self._graph = _trace(model)
        if self._graph is None:
            log.warning(
                "the network's graph cannot be traced; cut and no_effect are found by probing"
                " with %d random images instead",
                PROBES,
            )

    def status(self, paths: Iterable[str], live_weights: int) -> str:
        """Return ``ok``, ``cut`` or ``no_effect`` of a target.

        Args:
            paths: module paths of its kernels; none (the baseline) is ``ok``.
            live_weights: how many of their weights meet data.
        """
        paths = list(paths)
        if not paths:
            return OK
        if live_weights == 0:
            return NO_EFFECT
        if self._graph is None:
            return self._probe(paths)
        # All modules that use a zeroed weight, because weights may be shared.
        known = convolutions(self._model)
        weights = {id(stored_weight(known[path])) for path in paths}
        kernels = {module for module in known.values() if id(stored_weight(module)) in weights}
        nodes = {node for node in self._graph.nodes if _module(self._model, node) in kernels}
        if not _output_depends(self._graph, nodes, frozenset()):
            return NO_EFFECT
        images = {node for node in self._graph.nodes if node.op == "placeholder"}
        return OK if _output_depends(self._graph, images, nodes) else CUT

    @torch.inference_mode()
    def _probe(self, paths: list[str]) -> str:
        device = next(self._model.parameters()).device
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        images = torch.randn(self._shape, generator=generator).to(device)
        # One by one: equal rows of a larger batch may differ in their last bits.
        clean = [self._model(image[None]) for image in images]
        with zeroed(self._model, paths):
            left = [self._model(image[None]) for image in images]
        if all(map(torch.equal, clean, left)):
            return NO_EFFECT
        return CUT if all(torch.equal(output, left[0]) for output in left) else OK


def _trace(model: torch.nn.Module) -> fx.Graph | None:
    try:
        graph = fx.Tracer().trace(model)
    except Exception:
        # Tracing runs the user's forward with stand-ins for tensors: it may raise anything.
        log.debug("not traceable", exc_info=True)
        return None
    # A kernel read as a plain tensor, past its module, is not followed here.
    weights = {id(stored_weight(module)) for module in convolutions(model).values()}
    for node in graph.nodes:
        if node.op == "get_attr" and id(operator.attrgetter(node.target)(model)) in weights:
            return None
    return graph


def _module(model: torch.nn.Module, node: fx.Node) -> torch.nn.Module | None:
    return model.get_submodule(node.target) if node.op == "call_module" else None


def _output_depends(graph: fx.Graph, sources: Set[fx.Node], constants: Set[fx.Node]) -> bool:
    """Return whether the output's values depend on those of the source nodes.

    Args:
        graph: the network's.
        sources: nodes whose values vary.
        constants: nodes whose values do not, whatever they read.
    """
    varying: set[fx.Node] = set()
    for node in graph.nodes:
        if node in constants or _reads_shape_only(node):
            continue
        if node in sources or varying.intersection(node.all_input_nodes):
            varying.add(node)
            if _in_place(node):
                varying.add(node.args[0])  # later readers of the tensor see the change
    return any(node.op == "output" and node in varying for node in graph.nodes)


def _reads_shape_only(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _SHAPE_ATTRIBUTES
    return node.target in _SHAPE_FUNCTIONS


def _in_place(node: fx.Node) -> bool:
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if node.op == "call_method":
        return node.target.endswith("_") and not node.target.endswith("__")
    return node.op == "call_function" and node.target in _IN_PLACE_FUNCTIONS
