"""Normalize the intensities of a volume; those of MRI have no unit."""

import numpy as np

from nontrivial.errors import UserError

PERCENTILES = (1.0, 99.0)  # clipping limits of `percentile`; the extremes are mostly artefacts
METHODS = ("zscore", "minmax", "percentile")


def normalize(image: np.ndarray, method: str, name: str) -> np.ndarray:
    """Return a volume (float32, any shape) with normalized intensities.

    Args:
        image: the whole volume, before any cropping.
        method: ``zscore`` (mean 0, standard deviation 1), ``minmax`` (0 to 1) or ``percentile``
            (clipped to the 1st and 99th percentile, then 0 to 1).
        name: the volume's name in error messages.

    Raises:
        UserError: the volume is constant, its range exceeds float32, or the method is unknown.
    """
    if method == "zscore":
        low, width = (float(f(image, dtype=np.float64)) for f in (np.mean, np.std))
    elif method == "minmax":
        low, width = float(image.min()), float(image.max()) - float(image.min())
    elif method == "percentile":
        low, high = (float(value) for value in np.percentile(image, PERCENTILES))
        image, width = np.clip(image, low, high), high - low
    else:
        raise UserError(f"intensity: {method!r} is not one of {', '.join(METHODS)}")
    if width <= 0:
        raise UserError(
            f"{name}: all its voxels are equal, so {method} cannot normalize it; remove it"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked below
        normalized = image - np.float32(low)
        normalized /= np.float32(width)
    if not np.isfinite(normalized).all():
        raise UserError(f"{name}: the range of its intensities exceeds float32; rescale the volume")
    return normalized
