"""Means over training seeds with t intervals, which cover the randomness of training."""

import math
import statistics
from collections.abc import Sequence

from nontrivial.inference.confidence import CONFIDENCE
from nontrivial.inference.measurement import SEEDS_AND_TEST_SAMPLING, Measurement
from nontrivial.inference.student import t_quantile


def over_seeds(measurements: Sequence[Measurement]) -> Measurement:
    """Return the mean over seeds with its t interval; of one seed, its own measurement.

    A value that one seed lacks is not averaged over the others.

    Args:
        measurements: one per seed, of the same metric, class and unit.
    """
    first = measurements[0]
    if len(measurements) == 1:
        return first
    values = _optional([one.value for one in measurements])
    drops = _optional([one.drop for one in measurements])
    baselines = _optional([one.baseline for one in measurements])
    value_low, value_high = t_interval(values) if values else (None, None)
    drop_low, drop_high = t_interval(drops) if drops else (None, None)
    return Measurement(
        metric=first.metric,
        unit=first.unit,
        n=first.n if all(one.n == first.n for one in measurements) else None,
        value=statistics.fmean(values) if values else None,
        baseline=statistics.fmean(baselines) if baselines else None,
        drop=statistics.fmean(drops) if drops else None,
        class_name=first.class_name,
        value_low=value_low,
        value_high=value_high,
        drop_low=drop_low,
        drop_high=drop_high,
        seeds=len(measurements),
        covers=SEEDS_AND_TEST_SAMPLING,
        value_sd=statistics.stdev(values) if values else None,
        drop_sd=statistics.stdev(drops) if drops else None,
    )


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of two or more values by Student's t."""
    quantile = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _optional(values: Sequence[float | None]) -> list[float] | None:
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None
