"""Synthetic results in the real format, for tests of figures, tables and claims."""

import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.formats.summary import MARGINS_SCHEMA, SCHEMA, is_primary
from nontrivial.inference.comparison import MARGINS
from nontrivial.inference.measurement import SEEDS_AND_TEST_SAMPLING, TEST_SAMPLING
from nontrivial.inference.student import t_quantile
from nontrivial.inference.verdict import verdict
from nontrivial.networks.kernel_table import Kernel, read_table
from nontrivial.targets.enumeration import Target, enumerate_targets

KERNELS = Path(__file__).parents[2] / "resources" / "kernels"
HALF_WIDTH = 0.006  # below the margin, so that every verdict can be reached
MARGIN = 0.01
TESTS = 40  # by which the made p-values are corrected
UNITS = {"accuracy": ("sample", 10_000), "dice": ("subject", 26)}

Values = Callable[[Target, int], float]


def kernels_of(network: str) -> list[Kernel]:
    return read_table(KERNELS / f"{network}.tsv")


def targets_of(network: str, readings: tuple[str, ...] = ("first-unit", "none")) -> list[Target]:
    return enumerate_targets(
        kernels_of(network),
        ["layer", "block", "shortcut"],
        list(readings),
        {"late": [kernels_of(network)[-1].path, kernels_of(network)[-2].path]},
        "set",
    )


def plausible(target: Target, seed: int) -> float:
    """Return a plausible metric of a trained network, the same at every call."""
    generator = random.Random(f"{target.name} {seed}")
    hurt = {
        "stem": 0.74,
        "decomposition": 0.5,
        "adjacent": 0.15,
        "residual": 0.02,
        "shortcut": 0.45,
        "head": 0.1,
    }
    worst = {"baseline": 0.0, "block": 0.3 / (target.block or 1), "set": 0.2}
    size = worst.get(target.kind, hurt.get(target.role or "", 0.4))
    return 0.84 + generator.uniform(-0.003, 0.003) - size * generator.uniform(0.4, 1.1)


def rows(
    experiment: str,
    network: str,
    values: Values = plausible,
    seeds: tuple[int, ...] = (0,),
    metric: str = "accuracy",
    dataset: str = "cifar10",
    demonstration: bool = False,
    cut: tuple[str, ...] = ("layer-conv1",),
    readings: tuple[str, ...] = ("first-unit", "none"),
) -> list[dict]:
    """Return rows of a summary: of each target the primary row and one of a class."""
    result = []
    weights = {kernel.path: kernel.weights for kernel in kernels_of(network)}
    roles = {kernel.path: kernel.role for kernel in kernels_of(network)}
    unit, n = UNITS[metric]
    for seed in seeds:
        baseline = None
        for target in targets_of(network, readings):
            value = values(target, seed)
            baseline = value if target.kind == "baseline" else baseline
            drop = baseline - value
            known = not demonstration
            low, high = drop - HALF_WIDTH, drop + HALF_WIDTH
            is_baseline = target.kind == "baseline"
            total = sum(weights[path] for path in target.kernels)
            row = {
                "experiment": experiment,
                "training": f"{experiment}-training",
                "dataset": dataset,
                "network": network,
                "stem": "torchvision",
                "seed": seed,
                "split": "test",
                "intervention": "zero",
                "parameters": "{}",
                "target": target.name,
                "kind": target.kind,
                "reading": target.reading,
                "kernels": list(target.kernels),
                "order": target.order,
                "role": roles[target.kernels[0]] if len(target.kernels) == 1 else None,
                "block": target.block,
                "live_weights": total // 9 if target.block == 4 else total,
                "total_weights": total,
                "status": "cut" if target.name in cut else "ok",
                "metric": metric,
                "class": None,
                "unit": unit,
                "n": 1 if demonstration else n,
                "value": value,
                "value_low": value - HALF_WIDTH if known else None,
                "value_high": value + HALF_WIDTH if known else None,
                "baseline": baseline,
                "drop": drop,
                "drop_low": low if known and not is_baseline else None,
                "drop_high": high if known and not is_baseline else None,
                "p_value": 0.001 if known and not is_baseline else None,
                "p_holm": 0.01 if known and not is_baseline else None,
                "drop_share": drop / baseline if baseline > 0 else None,
                "margin": MARGIN,
                "demonstration": demonstration,
                "seeds": 1,
                "covers": TEST_SAMPLING,
            }
            result.append(row | judged(row))
            result.append(
                row
                | {
                    "class": "cat",
                    "value": 0.123,
                    "drop": baseline - 0.123,
                    "p_holm": None,
                    "drop_share": None,
                    "n": 1_000,
                }
            )
    return result


