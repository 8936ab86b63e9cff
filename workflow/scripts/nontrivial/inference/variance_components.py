"""The mean over seeds and test units where both are random: a two-way random-effects model."""

import math

import numpy as np

from nontrivial.inference.student import TInterval

ROUNDING = 1e-12  # of a difference of mean squares, relative to their sum


def seeds_and_units(scores: np.ndarray, rounding: float) -> TInterval | None:
    """Return the t interval of the mean over seeds and units; None if its error is 0.

    This is so where nothing varies, and where the means of the seeds are equal and units differ no
    more than residuals do.

    With the mean squares of seeds, units and residuals, the squared standard error is
    (MS_seeds + max(MS_units - MS_residuals, 0)) / (S N). Its degrees of freedom are those of
    Satterthwaite's approximation.

    Args:
        scores: a score per seed and unit, (S, N); S is at least 2.
        rounding: the largest difference that equal means of scores can have.

    Source: S. L. Hillis, Stat. Med. 26 (2007) 596, for readers (here: seeds) and cases (here:
    test units) that are both random.
    """
    seeds, units = scores.shape
    mean = float(scores.mean())
    by_seed = scores.mean(axis=1, keepdims=True)
    of_seeds = units * float(by_seed.var(ddof=1))
    excess = of_units = of_residuals = 0.0
    if units > 1:
        by_unit = scores.mean(axis=0, keepdims=True)
        of_units = seeds * float(by_unit.var(ddof=1))
        residuals = scores - by_seed - by_unit + mean
        of_residuals = float(np.square(residuals).sum()) / ((seeds - 1) * (units - 1))
        excess = max(of_units - of_residuals, 0.0)
    total = of_seeds + excess
    everything = of_seeds + of_units + of_residuals
    if total <= max(units * rounding**2, ROUNDING * everything):
        return None
    # Parts of the total, whose squares do not underflow.
    share, rest = of_seeds / total, excess / total
    inverse = share**2 / (seeds - 1) + (rest**2 / (units - 1) if units > 1 else 0.0)
    return TInterval(mean, math.sqrt(total / (seeds * units)), 1 / inverse)
