"""Normalizing the intensities of one volume; MRI has no unit of its own."""

import numpy as np

from nontrivial.errors import UserError

PERCENTILES = (1.0, 99.0)  # cut off by `percentile`: what lies beyond is mostly artefact
METHODS = ("zscore", "minmax", "percentile")


def normalize(image: np.ndarray, method: str, name: str) -> np.ndarray:
    """Return a volume, float32 of any shape, with normalized intensities.

    Args:
        image: the whole volume, before any cropping.
        method: ``zscore`` (mean 0, standard deviation 1), ``minmax`` (0 to 1) or ``percentile``
            (clipped to the 1st and 99th percentile, then 0 to 1).
        name: the volume's, for errors.

    Raises:
        UserError: the volume is constant or beyond 32-bit floats, or the method unknown.
    """
    if method == "zscore":
        low, width = (float(f(image, dtype=np.float64)) for f in (np.mean, np.std))
    elif method == "minmax":
        low, width = float(image.min()), float(image.max()) - float(image.min())
    elif method == "percentile":
        low, high = (float(value) for value in np.percentile(image, PERCENTILES))
        image, width = np.clip(image, low, high), high - low
    else:
        raise UserError(f"intensity: give one of {', '.join(METHODS)}, not {method!r}")
    if width <= 0:
        raise UserError(f"{name}: all its voxels are equal; {method} cannot normalize it")
    with np.errstate(over="ignore", invalid="ignore"):  # found in the result
        normalized = image - np.float32(low)
        normalized /= np.float32(width)
    if not np.isfinite(normalized).all():
        raise UserError(f"{name}: its intensities are too far apart for 32-bit floats; rescale it")
    return normalized
