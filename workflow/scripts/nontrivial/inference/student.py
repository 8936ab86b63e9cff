"""Student's t distribution, without the 0.3 s of CPU time that scipy takes to load."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nontrivial.inference.confidence import CONFIDENCE

TINY = 1e-300
MOST_TERMS = 10_000
MOST_STEPS = 1_000


@dataclass(frozen=True)
class TInterval:
    """The t interval of a mean, a :class:`nontrivial.inference.confidence.Interval`.

    Attributes:
        mean: the estimate.
        error: its standard error, above 0.
        df: degrees of freedom.
    """

    mean: float
    error: float
    df: float

    @property
    def low(self) -> float:
        """Lower limit."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """Upper limit."""
        return self.mean + self._half

    @property
    def _half(self) -> float:
        return t_quantile((1 + CONFIDENCE) / 2, self.df) * self.error

    def p_above(self, margin: float) -> float:
        """Return the p-value of "at most the margin"."""
        return t_upper_tail((self.mean - margin) / self.error, self.df)

    def p_below(self, margin: float) -> float:
        """Return the p-value of "at least the margin"."""
        return t_upper_tail((margin - self.mean) / self.error, self.df)


def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t with ``df`` degrees of freedom.

    Args:
        probability: above 0.5 and below 1.
        df: above 0.

    Raises:
        ValueError: an argument is out of range.

    >>> round(t_quantile(0.975, 2), 4)
    4.3027
    """
    if not 0.5 < probability < 1 or df <= 0:
        raise ValueError(f"no quantile for probability {probability} and {df} degrees of freedom")
    # The upper tail is convex above 0, and its normal quantile is too small for any df. So
    # Newton's steps from there go up to the quantile and never beyond it.
    t = NormalDist().inv_cdf(probability)
    for _ in range(MOST_STEPS):
        step = (t_upper_tail(t, df) - (1 - probability)) / _density(t, df)
        if step <= 1e-15 * t:
            break
        t += step
    return t


def t_upper_tail(t: float, df: float) -> float:
    """Return the probability that Student's t with ``df`` degrees of freedom exceeds ``t``."""
    square, half = t * t, df / 2
    if square * (half + 1) < 1.5 * df:  # 1 minus the other argument would lose digits
        tail = (1 - incomplete_beta(square / (df + square), 0.5, half)) / 2
    else:
        tail = incomplete_beta(df / (df + square), half, 0.5) / 2
    return tail if t >= 0 else 1 - tail


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), 0 <= x <= 1.

    Source: W. H. Press et al., Numerical Recipes (2007), section 6.4: continued fraction,
    evaluated by Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(_minus_log_beta(a, b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, MOST_TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * fraction


def _density(t: float, df: float) -> float:
    log = _minus_log_beta(df / 2, 0.5) - math.log(df) / 2 - (df + 1) / 2 * math.log1p(t * t / df)
    return math.exp(log)


def _minus_log_beta(a: float, b: float) -> float:
    """Return minus the logarithm of the beta function."""
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
