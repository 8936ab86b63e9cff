"""Random numbers that depend on what is computed, and on nothing else."""

from collections.abc import Iterable

import numpy as np

from nontrivial.formats.canonical import digest


def generator(seed: int, kernels: Iterable[str], purpose: str) -> np.random.Generator:
    """Return the generator for one target (its set of zeroed kernels), seed and purpose.

    The set of kernels stands for the target, not its name: two names of one network then get
    the same intervals and p-values, whichever else the configuration lists.
    """
    entropy = int(digest([seed, sorted(set(kernels)), purpose]), 16)
    return np.random.default_rng(entropy)
