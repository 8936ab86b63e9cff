"""Percentile bootstrap of means over subjects."""

import numpy as np

from nontrivial.inference.confidence import CONFIDENCE

RESAMPLES = 10_000
RESAMPLES_AT_A_TIME = 1_000  # bounds memory to 1,000 x subjects values


def mean_intervals(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the 95% interval of every column's mean over subjects drawn with replacement.

    All columns use the same resamples, so the interval of a column of differences is paired.

    Args:
        scores: (S, M), a row per subject and a column per quantity.
        generator: random generator of the resamples.

    Returns:
        (M, 2): lower and upper limit.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    subjects = len(scores)
    means = [
        _resampled_means(scores, generator.integers(0, subjects, size=(count, subjects)))
        for count in _chunks(RESAMPLES, RESAMPLES_AT_A_TIME)
    ]
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T


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
