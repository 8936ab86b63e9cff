"""Holm's correction for multiple tests."""

from collections import defaultdict
from collections.abc import Hashable, Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values, in the order given: at most 1, monotone in p.

    Source: S. Holm, Scand. J. Stat. 6 (1979) 65.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def holm_by_family(
    families: Sequence[Hashable], hypotheses: Sequence[Hashable], p_values: Sequence[float]
) -> list[float]:
    """Return the adjusted p-values of several families, each corrected by itself.

    Args:
        families: family of each test.
        hypotheses: hypothesis of each test. Tests of one family and hypothesis count once, with
            the first one's p-value.
        p_values: p-value of each test.
    """
    tests: dict[Hashable, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (family, hypothesis) in enumerate(zip(families, hypotheses, strict=True)):
        tests[family][hypothesis].append(index)
    adjusted = [0.0] * len(p_values)
    for copies in tests.values():
        corrected = holm([p_values[indices[0]] for indices in copies.values()])
        for indices, p_value in zip(copies.values(), corrected, strict=True):
            for index in indices:
                adjusted[index] = p_value
    return adjusted
