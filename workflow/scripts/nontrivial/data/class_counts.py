"""Count the classes in labels."""

import numpy as np


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each class occurs in each sample, int64 (N, classes).

    Example:
        >>> class_counts(np.array([[[0, 2], [2, 2]]]), 3)
        array([[1, 0, 3]])

    Args:
        labels: class numbers (N,) or masks of class numbers (N, H, W).
        classes: number of classes.

    Raises:
        ValueError: a label is not a class.
    """
    counts = np.zeros((len(labels), classes), dtype=np.int64)
    for row, label in zip(counts, labels, strict=True):  # bincount copies its input as int64
        row += np.bincount(np.ravel(label), minlength=classes)
    return counts
