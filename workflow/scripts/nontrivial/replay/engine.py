"""Replay: the outputs of a network for many sets of zeroed kernels."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from nontrivial.errors import UserError
from nontrivial.execution.device import arithmetic
from nontrivial.networks.misread import SafeConvolutions
from nontrivial.replay.cost import Cost, count_multiply_accumulates
from nontrivial.replay.folding import fold
from nontrivial.replay.full_passes import FullPasses
from nontrivial.replay.graph import Graph, UntraceableError, may_share_memory, tensor_key
from nontrivial.replay.interpreter import Interpreter
from nontrivial.replay.tracing import trace
from nontrivial.replay.value_numbering import OK, number_values
from nontrivial.replay.winograd import TensorOptions
from nontrivial.replay.zeroing import kernel_weights

log = logging.getLogger("nontrivial")

# Size of a result that holds several targets: about what the caches of a CPU hold. Not tuned
# on a GPU, where more may be faster.
STACK_BYTES = 4 << 20


class Replay:
    """Computes the outputs of a network with chosen convolution kernels set to zero.

    The result is that of the naive loop (zero the kernels of a target, forward pass, restore)
    up to rounding: in fp32 outputs differ by at most 1e-4 of the largest logit in the tests,
    and with ``reference=True`` on the CPU they are equal bit by bit. The work is less. The
    network is traced once; for each batch, what no zeroed kernel reaches is computed once, and
    for each target only what depends on its kernels. The network itself is never changed. One
    that cannot be traced gets a full pass per target, and a warning that says why.

    Attributes:
        statuses: by target: ``ok``, ``cut`` (by construction, one output for all images) or
            ``no_effect`` (the output of the unchanged network).
        method: ``torch.fx`` or ``torch.export``, which traced the network, or ``full passes``.
        cost: multiply-accumulates per sample, see :class:`nontrivial.replay.cost.Cost`; None
            for full passes.

    References:
        Sharing follows value numbering, as compilers eliminate common subexpressions. Small
        maps are convolved by the minimal filtering algorithms of Winograd 1980, "Arithmetic
        Complexity of Computations". See docs/replay.md.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from nontrivial.replay import Replay
        >>> class Residual(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.stem = nn.Conv2d(3, 8, 3, padding=1)
        ...         self.branch = nn.Conv2d(8, 8, 3, padding=1)
        ...         self.head = nn.Linear(8, 10)
        ...
        ...     def forward(self, x):
        ...         x = torch.relu(self.stem(x))
        ...         return self.head((x + self.branch(x)).mean((2, 3)))
        >>> targets = {"baseline": [], "stem": ["stem"], "branch": ["branch"]}
        >>> replay = Replay(Residual().eval(), (3, 32, 32), targets, batch_size=4)
        >>> replay.statuses
        {'baseline': 'ok', 'stem': 'cut', 'branch': 'ok'}
        >>> images = torch.randn(4, 3, 32, 32)
        >>> outputs = {name: logits for names, logits in replay(images) for name in names}
        >>> outputs["branch"].shape
        torch.Size([4, 10])
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
            model: in evaluation mode, on its device. Do not change it while it is replayed.
            sample_shape: of one sample, (C, H, W).
            targets: module paths of the convolutions whose kernels are zero, by target name.
            batch_size: the largest number of samples in a batch; memory grows with it.
            precision: ``fp32``, or ``bf16`` for reduced precision.
            reference: whether to compute exactly what full passes with these batches compute:
                without folded normalizations, constants computed once, targets stacked in one
                batch, or dead taps left out.
            stack_bytes: maximum size in bytes of a result that holds several targets; None for
                the default.

        Raises:
            UserError: a path is not a convolution, a kernel is computed from other parameters,
                the precision is unknown, or the network is in training mode, does not return
                one tensor, or changes its own state in its forward pass.
        """
        device = next(model.parameters()).device
        arithmetic(device, precision)  # refuses an unknown precision
        if model.training:
            raise UserError("the network is in training mode; call its eval() first")
        weights = {name: kernel_weights(model, paths) for name, paths in targets.items()}

        def context() -> AbstractContextManager:
            return arithmetic(device, precision)

        @contextmanager
        def safe_context() -> Iterator[None]:
            with context(), SafeConvolutions():
                yield

        self.cost: Cost | None = None
        try:
            with torch.inference_mode(False), SafeConvolutions() as calls:
                graph = trace(model, sample_shape)
                zeroed = {name: _indices(graph, chosen) for name, chosen in weights.items()}
        except UntraceableError as error:
            log.warning(
                "the network cannot be traced (%s); each of the %d targets takes a full pass over"
                " the network, several times slower, and cut and no_effect are found by probing"
                " with random images",
                error,
                len(targets),
            )
            passes = FullPasses(model, targets, safe_context)
            self._run = passes.run
            with SafeConvolutions():
                self.statuses = passes.statuses(sample_shape)
            self.method = "full passes"
            return
        folded = fold(graph)
        values = number_values(folded, zeroed, simplify=True)
        self.statuses = {
            name: values.status(name) if chosen else OK for name, chosen in weights.items()
        }
        self.method = graph.traced_with
        if reference:
            folded, values = graph, number_values(graph, zeroed, simplify=False)
        self.cost = count_multiply_accumulates(folded, values)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._run = Interpreter(
            folded,
            values,
            TensorOptions(device, dtype),
            safe_context if calls.misread or calls.dilating else context,
            batch_size,
            STACK_BYTES if stack_bytes is None else stack_bytes,
            reference,
        ).run

    def __call__(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield (names of the targets that share an output, the output) for a batch.

        Each target comes once; the order is unspecified. Do not write to an output: several
        may share memory.

        Args:
            images: (N, C, H, W) float32, normalized, on the network's device.

        Yields:
            Outputs float32, (N, ...), on the network's device.
        """
        return self._run(images)


def _indices(graph: Graph, weights: Mapping[str, Tensor]) -> set[int]:
    """Return the indices of the operations of some kernels; one that nothing reads has none."""
    indices = set()
    for path, weight in weights.items():
        key = tensor_key(weight)
        for other, index in graph.parameters.items():
            if other != key and may_share_memory(graph.operations[index].function(), weight):
                raise UntraceableError(f"{path} shares memory with a parameter of another shape")
        if key in graph.parameters:
            indices.add(graph.parameters[key])
    return indices
