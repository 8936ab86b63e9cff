"""The values of traced nodes for small random batches of several sizes.

They show what the trace alone does not: which integers depend on the batch size, which tensors
have a sample per image, and which nodes change their arguments in place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from nontrivial.replay.graph import leaves
from nontrivial.replay.out_of_place import as_function

# Three sizes, to confirm that an integer is an affine function of the batch size.
BATCH_SIZES = (2, 3, 5)
_INSPECTED = 1  # index of the batch whose values are inspected
_SEED = 0


def random_images(
    model: nn.Module, count: int, sample_shape: tuple[int, ...], seed: int = _SEED
) -> Tensor:
    """Return random images on the model's device, the same at every call with a seed."""
    generator = torch.Generator().manual_seed(seed)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.randn(count, *sample_shape, generator=generator).to(device)


class Probes:
    """Runs the nodes of a network, in their order, on one batch of each size."""

    def __init__(self, model: nn.Module):
        """Start with no values.

        Args:
            model: the network that was traced, in evaluation mode.
        """
        self._model = model
        self._values: list[dict[fx.Node, Any]] = [{} for _ in BATCH_SIZES]

    def set(self, node: fx.Node, values: Sequence[Any]) -> None:
        """Set the value of a node for each batch."""
        for known, value in zip(self._values, values, strict=True):
            known[node] = value

    def set_constant(self, node: fx.Node, value: Any) -> None:
        """Set one value of a node for all batches."""
        self.set(node, [value] * len(BATCH_SIZES))

    def run(self, node: fx.Node) -> list[Tensor]:
        """Run a node and return the tensors of the inspected batch that it changed in place."""
        changed = []
        for number, known in enumerate(self._values):
            given = [known[source] for source in node.all_input_nodes]
            before = [(leaf, leaf._version) for leaf in leaves(given) if isinstance(leaf, Tensor)]
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = self._call(node, args, kwargs)
            if number == _INSPECTED:
                changed = [leaf for leaf, version in before if leaf._version != version]
        return changed

    def _call(self, node: fx.Node, args: tuple, kwargs: dict[str, Any]) -> Any:
        if isinstance(node.target, str) and node.op == "call_module":
            return self._model.get_submodule(node.target)(*args, **kwargs)
        return as_function(node.target)(*args, **kwargs)

    def values(self, node: fx.Node) -> list[Any]:
        """Return the value of a node for each batch."""
        return [known[node] for known in self._values]

    def inspect(self, argument: Any) -> Any:
        """Return an argument with nodes replaced by their values for the inspected batch."""
        return fx.node.map_arg(argument, self._values[_INSPECTED].__getitem__)

    def tensors(self, node: fx.Node) -> list[Tensor]:
        """Return all tensors among the values of a node."""
        return [leaf for leaf in leaves(self.values(node)) if isinstance(leaf, Tensor)]

    def has_samples(self, node: fx.Node) -> bool:
        """Return whether a node gives tensors alone, all with one sample per image."""
        return all(
            (tensors := list(leaves(value)))
            and all(
                isinstance(tensor, Tensor) and tensor.ndim > 0 and tensor.shape[0] == batch_size
                for tensor in tensors
            )
            for value, batch_size in zip(self.values(node), BATCH_SIZES, strict=True)
        )

    def same_tensor(self, node: fx.Node, source: fx.Node) -> bool:
        """Return whether a node returns the very tensor that another returned."""
        pairs = zip(self.values(node), self.values(source), strict=True)
        return all(isinstance(value, Tensor) and value is other for value, other in pairs)

    def sharing_storage(self, tensor: Tensor) -> list[fx.Node]:
        """Return the nodes that hold the storage of a tensor of the inspected batch."""
        storage = tensor.untyped_storage().data_ptr()
        return [
            node
            for node, value in self._values[_INSPECTED].items()
            if any(
                isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() == storage
                for leaf in leaves(value)
            )
        ]
