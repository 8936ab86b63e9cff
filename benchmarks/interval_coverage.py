"""Simulate how often the 95% intervals of the drop contain the true drop, and print the tables.

    python benchmarks/interval_coverage.py --replicates 4000

Three tables, as in docs/statistics.md: normal drops of subjects with several seeds; images that are
right or wrong with several seeds; one seed with few subjects, with normal and with skewed drops.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.inference.comparison import compare
from nontrivial.inference.scores import Scores

SEEDS, UNITS = (2, 3, 5), (34, 500)
RATIOS, SHARES = (0.25, 1, 3), (0, 0.8)
FEW_SUBJECTS = (6, 8, 10, 15, 20, 26, 34)
AT_A_TIME = 100  # replicates with the same resamples
DROP, SPREAD = 0.05, 0.1  # true drop, and standard deviation over test units
BEFORE, AFTER = 1.2, 0.9  # latent means: accuracy 0.88 at baseline, 0.82 under the intervention


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        seeds: number of trained networks.
        units: number of test units.
        ratio: standard deviation of the drop between seeds over that by test sampling.
        share: share of the variance over test units that all seeds have in common.
    """

    seeds: int
    units: int
    ratio: float
    share: float


def settings() -> Iterator[Setting]:
    """Yield the grid of settings with several seeds."""
    for values in product(SEEDS, UNITS, RATIOS, SHARES):
        yield Setting(*values)


def normal_scores(setting: Setting, generator: np.random.Generator) -> tuple[Scores, float]:
    """Return one draw of subjects with normal drops, and the true drop."""
    between = setting.ratio * SPREAD / math.sqrt(setting.units)
    drop = (
        DROP
        + generator.normal(0, between, (setting.seeds, 1))
        + generator.normal(0, SPREAD * math.sqrt(setting.share), (1, setting.units))
        + generator.normal(0, SPREAD * math.sqrt(1 - setting.share), (setting.seeds, setting.units))
    )
    return of_subjects(drop), DROP


def right_or_wrong(setting: Setting, generator: np.random.Generator) -> tuple[Scores, float]:
    """Return one draw of images that are right or wrong, and the true drop.

    An image is right if its difficulty, the part of a network and noise are together above 0. The
    difficulty is common to all seeds and to the network before and after.
    """
    normal = NormalDist()
    shape = (setting.seeds, setting.units)
    sampling = deviation_of_drop(setting.share) / math.sqrt(setting.units)
    between = setting.ratio * sampling / normal.pdf(AFTER)  # of the latent mean
    common = generator.normal(0, math.sqrt(setting.share), (1, setting.units))
    before, after = (
        mean + common + generator.normal(0, math.sqrt(1 - setting.share), shape)
        for mean in (BEFORE, AFTER + generator.normal(0, between, (setting.seeds, 1)))
    )
    truth = normal.cdf(BEFORE) - normal.cdf(AFTER / math.sqrt(1 + between**2))
    value, baseline = (after > 0).astype(float), (before > 0).astype(float)
    return Scores("accuracy", "sample", value, baseline, "any"), truth


@cache
def deviation_of_drop(share: float) -> float:
    """Return the standard deviation over images of one network's drop, which is -1, 0 or 1.

    Args:
        share: share of the latent variance that is difficulty, common to before and after.
    """
    cdf = NormalDist().cdf
    before, after = cdf(BEFORE), cdf(AFTER)
    difficulty, weights = np.polynomial.hermite_e.hermegauss(64)  # integrates over a normal
    both_right = sum(
        weight * math.prod(cdf((mean + common) / math.sqrt(1 - share)) for mean in (BEFORE, AFTER))
        for common, weight in zip(math.sqrt(share) * difficulty, weights, strict=True)
    ) / math.sqrt(2 * math.pi)
    changed = before + after - 2 * both_right
    return math.sqrt(changed - (before - after) ** 2)


def few_subjects(
    distribution: str, units: int, generator: np.random.Generator
) -> tuple[Scores, float]:
    """Return one draw of one seed's drops, ``normal`` or ``skewed`` (gamma), and the true drop."""
    drop = generator.normal(DROP, SPREAD, units)
    if distribution == "skewed":
        drop = generator.gamma(1, DROP, units)
    return of_subjects(drop[None]), DROP


def of_subjects(drop: np.ndarray) -> Scores:
    """Return scores with these drops, (S, N); not primary, so that no test is computed."""
    baseline = np.full_like(drop, 0.5)
    return Scores("dice", "subject", baseline - drop, baseline, "any")


def coverage(
    draw: Callable[[np.random.Generator], tuple[Scores, float]], replicates: int, seed: int = 0
) -> float:
    """Return the share of intervals of the drop that contain the true drop."""
    generator = np.random.default_rng(seed)
    hits = 0
    for start in range(0, replicates, AT_A_TIME):
        draws = [draw(generator) for _ in range(min(AT_A_TIME, replicates - start))]
        rows = compare([scores for scores, _ in draws], 0.01, lambda purpose: generator)
        for row, (_, truth) in zip(rows, draws, strict=True):
            assert row.drop_low is not None
            assert row.drop_high is not None
            hits += row.drop_low <= truth <= row.drop_high
    return hits / replicates


def over_seeds(
    simulate: Callable[[Setting, np.random.Generator], tuple[Scores, float]], replicates: int
) -> dict[Setting, float]:
    """Return the coverage in each setting with several seeds."""
    return {
        setting: coverage(lambda generator, s=setting: simulate(s, generator), replicates)
        for setting in settings()
    }


def of_few_subjects(distribution: str, replicates: int) -> dict[int, float]:
    """Return the coverage of one seed by the number of subjects."""
    return {
        units: coverage(
            lambda generator, n=units: few_subjects(distribution, n, generator), replicates
        )
        for units in FEW_SUBJECTS
    }


def table_over_seeds(found: dict[Setting, float]) -> str:
    """Return the coverages as a Markdown table."""
    head = ["units", "seeds' sd", "in common", *(f"{seeds} seeds" for seeds in SEEDS)]
    rows = [
        [
            str(units),
            f"{ratio:g}",
            f"{share:g}",
            *(f"{found[Setting(seeds, units, ratio, share)]:.3f}" for seeds in SEEDS),
        ]
        for units, ratio, share in product(UNITS, RATIOS, SHARES)
    ]
    return markdown(head, rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table of numbers."""
    lines = [head, ["--:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--replicates", type=int, default=4_000, help="simulated experiments per setting"
    )
    replicates = parser.parse_args().replicates
    print("Several seeds, normal drops of subjects\n")
    print(table_over_seeds(over_seeds(normal_scores, replicates)))
    print("\nSeveral seeds, images that are right or wrong\n")
    print(table_over_seeds(over_seeds(right_or_wrong, replicates)))
    print("\nOne seed, few subjects\n")
    columns = {name: of_few_subjects(name, replicates) for name in ("normal", "skewed")}
    rows = [
        [str(units), *(f"{column[units]:.3f}" for column in columns.values())]
        for units in FEW_SUBJECTS
    ]
    print(markdown(["subjects", *columns], rows))


if __name__ == "__main__":
    main()
