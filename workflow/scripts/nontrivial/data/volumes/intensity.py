"""Normalize the intensities of a volume; those of MRI have no unit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nontrivial.errors import UserError

PERCENTILES = (1.0, 99.0)  # clipping limits of `percentile`; the extremes are mostly artefacts
CLIPPED = 1 - PERCENTILES[1] / 100  # share of the voxels above the upper limit
METHODS = ("zscore", "minmax", "percentile")
NONZERO = "nonzero"
# At this share of zeros, `percentile` clips twice as many of the other voxels as without them.
MOST_BACKGROUND = 0.5


def normalize(image: np.ndarray, method: str, name: str, mask: str | None = None) -> np.ndarray:
    """Return a volume (float32, any shape) with normalized intensities.

    Args:
        image: the whole volume, before any cropping.
        method: ``zscore`` (mean 0, standard deviation 1), ``minmax`` (0 to 1) or ``percentile``
            (clipped to the 1st and 99th percentile, then 0 to 1).
        name: the volume's name in error messages.
        mask: voxels from which mean, standard deviation, range and percentiles are computed:
            ``nonzero``, or None for all. All voxels are normalized. With ``nonzero``, ``minmax``
            clips too, so that zeros outside the range of the others stay within 0 to 1.

    Raises:
        UserError: the volume is constant, its range exceeds float32, or the method or the mask is
            unknown.
    """
    if mask not in (None, NONZERO):
        raise UserError(f"intensity_mask: {mask!r} is not {NONZERO} or null")
    counted = image[image != 0] if mask else image
    if not counted.size:
        raise UserError(f"{name}: all its voxels are 0; remove it")
    if method == "zscore":
        low, width = (float(f(counted, dtype=np.float64)) for f in (np.mean, np.std))
    elif method == "minmax":
        low, high = float(counted.min()), float(counted.max())
        image, width = np.clip(image, low, high) if mask else image, high - low
    elif method == "percentile":
        low, high = (float(value) for value in np.percentile(counted, PERCENTILES))
        image, width = np.clip(image, low, high), high - low
    else:
        raise UserError(f"intensity: {method!r} is not one of {', '.join(METHODS)}")
    if width <= 0:
        voxels = "voxels that are not 0" if mask else "voxels"
        raise UserError(
            f"{name}: all its {voxels} are equal, so {method} cannot normalize it; remove it"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked below
        normalized = image - np.float32(low)
        normalized /= np.float32(width)
    if not np.isfinite(normalized).all():
        raise UserError(f"{name}: the range of its intensities exceeds float32; rescale the volume")
    return normalized


@dataclass(frozen=True)
class Background:
    """How the zeros of a volume move its normalization.

    Attributes:
        share: share of the voxels that are 0.
        clipped: share of the other voxels that ``percentile`` clips at its upper limit; None for
            other methods.
        mean: mean of the other voxels after ``zscore``, which is 0 without background; None for
            other methods.
        sd: likewise their standard deviation, which is 1 without background.
    """

    share: float
    clipped: float | None = None
    mean: float | None = None
    sd: float | None = None


def background(image: np.ndarray, method: str) -> Background | None:
    """Return how zeros move the normalization without a mask; None where it does not matter.

    Args:
        image: the volume that ``normalize`` got.
        method: its method. ``minmax`` does not depend on the number of zeros.
    """
    share = 1 - float(np.count_nonzero(image)) / image.size
    if not MOST_BACKGROUND < share < 1 or method not in ("zscore", "percentile"):
        return None
    others = image[image != 0]
    if method == "percentile":
        clipped = float(np.mean(others > np.percentile(image, PERCENTILES[1])))
        return Background(share, clipped) if clipped > 2 * CLIPPED else None
    mean, sd = (float(f(image, dtype=np.float64)) for f in (np.mean, np.std))
    own_mean, own_sd = (float(f(others, dtype=np.float64)) for f in (np.mean, np.std))
    return Background(share, mean=(own_mean - mean) / sd, sd=own_sd / sd)


def background_warning(found: Mapping[str, Background], volumes: int) -> str | None:
    """Return a sentence about the volumes whose zeros move their normalization; None if none.

    Args:
        found: by volume, those that ``background`` returned something for.
        volumes: number of all volumes.
    """
    if not found:
        return None
    worst = max(found, key=lambda name: (found[name].clipped or 0, found[name].share, name))
    most = found[worst]
    if most.clipped is not None:
        effect = (
            f"`percentile` clips {most.clipped:.1%} of its other voxels at the upper limit"
            f" ({CLIPPED:.0%} without background)"
        )
    else:
        effect = (
            f"`zscore` gives its other voxels a mean of {most.mean:.2f} and a standard deviation of"
            f" {most.sd:.2f} (0 and 1 without background)"
        )
    return (
        f"In {len(found)} of {volumes} volume(s), more than half of the voxels are 0. In {worst},"
        f" they are {most.share:.0%}, so {effect}. Set `intensity_mask: nonzero` to normalize by"
        " the voxels that are not 0."
    )
