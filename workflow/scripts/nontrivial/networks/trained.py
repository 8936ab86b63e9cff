"""Trained networks, ready for evaluation."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from nontrivial.formats import weights
from nontrivial.networks.factory import construct


def load_trained(
    network: Mapping, arguments: tuple[int, int, tuple[int, int]], path: Path
) -> tuple[nn.Module, dict[str, str]]:
    """Return a network in evaluation mode, on the CPU, and the metadata of its weights.

    Args:
        network: its ``factory`` (``package.module:function``) and the factory's ``arguments``.
        arguments: classes, channels and size for the factory.
        path: its weights.

    Raises:
        UserError: the network cannot be built, or the weights are not those of the network.
    """
    model = construct(network["factory"], *arguments, network.get("arguments"))
    metadata = weights.load(path, model)
    return model.eval().requires_grad_(False), metadata
