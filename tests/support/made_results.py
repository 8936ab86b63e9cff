"""Made-up results in the real format, for tests of what people look at."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.formats.summary import ACROSS_SEEDS, SUMMARY
from nontrivial.inference.across_seeds import across_seeds
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
    """A metric that a trained network might show, the same at every call."""
    chance = random.Random(f"{target.name} {seed}")
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
    return 0.84 + chance.uniform(-0.003, 0.003) - size * chance.uniform(0.4, 1.1)


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
    """Rows of a summary: the primary row of each target, and one of a class beside it."""
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
            verdict = "undecided"
            if low > MARGIN:
                verdict = "non-trivial"
            elif high < MARGIN:
                verdict = "trivial"
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
                "draw": None,
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
                "verdict": verdict if known and not is_baseline else None,
                "b": None,
                "c": None,
                "margin": MARGIN,
                "demonstration": demonstration,
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


def write(folder: Path, *experiments: list[dict]) -> tuple[Path, Path]:
    """Write summary and table over seeds; return their paths."""
    everything = [row for one in experiments for row in one]
    summary, over_seeds = folder / "summary.parquet", folder / "across_seeds.parquet"
    pq.write_table(pa.Table.from_pylist(everything, schema=SUMMARY), summary)
    means = pa.Table.from_pylist(across_seeds(everything), schema=ACROSS_SEEDS)
    pq.write_table(means, over_seeds)
    return summary, over_seeds
