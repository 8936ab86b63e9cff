"""The Dice coefficient from counts of pixels.

The Dice of a subject is that of the volume: counts are summed over its slices, so slices with few
foreground pixels have little weight.
"""

from collections.abc import Sequence

import numpy as np


def dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """Return 2TP / (2TP + FP + FN), and NaN where the truth is empty.

    An empty truth has no Dice: a score of 1 for predicting nothing there would reward a network
    that has stopped predicting anything.

    Args:
        tp: true positive pixels, any shape.
        fp: false positive pixels, the same shape.
        fn: false negative pixels, the same shape.

    Returns:
        Dice between 0 and 1, float64, the shape of the counts.

    Source: L. R. Dice, Ecology 26 (1945) 297, in terms of counts.
    """
    hits, false, missed = (np.asarray(part, dtype=np.float64) for part in (tp, fp, fn))
    is_empty = hits + missed == 0
    total = np.where(is_empty, 1.0, 2 * hits + false + missed)
    return np.where(is_empty, np.nan, 2 * hits / total)


def by_subject(
    subjects: Sequence[str] | np.ndarray, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Dice of every subject and class from counts summed over the subject's slices.

    Args:
        subjects: subject of each of N slices, in any order.
        tp: true positive pixels per slice and class, shape (N, K).
        fp: false positive pixels, (N, K).
        fn: false negative pixels, (N, K).

    Returns:
        The S subjects' names, sorted, and their Dice, float64 (S, K); NaN where a subject does not
        have a class.

    Raises:
        ValueError: the number of subjects is not the number of slices.
    """
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    sums = [sum_by_group(index, counts, len(names)) for counts in (tp, fp, fn)]
    return names, dice(*sums)


def sum_by_group(index: np.ndarray, counts: np.ndarray, groups: int) -> np.ndarray:
    """Sum the rows of ``counts`` (N, K) that share a group number; int64 (groups, K).

    Raises:
        ValueError: ``index`` does not have N entries.
    """
    counts = np.asarray(counts)
    if len(index) != len(counts):
        raise ValueError(f"{len(index)} group numbers for {len(counts)} rows of counts")
    sums = np.zeros((groups, counts.shape[1]), dtype=np.int64)
    np.add.at(sums, index, counts)
    return sums
