"""Reproducible results: equal seed, device, thread count and versions give equal bits."""

import random

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """Return a 63-bit seed for one random stream, such as (seed, epoch, purpose)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seed the global random number generators of Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fix_arithmetic(threads: int | None) -> None:
    """Fix what determines the last bits of a result, for the whole process.

    These are the thread count, no TF32 and deterministic cuDNN algorithms, chosen without timing
    them. On a GPU, the gradients of bilinear resizing and adaptive pooling, both in the PSPNet, are
    still summed in no fixed order: only the ResNets train to the same bits there.

    Args:
        threads: CPU threads; None leaves torch's default.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
