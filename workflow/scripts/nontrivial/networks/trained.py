"""A trained network as it is evaluated: built, its weights loaded, in evaluation mode."""

from pathlib import Path

import torch

from nontrivial.data.prepared import Description
from nontrivial.formats import weights
from nontrivial.networks.building import build


def load_trained(
    network: dict, description: Description, path: Path
) -> tuple[torch.nn.Module, dict[str, str]]:
    """Return (network on the CPU, metadata of its weights).

    Args:
        network: ``name`` and ``factory`` (or None), see :func:`nontrivial.networks.building.build`.
        description: of the data that it was trained on.
        path: its weights.

    Raises:
        UserError: the network cannot be built, or the weights are not its own.
    """
    model = build(
        network["name"],
        network["factory"],
        len(description.classes),
        description.channels,
        description.size,
    )
    metadata = weights.load(path, model)
    return model.eval().requires_grad_(False), metadata
