"""A network and its data on one device: what training, prediction and benchmarks start from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nontrivial.data.batches import (
    Normalization,
    Samples,
    fastest_memory_format,
    normalization,
    place,
)
from nontrivial.execution import device as devices
from nontrivial.formats.dataset import Description


@dataclass(frozen=True)
class Setup:
    """A network and its data on one device.

    Attributes:
        network: in the memory format that is fastest there.
        description: of the data.
        samples: splits by name, on the device or as near to it as fits.
        normalize: from stored images to the network's input.
        device: the GPU if there is one, else the CPU.
    """

    network: nn.Module
    description: Description
    samples: dict[str, Samples]
    normalize: Normalization
    device: torch.device


def set_up(
    network: nn.Module,
    description: Description,
    arrays: Mapping[str, tuple[np.ndarray, np.ndarray]],
    precision: str,
    device: torch.device | None = None,
) -> Setup:
    """Move a network and its data to the device.

    Args:
        network: is moved in place.
        description: of the data.
        arrays: (images, labels) as stored, by split.
        precision: ``fp32`` or ``bf16``.
        device: None picks one.

    Raises:
        UserError: a file of the data cannot be read.
    """
    device = device or devices.pick()
    memory_format = fastest_memory_format(device, precision)
    network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    normalize = normalization(description.mean, description.std, device, memory_format)
    return Setup(network, description, place(arrays, device), normalize, device)
