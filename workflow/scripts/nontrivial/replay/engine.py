"""Replay: the outputs of a network for many sets of zeroed kernels, each at its own price."""

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from nontrivial.errors import UserError
from nontrivial.execution.device import arithmetic
from nontrivial.replay.cost import Cost, count
from nontrivial.replay.fast_convolution import Place
from nontrivial.replay.folding import fold
from nontrivial.replay.full_passes import FullPasses
from nontrivial.replay.graph import Graph, memory, overlap
from nontrivial.replay.lowering import UntraceableError
from nontrivial.replay.program import Program
from nontrivial.replay.trace import trace
from nontrivial.replay.values import OK, number
from nontrivial.replay.zeroing import kernel_weights

log = logging.getLogger("nontrivial")

# Of a result that holds several targets: what the caches of a processor hold. Not measured on
# a GPU, where more may be faster.
STACK_BYTES = 4 << 20


class Replay:
    """Computes what a network puts out with chosen kernels set to zero.

    The network is traced once. For every batch, what no zeroed kernel reaches is computed
    once, and for each target only what depends on its kernels. A network that cannot be
    traced gets a full pass per target, and a warning that says why.

    Attributes:
        statuses: of each target, ``ok``, ``cut`` (one output for all images, by
            construction) or ``no_effect`` (the output of the network as it is).
        method: ``torch.fx`` or ``torch.export``, by which the network was traced, or ``full
            passes``.
        cost: multiply-accumulates per sample; None where the network could not be traced.
    """

    def __init__(
        self,
        model: nn.Module,
        sample_shape: tuple[int, ...],
        targets: Mapping[str, Collection[str]],
        *,
        batch_size: int,
        precision: str = "fp32",
        reference: bool = False,
        stack_bytes: int | None = None,
    ):
        """Trace the network and plan the computation.

        Args:
            model: in evaluation mode, on its device. It must stay as it is while it is
                replayed.
            sample_shape: of one sample, (C, H, W).
            targets: by name, module paths of the convolutions whose kernels are zero.
            batch_size: the largest number of samples in a batch; memory follows it.
            precision: ``fp32``, or ``bf16`` for reduced precision.
            reference: whether to compute exactly what a pass over the network with these
                batches computes: no folded normalization, no row that stands for all, no
                targets together, no tap left out. On the CPU it is equal bit by bit.
            stack_bytes: size of a result that holds several targets; None for the default.

        Raises:
            UserError: a path is no convolution, its weight is computed from others, the
                precision is unknown, the network is in training mode, returns something else
                than one tensor, or changes its own state in its forward pass.
        """
        device = next(model.parameters()).device
        arithmetic(device, precision)  # refuses an unknown precision
        if model.training:
            raise UserError("the network is in training mode; call its eval() first")
        weights = {name: kernel_weights(model, paths) for name, paths in targets.items()}

        def context() -> contextlib.AbstractContextManager:
            return arithmetic(device, precision)

        try:
            with torch.inference_mode(False):
                graph = trace(model, sample_shape)
                zeroed = {
                    name: {_index(graph, *item) for item in chosen.items()} - {None}
                    for name, chosen in weights.items()
                }
        except UntraceableError as error:
            log.warning(
                "the network cannot be traced (%s); each of the %d targets takes a full pass over"
                " the network, several times slower, and cut and no_effect are found by probing"
                " with random images",
                error,
                len(targets),
            )
            passes = FullPasses(model, targets, context)
            self._run = passes.run
            self.statuses = passes.statuses(sample_shape)
            self.method = "full passes"
            self.cost: Cost | None = None
            return
        folded = fold(graph)
        values = number(folded, zeroed, shortcuts=True)
        self.statuses = {
            name: values.status(name) if chosen else OK for name, chosen in weights.items()
        }
        self.method = graph.traced_with
        if reference:
            folded, values = graph, number(graph, zeroed, shortcuts=False)
        self.cost = count(folded, values)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._run = Program(
            folded,
            values,
            Place(device, dtype),
            context,
            batch_size,
            STACK_BYTES if stack_bytes is None else stack_bytes,
            reference,
        ).run

    def __call__(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield the outputs for a batch: (names of targets that share it, output).

        Every target comes once, in no promised order. Outputs are to read, not to write on:
        several may lie in the same memory.

        Args:
            images: (N, C, H, W) float32, normalized, on the network's device.
        """
        return self._run(images)


def _index(graph: Graph, path: str, weight: Tensor) -> int | None:
    """Return a weight's operation; None if nothing reads it."""
    for key, index in graph.parameters.items():
        if key != memory(weight) and overlap(graph.operations[index].function(), weight):
            raise UntraceableError(f"{path} shares memory with a parameter of another shape")
    return graph.parameters.get(memory(weight))
