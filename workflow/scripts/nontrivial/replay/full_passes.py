"""What is left for a network whose operations cannot be listed: one full pass per target."""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from nontrivial.networks.convolutions import convolutions, stored_weight
from nontrivial.replay.graph import memory
from nontrivial.replay.trace import random_images
from nontrivial.replay.values import CUT, NO_EFFECT, OK
from nontrivial.replay.zeroing import zeroed

PROBES = 8  # random images that tell the status of a target


class FullPasses:
    """Computes the outputs of all targets by a pass over the network for each.

    Kernels are set to zero and put back, because a hook on a convolution would miss what else
    the network does with its kernel.
    """

    def __init__(self, model: nn.Module, targets: Mapping[str, Collection[str]], context):
        """Look for targets with equal kernels.

        Args:
            model: in evaluation mode.
            targets: by name, module paths of the kernels that are zero.
            context: in which passes run.
        """
        self._model = model
        self._context = context
        known = convolutions(model)
        self._targets: dict[frozenset, tuple[list[str], list[str]]] = {}  # paths, names
        for name, paths in targets.items():
            weights = frozenset(memory(stored_weight(known[path])) for path in paths)
            self._targets.setdefault(weights, (list(paths), []))[1].append(name)

    def run(self, images: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Yield (targets, their output) for a batch, each target once."""
        for paths, names in self._targets.values():
            with torch.inference_mode(), self._context():
                output = self._output(paths, images)
            yield tuple(names), output.float()

    def statuses(self, sample_shape: tuple[int, ...]) -> dict[str, str]:
        """Return the status of each target, as random images show it."""
        images = random_images(self._model, PROBES, sample_shape)
        statuses = {}
        with torch.inference_mode():
            # One by one: equal rows of a larger batch may differ in their last bits.
            clean = [self._model(image[None]) for image in images]
            for paths, names in self._targets.values():
                left = [self._output(paths, image[None]) for image in images]
                if not paths:
                    status = OK
                elif all(map(torch.equal, clean, left)):
                    status = NO_EFFECT
                else:
                    status = CUT if all(torch.equal(row, left[0]) for row in left) else OK
                statuses.update(dict.fromkeys(names, status))
        return statuses

    def _output(self, paths: list[str], images: Tensor) -> Tensor:
        with zeroed(self._model, paths):
            return self._model(images)
