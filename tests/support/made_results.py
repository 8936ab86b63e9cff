"""Synthetic results in the real format, for tests of figures, tables and claims."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.formats.summary import SCHEMA, is_primary
from nontrivial.inference.across_seeds import over_seeds
from nontrivial.inference.measurement import TEST_SAMPLING, Measurement
from nontrivial.inference.verdict import verdict
from nontrivial.networks.kernel_table import Kernel, read_table
from nontrivial.targets.enumeration import Target, enumerate_targets

KERNELS = Path(__file__).parents[2] / "resources" / "kernels"
HALF_WIDTH = 0.006  # below the margin, so that every verdict can be reached
MARGIN = 0.01
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
                "verdict": verdict(low, high, MARGIN) if known and not is_baseline else None,
                "margin": MARGIN,
                "demonstration": demonstration,
                "seeds": 1,
                "covers": TEST_SAMPLING,
            }
            result.append(row)
            result.append(
                row
                | {
                    "class": "cat",
                    "value": 0.123,
                    "drop": baseline - 0.123,
                    "verdict": None,
                    "p_holm": None,
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
    names = Measurement.__dataclass_fields__.keys() - {"class_name"}
    measured = [Measurement(**{name: row.get(name) for name in names}) for row in group]
    mean = {name: getattr(over_seeds(measured), name) for name in names}
    first = group[0]
    if first["kind"] == "baseline":
        mean |= dict.fromkeys(("drop_low", "drop_high", "drop_sd"))
    if first["demonstration"]:
        mean |= dict.fromkeys(("value_low", "value_high", "drop_low", "drop_high"))
    judged = is_primary(first["metric"], first["class"])
    judgement = verdict(mean["drop_low"], mean["drop_high"], MARGIN) if judged else None
    p_holm = first["p_holm"] if len(group) == 1 else None
    return {**first, **mean, "seed": None, "verdict": judgement, "p_holm": p_holm}


def write(folder: Path, *experiments: list[dict]) -> tuple[Path, Path]:
    """Write summary and table over seeds; return their paths."""
    everything = [row for one in experiments for row in one]
    summary, across = folder / "summary.parquet", folder / "across_seeds.parquet"
    pq.write_table(pa.Table.from_pylist(everything, schema=SCHEMA), summary)
    pq.write_table(pa.Table.from_pylist(rows_over_seeds(everything), schema=SCHEMA), across)
    return summary, across
