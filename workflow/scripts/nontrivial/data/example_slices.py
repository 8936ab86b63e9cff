"""Choose the example slices of a figure without looking at any prediction.

The rule takes the first subjects by name and, of each, the slice with the most true foreground;
ties go to the lowest slice.
"""

from collections.abc import Sequence

import numpy as np


def choose(
    subjects: Sequence[str], slices: Sequence[int], masks: np.ndarray, count: int
) -> list[int]:
    """Return the rows of the example slices, sorted by subject.

    Example:
        >>> masks = np.zeros((3, 4, 4), dtype=np.uint8)
        >>> masks[1, 0, 0] = 1
        >>> choose(["a", "a", "b"], [0, 1, 0], masks, count=2)
        [1, 2]

    Args:
        subjects: (N,) subject of each slice.
        slices: (N,) number of each slice in its volume.
        masks: (N, H, W) true classes, 0 for background; only the chosen subjects are read.
        count: number of subjects; all of them if there are fewer.
    """
    rows_of: dict[str, list[int]] = {}
    for row, subject in enumerate(subjects):
        rows_of.setdefault(subject, []).append(row)
    return [
        min(
            rows_of[subject],
            key=lambda row: (-int(np.count_nonzero(masks[row])), slices[row], row),
        )
        for subject in sorted(rows_of)[:count]
    ]


def shades(image: np.ndarray) -> np.ndarray:
    """Return the mean over channels of an image (C, H, W), scaled to uint8 (H, W)."""
    grey = image.mean(axis=0, dtype=np.float64)
    span = grey.max() - grey.min()
    scaled = (grey - grey.min()) / span if span else np.zeros_like(grey)
    return np.rint(scaled * 255).astype(np.uint8)
