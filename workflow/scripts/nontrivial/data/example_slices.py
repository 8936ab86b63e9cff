"""Which slices are shown as examples: chosen by a rule that knows no prediction.

Of the first subjects in sorted order of name, each one's slice with the most foreground in
the truth; of several such the lowest slice.
"""

from collections.abc import Sequence

import numpy as np


def choose(
    subjects: Sequence[str], slices: Sequence[int], masks: np.ndarray, count: int
) -> list[int]:
    """Return the rows of the example slices, in sorted order of their subjects.

    Args:
        subjects: (N,) subject of each slice.
        slices: (N,) number of each slice in its volume.
        masks: (N, H, W) true classes, 0 the background; only the chosen subjects' are read.
        count: how many subjects; all of them if there are fewer.
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
    """Return an image (C, H, W) as uint8 (H, W): mean of its channels, darkest 0, brightest 255."""
    grey = image.mean(axis=0, dtype=np.float64)
    span = grey.max() - grey.min()
    scaled = (grey - grey.min()) / span if span else np.zeros_like(grey)
    return np.rint(scaled * 255).astype(np.uint8)
