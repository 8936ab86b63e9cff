"""Every use of chance has a seed of its own, derived from the training's.

Same seed, device, thread count and versions: same weights, bitwise on the CPU. On a GPU the
gradients of bilinear resizing and of adaptive pooling, both in the PSPNet, are summed in no
fixed order: there, only the ResNets repeat bitwise.
"""

import random

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """Return a 63-bit seed for one use, such as (seed, epoch, stream)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
