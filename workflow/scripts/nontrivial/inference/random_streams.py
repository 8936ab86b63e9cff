"""Random generators that depend on what is computed and on nothing else."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np


def generator(
    seed: int | Sequence[int], kernels: Iterable[str], purpose: str
) -> np.random.Generator:
    """Return the random generator for one training seed (or several), target and purpose.

    The set of kernels identifies the target, not its name. Two names for the same kernels get
    equal intervals and p-values, whatever else the configuration lists.
    """
    key = json.dumps([seed, sorted(set(kernels)), purpose], separators=(",", ":"))
    return np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest(), 16))
