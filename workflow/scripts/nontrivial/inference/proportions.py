"""Confidence intervals for a proportion and for the difference of two paired proportions."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nontrivial.inference.confidence import CONFIDENCE

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # 1.96
LARGEST_Z = 38.0  # its tail, 3e-316, is about the smallest float
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairedCounts:
    """Counts of n samples that are right or wrong at baseline and under an intervention.

    Over seeds they are means, which need not be whole numbers.

    Attributes:
        both: right in both.
        lost: right at baseline, wrong under the intervention (``b`` in the results).
        gained: wrong at baseline, right under the intervention (``c``).
        neither: wrong in both.
    """

    both: float
    lost: float
    gained: float
    neither: float

    @property
    def n(self) -> float:
        """Number of samples."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def swapped(self) -> "PairedCounts":
        """The same samples with baseline and intervention exchanged."""
        return PairedCounts(self.both, self.gained, self.lost, self.neither)


@dataclass(frozen=True)
class NewcombeInterval:
    """The interval of :func:`newcombe`, as in :class:`nontrivial.inference.confidence.Interval`."""

    counts: PairedCounts

    @property
    def low(self) -> float:
        """Lower limit."""
        return newcombe(self.counts)[0]

    @property
    def high(self) -> float:
        """Upper limit."""
        return newcombe(self.counts)[1]

    def p_above(self, margin: float) -> float:
        """Return the p-value of "at most the margin", by bisection in the normal quantile."""

        def is_above(z: float) -> bool:
            # The one-sided limit with less than 50% confidence is the other limit.
            low, high = newcombe(self.counts, abs(z))
            return (low if z >= 0 else high) > margin

        # The bracket starts at the 95% limit, so that p and verdict agree to the last bit.
        inside, outside = (Z, LARGEST_Z) if is_above(Z) else (-LARGEST_Z, Z)
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_above(middle) else (inside, middle)
        return math.erfc(inside / math.sqrt(2)) / 2

    def p_below(self, margin: float) -> float:
        """Return the p-value of "at least the margin"."""
        return NewcombeInterval(self.counts.swapped).p_above(-margin)


def wilson(hits: float, n: float, z: float = Z) -> tuple[float, float]:
    """Return Wilson's score interval of ``hits`` in ``n``, without continuity correction.

    Args:
        hits: from 0 to n; a mean over seeds need not be a whole number.
        n: number of samples.
        z: normal quantile of the confidence level, at least 0; by default that of 95%.

    Example:
        >>> low, high = wilson(84, 100)
        >>> round(low, 3), round(high, 3)
        (0.756, 0.899)

    Raises:
        ValueError: not 0 <= hits <= n, or n is 0.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if n <= 0 or not 0 <= hits <= n * (1 + ROUNDING):
        raise ValueError(f"{hits} hits in {n} samples")
    share = min(1.0, hits / n)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The limit is exactly 0 at no hits and 1 at n hits; rounding must not change that.
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return low, high


def newcombe(counts: PairedCounts, z: float = Z) -> tuple[float, float]:
    """Return the interval of the drop: accuracy at baseline minus under the intervention.

    The two Wilson intervals are combined by squaring and adding, with the correlation between
    the pairs. Its numerator is corrected for continuity.

    Args:
        counts: the samples.
        z: normal quantile of the confidence level, at least 0; by default that of 95%.

    Raises:
        ValueError: there are no samples.

    Source: R. G. Newcombe, Improved confidence intervals for the difference between binomial
    proportions based on paired data, Stat. Med. 17 (1998) 2635, method 10.
    """
    n = counts.n
    right_before, right_after = counts.both + counts.lost, counts.both + counts.gained
    low_before, high_before = wilson(right_before, n, z)
    low_after, high_after = wilson(right_after, n, z)
    before, after = min(1.0, right_before / n), min(1.0, right_after / n)
    drop = (counts.lost - counts.gained) / n
    phi = _correlation(counts)
    below = _added(before - low_before, high_after - after, phi)
    above = _added(high_before - before, after - low_after, phi)
    return max(-1.0, drop - below), min(1.0, drop + above)


def n_for_trivial(accuracy: float, n: int, margin: float) -> int | None:
    """Return with how many samples a target that changes nothing is trivial; None if with ``n``.

    With fewer, the interval of its drop reaches the margin.

    Args:
        accuracy: of the baseline.
        n: number of samples.
        margin: the largest drop that does not matter, above 0.
    """

    def is_enough(number: int) -> bool:
        unchanged = PairedCounts(accuracy * number, 0, 0, (1 - accuracy) * number)
        return newcombe(unchanged)[1] < margin

    if is_enough(n):
        return None
    few, many = n, 2 * n
    while not is_enough(many):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if is_enough(middle) else (middle, many)
    return many


def _added(first: float, second: float, phi: float) -> float:
    # At least (first - second)^2, because |phi| <= 1; rounding may give less than 0.
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def _correlation(counts: PairedCounts) -> float:
    n = counts.n
    right_before, right_after = counts.both + counts.lost, counts.both + counts.gained
    wrong_before, wrong_after = counts.gained + counts.neither, counts.lost + counts.neither
    product = right_before * wrong_before * right_after * wrong_after
    if product == 0:
        return 0.0
    numerator = float(counts.both * counts.neither - counts.lost * counts.gained)
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    return numerator / math.sqrt(product)
