"""The fallback for networks that cannot be traced: one full pass per target."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from nontrivial.replay.graph import TensorKey, tensor_key
from nontrivial.replay.probing import random_images
from nontrivial.replay.value_numbering import CUT, NO_EFFECT, OK
from nontrivial.replay.zeroing import kernel_weights, zeroed

PROBED_IMAGES = 8  # random images from which the status of a target is read


class FullPasses:
    """Computes the outputs of all targets by one pass over the network for each.

    Kernels are set to zero and restored, because a hook on a convolution would miss other
    uses of its kernel.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Mapping[str, Collection[str]],
        context: Callable[[], AbstractContextManager],
    ):
        """Find the targets with equal kernels.

        Args:
            model: in evaluation mode.
            targets: module paths of the kernels that are zero, by target name.
            context: returns the context in which passes run.
        """
        self._model = model
        self._context = context
        self._paths: dict[frozenset[TensorKey], list[str]] = {}
        self._names: dict[frozenset[TensorKey], list[str]] = {}
        for name, paths in targets.items():
            kernels = frozenset(map(tensor_key, kernel_weights(model, paths).values()))
            self._paths.setdefault(kernels, list(paths))
            self._names.setdefault(kernels, []).append(name)

    def run(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield (names of targets, their output) for a batch, each target once."""
        for kernels, paths in self._paths.items():
            with torch.inference_mode(), self._context():
                output = self._output(paths, images)
            yield tuple(self._names[kernels]), output.float()

    def statuses(self, sample_shape: tuple[int, ...]) -> dict[str, str]:
        """Return the status of each target, as outputs for random images show it."""
        images = random_images(self._model, PROBED_IMAGES, sample_shape)
        statuses: dict[str, str] = {}
        with torch.inference_mode():
            # One by one: equal samples of a larger batch may differ in their last bits.
            clean = [self._model(image[None]) for image in images]
            for kernels, paths in self._paths.items():
                outputs = [self._output(paths, image[None]) for image in images]
                if not paths:
                    status = OK
                elif all(map(torch.equal, clean, outputs)):
                    status = NO_EFFECT
                else:
                    constant = all(torch.equal(output, outputs[0]) for output in outputs)
                    status = CUT if constant else OK
                statuses.update(dict.fromkeys(self._names[kernels], status))
        return statuses

    def _output(self, paths: list[str], images: Tensor) -> Tensor:
        with zeroed(self._model, paths):
            return self._model(images)
