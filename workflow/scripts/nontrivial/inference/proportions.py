"""Confidence intervals for a proportion and for the difference of two paired proportions."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nontrivial.inference.confidence import CONFIDENCE

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # 1.96


@dataclass(frozen=True)
class PairedCounts:
    """Counts of n samples that are right or wrong at baseline and under an intervention.

    Attributes:
        both: right in both.
        lost: right at baseline, wrong under the intervention (``b`` in the results).
        gained: wrong at baseline, right under the intervention (``c``).
        neither: wrong in both.
    """

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.both + self.lost + self.gained + self.neither


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of ``hits`` in ``n``, without continuity correction.

    Example:
        >>> low, high = wilson(84, 100)
        >>> round(low, 3), round(high, 3)
        (0.756, 0.899)

    Raises:
        ValueError: not 0 <= hits <= n, or n is 0.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n} samples")
    share = hits / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    # The limit is exactly 0 at no hits and 1 at n hits; rounding must not change that.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return low, high


def newcombe(counts: PairedCounts) -> tuple[float, float]:
    """Return the 95% interval of the drop: accuracy at baseline minus under the intervention.

    The two Wilson intervals are combined by squaring and adding, with the correlation between
    the pairs. Its numerator is corrected for continuity.

    Raises:
        ValueError: there are no samples.

    Source: R. G. Newcombe, Improved confidence intervals for the difference between binomial
    proportions based on paired data, Stat. Med. 17 (1998) 2635, method 10.
    """
    n = counts.n
    right_before, right_after = counts.both + counts.lost, counts.both + counts.gained
    low_before, high_before = wilson(right_before, n)
    low_after, high_after = wilson(right_after, n)
    before, after = right_before / n, right_after / n
    drop = (counts.lost - counts.gained) / n
    phi = _correlation(counts)
    below = _added(before - low_before, high_after - after, phi)
    above = _added(high_before - before, after - low_after, phi)
    return max(-1.0, drop - below), min(1.0, drop + above)


def _added(first: float, second: float, phi: float) -> float:
    # At least (first - second)^2, because |phi| <= 1; rounding may give less than 0.
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def _correlation(counts: PairedCounts) -> float:
    n = counts.n
    right_before, right_after = counts.both + counts.lost, counts.both + counts.gained
    product = right_before * (n - right_before) * right_after * (n - right_after)
    if product == 0:
        return 0.0
    numerator = float(counts.both * counts.neither - counts.lost * counts.gained)
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    return numerator / math.sqrt(product)
