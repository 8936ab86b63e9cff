"""Means over training seeds, with intervals that cover the training's own randomness."""

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

from nontrivial.formats.summary import ACROSS_SEEDS, is_primary
from nontrivial.inference.confidence import CONFIDENCE
from nontrivial.inference.verdict import verdict

TRAINING_SEEDS = "training seeds"
TEST_SAMPLING = "test sampling only"

# A row over seeds stands for the rows of the summary that agree in these.
KEY = (
    "experiment",
    "split",
    "intervention",
    "parameters",
    "draw",
    "target",
    "metric",
    "class",
    "unit",
)
# Columns that hold for the target whatever the seed; null should the seeds ever differ.
SHARED = (
    "training",
    "dataset",
    "network",
    "stem",
    "kind",
    "reading",
    "kernels",
    "order",
    "role",
    "block",
    "live_weights",
    "total_weights",
    "status",
    "margin",
    "demonstration",
)


def across_seeds(rows: Sequence[Mapping]) -> list[dict]:
    """Return a row per target, metric, class and unit, in the order of first appearance.

    Args:
        rows: rows of the summary, as mappings; at most one per seed and key.

    Returns:
        Rows of :data:`nontrivial.formats.summary.ACROSS_SEEDS`. With one seed
        there is no interval, and ``covers`` says that only test sampling is covered (by the
        summary's own interval).
    """
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEY), []).append(row)
    return [_mean_row(group) for group in groups.values()]


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% interval of the mean by Student's t; None with fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _mean_row(group: Sequence[Mapping]) -> dict:
    first = group[0]
    row = dict.fromkeys(ACROSS_SEEDS.names)
    row.update({key: first[key] for key in KEY})
    row.update({key: _if_equal(group, key) for key in SHARED})
    # One that was not measured with some seed is not averaged over the others.
    row.update(_statistics("value", group))
    row.update(_statistics("drop", group))
    baselines = [member["baseline"] for member in group]
    row["baseline"] = None if None in baselines else statistics.fmean(baselines)
    if first["kind"] == "baseline":
        row.update(drop_sd=None, drop_low=None, drop_high=None)
    if first["demonstration"]:
        row.update(dict.fromkeys(("value_low", "value_high", "drop_low", "drop_high")))
    if is_primary(first["metric"], first["class"]):
        row["verdict"] = verdict(row["drop_low"], row["drop_high"], first["margin"])
    row["n"] = len(group)
    row["n_units"] = _if_equal(group, "n")
    row["covers"] = TRAINING_SEEDS if len(group) > 1 else TEST_SAMPLING
    return row


def _statistics(name: str, group: Sequence[Mapping]) -> dict:
    values = [member[name] for member in group]
    if None in values:
        return {}
    low, high = t_interval(values) or (None, None)
    return {
        name: statistics.fmean(values),
        f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None,
        f"{name}_low": low,
        f"{name}_high": high,
    }


def _if_equal(group: Sequence[Mapping], key: str) -> object:
    first = group[0][key]
    return first if all(member[key] == first for member in group) else None