def rows_over_seeds(rows: list[dict]) -> list[dict]:
    """Return the rows over seeds of rows per seed, as evaluate makes them."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("experiment", "target", "metric", "class"))
        groups.setdefault(key, []).append(row)
    return [_over_seeds(group) for group in groups.values()]


def _over_seeds(group: list[dict]) -> dict:
    """Return the mean row with t intervals over seeds; of one seed, its own row."""
    first = group[0]
    if len(group) == 1:
        return {**first, "seed": None}
    row = {**first, "seed": None, "seeds": len(group), "covers": SEEDS_AND_TEST_SAMPLING}
    for name in ("value", "baseline", "drop"):
        row[name] = statistics.fmean(one[name] for one in group)
    for name in ("value", "drop"):
        spread = statistics.stdev(one[name] for one in group)
        row[f"{name}_sd"] = spread
        if first[f"{name}_low"] is not None:
            half = t_quantile(0.975, len(group) - 1) * spread / math.sqrt(len(group))
            row[f"{name}_low"], row[f"{name}_high"] = row[name] - half, row[name] + half
    if len(group) < 3:
        row |= {"p_value": None, "p_holm": None}
    return row | (judged(row) if is_primary(first["metric"], first["class"]) else {})


def judged(row: dict) -> dict:
    """Return the columns of a primary row that compare the drop with margins.

    Rows without an interval of the drop, of two seeds, and whose status is not ``ok`` have none.
    """
    none = dict.fromkeys(
        ["p_nontrivial", "p_nontrivial_holm", "p_trivial", "p_trivial_holm", "verdict"]
    )
    is_tested = row["drop_low"] is not None and row["status"] == "ok" and row["seeds"] != 2
    found = {margin: dict(none) for margin in MARGINS}
    if is_tested:
        error = (row["drop_high"] - row["drop_low"]) / 2 / 1.96
        for margin, at in found.items():
            distance = (row["drop"] - margin) / error if error else math.inf
            for name, z in (("p_nontrivial", -distance), ("p_trivial", distance)):
                at[name] = statistics.NormalDist().cdf(z)
                at[f"{name}_holm"] = min(1.0, TESTS * at[name])
            at["verdict"] = verdict(row["drop_low"], row["drop_high"], margin)
    return found[MARGIN] | {"margins": [{"margin": margin, **at} for margin, at in found.items()]}


def margin_rows(rows: list[dict]) -> list[dict]:
    """Return the rows of ``margins.parquet`` for primary rows of the results."""
    keys = [name for name in MARGINS_SCHEMA.names if name in rows[0]] if rows else []
    return [
        {name: row[name] for name in keys} | at
        for row in rows
        if is_primary(row["metric"], row["class"])
        for at in row["margins"]
    ]


def tables(rows: list[dict], across: list[dict] | None = None) -> tuple[pa.Table, ...]:
    """Return summary, rows over seeds and margins as tables."""
    across = rows_over_seeds(rows) if across is None else across
    return (
        pa.Table.from_pylist(rows, schema=SCHEMA),
        pa.Table.from_pylist(across, schema=SCHEMA),
        pa.Table.from_pylist(margin_rows([*rows, *across]), schema=MARGINS_SCHEMA),
    )


def write(folder: Path, *experiments: list[dict]) -> tuple[Path, Path, Path]:
    """Write summary, table over seeds and margins; return their paths."""
    everything = [row for one in experiments for row in one]
    paths = tuple(folder / f"{name}.parquet" for name in ("summary", "across_seeds", "margins"))
    for path, table in zip(paths, tables(everything), strict=True):
        pq.write_table(table, path)
    return paths
