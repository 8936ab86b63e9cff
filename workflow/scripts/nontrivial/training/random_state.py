"""Capture and restore the RNG states, so that a resumed training draws the same numbers."""

import random

import numpy as np
import torch
from torch import Tensor


def capture(device: torch.device) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return the states of the global random number generators of Python, numpy and torch.

    Returns:
        Tensors on the CPU by name, and plain values for JSON.
    """
    of_numpy = np.random.get_state(legacy=False)
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(of_numpy["state"]["key"].astype(np.int64)),
    }
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    rest = {
        "position": of_numpy["state"]["pos"],
        "has_gauss": of_numpy["has_gauss"],
        "gauss": of_numpy["gauss"],
    }
    return tensors, {"python": random.getstate(), "numpy": rest}


def restore(tensors: dict[str, Tensor], values: dict, device: torch.device) -> None:
    """Restore the states that :func:`capture` returned."""
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
    rest = values["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, rest["position"], rest["has_gauss"], rest["gauss"]))
    torch.set_rng_state(tensors["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)
