"""Tests of paired differences: McNemar's test and the sign-flip test."""

import math
from dataclasses import dataclass

import numpy as np

EXACT_SUBJECTS = 16  # up to here all sign patterns are enumerated
DRAWS = 100_000
DRAWS_AT_A_TIME = 5_000  # bounds memory to 5,000 x subjects values

# Statistics that are equal in real arithmetic differ in floating point by a few rounding errors
# (1e-16) of the sum of absolute differences, depending on the order of signs. All of them must
# count as "at least as extreme", or p is too small. Different statistics are much further apart.
ROUNDING = 1e-12


def mcnemar_exact(b: int, c: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for b and c discordant pairs.

    This is twice the smaller tail of the binomial distribution with probability 1/2, at most 1,
    and 1 without discordant pairs. The largest term of the tail is computed by log-gamma and the
    others by ratios of neighbouring terms, so nothing overflows. Results below 5e-324 are 0.

    Source: Q. McNemar, Psychometrika 12 (1947) 153, in the exact, conditional form.
    """
    n, k = b + c, min(b, c)
    if b == c:
        return 1.0
    last = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
    terms = np.arange(k, 0, -1, dtype=np.float64)
    ratios = terms / (n - terms + 1)  # P(X = i - 1) / P(X = i) for i = k, k - 1, ..., 1
    # Summed in the exponent, because the largest term alone may underflow.
    tail = last + math.log1p(float(np.cumprod(ratios).sum()))
    return min(1.0, 2 * math.exp(tail))


@dataclass(frozen=True)
class SignFlips:
    """p-values of the sign-flip test, one per column, float64 (M,).

    Attributes:
        two_sided: of differences that are symmetric about 0.
        above: the same against differences that tend to be positive.
        below: the same against differences that tend to be negative.
    """

    two_sided: np.ndarray
    above: np.ndarray
    below: np.ndarray


def sign_flip(differences: np.ndarray, generator: np.random.Generator) -> SignFlips:
    """Return the p-values that each column's differences are symmetric about 0.

    The statistic is the mean, and its absolute value for the two-sided test. Up to 16 subjects
    the test is exact (all sign patterns). Beyond, it draws 100,000 patterns and
    p = (1 + hits) / (1 + draws). All columns share them.

    Args:
        differences: (S, M), a row per subject and a column per quantity.
        generator: random generator of the signs; unused in the exact case.

    Source: R. A. Fisher, The Design of Experiments (1935), section 21; the estimate with 1
    added: B. Phipson and G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.
    """
    differences = np.asarray(differences, dtype=np.float64)
    observed = differences.sum(axis=0)
    tolerance = ROUNDING * np.abs(differences).sum(axis=0)

    def hits(sums: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                (np.abs(sums) >= np.abs(observed) - tolerance).sum(axis=0),
                (sums >= observed - tolerance).sum(axis=0),
                (sums <= observed + tolerance).sum(axis=0),
            ]
        )

    if len(differences) <= EXACT_SUBJECTS:
        half = _half_of_all_sums(differences)  # the other half are their negatives
        return SignFlips(*((hits(half) + hits(-half)) / (2 * len(half))))
    total = np.zeros((3, differences.shape[1]), dtype=np.int64)
    for start in range(0, DRAWS, DRAWS_AT_A_TIME):
        count = min(DRAWS_AT_A_TIME, DRAWS - start)
        total += hits(_random_sums(differences, count, generator))
    return SignFlips(*((1 + total) / (1 + DRAWS)))


def smallest_p(subjects: int) -> float:
    """Return the smallest two-sided p-value that the sign-flip test of so many subjects can give.

    >>> smallest_p(6)
    0.03125
    """
    return 2 / 2**subjects if subjects <= EXACT_SUBJECTS else 1 / (1 + DRAWS)


def _half_of_all_sums(differences: np.ndarray) -> np.ndarray:
    """Return the sums under all sign patterns with the first sign fixed, (2^(S-1), M)."""
    sums = differences[:1]
    for row in differences[1:]:
        sums = np.concatenate([sums + row, sums - row])
    return sums


def _random_sums(differences: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return the sums under ``count`` random sign patterns, (count, M)."""
    subjects = len(differences)
    row_bytes = -(-subjects // 8)
    octets = np.frombuffer(generator.bytes(count * row_bytes), dtype=np.uint8)
    flips = np.unpackbits(octets.reshape(count, row_bytes), axis=1, count=subjects)
    # einsum gives the same bits with any number of threads; a BLAS product does not.
    flipped = np.einsum("rs,sm->rm", flips.astype(np.float64), differences)
    return differences.sum(axis=0) - 2 * flipped
