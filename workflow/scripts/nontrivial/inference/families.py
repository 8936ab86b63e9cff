"""Which tests are corrected together: the family of Holm's procedure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from nontrivial.formats.summary import is_primary
from nontrivial.inference.holm import holm

FAMILY = ("experiment", "seed", "split", "intervention", "metric")


def corrected(rows: Sequence[Mapping]) -> list[float | None]:
    """Return the Holm-adjusted p-value of every row; None outside any family.

    A family is all tests of the primary metric in one experiment, seed, split and
    intervention. The baseline, and targets that are ``cut`` or have ``no_effect``, test
    nothing and stay out. Equal kernel sets are one hypothesis, counted once; each of its rows
    gets the same result.

    Args:
        rows: rows of the summary, as mappings with at least the columns
            ``experiment, seed, split, intervention, metric, class, kind, status, kernels,
            parameters, draw, p_value``.
    """
    families: dict[tuple, dict[tuple, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        if _is_tested(row):
            family = tuple(row[key] for key in FAMILY)
            hypothesis = (frozenset(row["kernels"]), row["parameters"], row["draw"])
            families[family][hypothesis].append(index)
    adjusted: list[float | None] = [None] * len(rows)
    for hypotheses in families.values():
        copies = list(hypotheses.values())
        p_values = holm([rows[indices[0]]["p_value"] for indices in copies])
        for indices, p_value in zip(copies, p_values, strict=True):
            for index in indices:
                adjusted[index] = p_value
    return adjusted


def _is_tested(row: Mapping) -> bool:
    return (
        row["p_value"] is not None
        and is_primary(row["metric"], row["class"])
        and row["kind"] != "baseline"
        and row["status"] == "ok"
    )
