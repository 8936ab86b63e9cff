"""Percentile bootstrap of means over subjects, with tails widened for few subjects."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nontrivial.inference.confidence import CONFIDENCE
from nontrivial.inference.student import t_quantile, t_upper_tail

RESAMPLES = 10_000
RESAMPLES_AT_A_TIME = 1_000  # bounds memory to 1,000 x subjects values
SMALLEST_P = 0.001  # with 10,000 resamples, smaller p-values are imprecise


@dataclass(frozen=True)
class BootstrapInterval:
    """A bootstrap interval, as in :class:`nontrivial.inference.confidence.Interval`.

    The percentile interval of n subjects is too narrow by about sqrt((n - 1) / n) and takes normal
    for t quantiles. The tail Phi(-sqrt(n / (n - 1)) t), with t the quantile of n - 1 degrees of
    freedom, corrects both.

    Attributes:
        means: means of the resamples in increasing order, (R,).
        subjects: n.
        mean: mean over the subjects.
        error: standard error of the mean; p-values require that it is above 0.

    Source: T. C. Hesterberg, What teachers should know about the bootstrap, Am. Stat. 69 (2015)
    371, on the expanded percentile interval.
    """

    means: np.ndarray
    subjects: int
    mean: float
    error: float

    @property
    def low(self) -> float:
        """Lower limit."""
        return float(np.quantile(self.means, self._tail))

    @property
    def high(self) -> float:
        """Upper limit."""
        return float(np.quantile(self.means, 1 - self._tail))

    @property
    def _tail(self) -> float:
        t = t_quantile((1 + CONFIDENCE) / 2, self.subjects - 1)
        return NormalDist().cdf(-t * math.sqrt(self.subjects / (self.subjects - 1)))

    def p_above(self, margin: float) -> float:
        """Return the p-value of "at most the margin"."""
        return self._p(share_at_most(self.means, margin), self.mean - margin)

    def p_below(self, margin: float) -> float:
        """Return the p-value of "at least the margin"."""
        return self._p(share_at_most(-self.means[::-1], -margin), margin - self.mean)

    def _p(self, share: float, distance: float) -> float:
        """Return the level whose widened tail is the share.

        Where the resamples do not show it, it is that of Student's t, but not above theirs, so that
        it falls with the distance and agrees with the limits.
        """
        if share >= 1:
            return 1.0
        df = self.subjects - 1
        smallest = 1 / (len(self.means) - 1)  # the share at the second resample
        normal = -NormalDist().inv_cdf(max(share, smallest))
        p = t_upper_tail(normal * math.sqrt(df / self.subjects), df)
        if share > smallest and p >= SMALLEST_P:
            return p
        return min(p, t_upper_tail(distance / self.error, df))


def bootstrap_intervals(
    scores: np.ndarray, generator: np.random.Generator
) -> list[BootstrapInterval]:
    """Return the interval of every column's mean over subjects drawn with replacement.

    All columns use the same resamples, so the interval of a column of differences is paired.

    Args:
        scores: (S, M), a row per subject and a column per quantity.
        generator: random generator of the resamples.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    subjects = len(scores)
    chunks = [
        _resampled_means(scores, generator.integers(0, subjects, size=(count, subjects)))
        for count in _chunks(RESAMPLES, RESAMPLES_AT_A_TIME)
    ]
    means = np.sort(np.concatenate(chunks).T, axis=1)
    errors = scores.std(axis=0, ddof=1) / math.sqrt(subjects)
    return [
        BootstrapInterval(one, subjects, float(mean), float(error))
        for one, mean, error in zip(means, scores.mean(axis=0), errors, strict=True)
    ]


def share_at_most(ordered: np.ndarray, value: float) -> float:
    """Return the probability at which the quantile of ordered values, (R,), is ``value``.

    It inverts ``numpy.quantile``; where several probabilities have that quantile, it is the
    largest. Values outside have 0 and 1.
    """
    count = int(np.searchsorted(ordered, value, side="right"))
    if count in (0, len(ordered)):
        return float(count > 0)
    below, above = float(ordered[count - 1]), float(ordered[count])
    return (count - 1 + (value - below) / (above - below)) / (len(ordered) - 1)


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _resampled_means(scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the means over the drawn subjects, (R, M)."""
    resamples, subjects = drawn.shape
    cells = drawn + subjects * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * subjects)
    # einsum gives the same bits with any number of threads; a BLAS product does not.
    weights = counts.reshape(resamples, subjects).astype(np.float64)
    return np.einsum("rs,sm->rm", weights, scores) / subjects
