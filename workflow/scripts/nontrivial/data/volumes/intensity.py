"""Normalize the intensities of a volume; those of MRI have no unit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nontrivial.data.excerpt import excerpt
from nontrivial.errors import UserError

PERCENTILES = (1.0, 99.0)  # clipping limits of `percentile`; the extremes are mostly artefacts
CLIPPED = 1 - PERCENTILES[1] / 100  # share of the voxels above the upper limit
METHODS = ("zscore", "minmax", "percentile")
NONZERO = "nonzero"
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative
# At this share of equal voxels, `percentile` clips twice as many others as without them.
MOST_BACKGROUND = 0.5
MOST_SPACED = 100_000  # voxels among which the background is searched


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
    """How the background of a volume moves its normalization.

    Attributes:
        share: share of the counted voxels that have its value.
        value: the value that most of the voxels have.
        clipped: share of the other voxels that ``percentile`` clips at its upper limit; None for
            other methods.
        mean: mean of the other voxels after ``zscore``, which is 0 without background; None for
            other methods.
        sd: likewise their standard deviation, which is 1 without background.
    """

    share: float
    value: float = 0.0
    clipped: float | None = None
    mean: float | None = None
    sd: float | None = None


def background(image: np.ndarray, method: str, mask: str | None = None) -> Background | None:
    """Return how a constant background moves the normalization; None where it does not matter.

    Args:
        image: the volume that ``normalize`` got.
        method: its method. ``minmax`` does not depend on the number of equal voxels.
        mask: its mask.
    """
    if method not in ("zscore", "percentile"):
        return None
    counted = image[image != 0] if mask else image.ravel()
    if not counted.size:
        return None
    # A value that more than half of the voxels have is their median, and that of evenly spaced
    # ones. That of all takes seconds where many are equal.
    spaced = np.sort(counted[:: 1 + counted.size // MOST_SPACED])
    value = float(spaced[spaced.size // 2])
    # Resampling rounds, so that equal voxels may differ in the last bits.
    equal = np.abs(counted - np.float32(value)) <= ROUNDING * abs(value)
    share = np.count_nonzero(equal) / counted.size
    if not MOST_BACKGROUND < share < 1:
        return None
    others = counted[~equal]
    if method == "percentile":
        clipped = float(np.mean(others > np.percentile(counted, PERCENTILES[1])))
        return Background(share, value, clipped) if clipped > 2 * CLIPPED else None
    mean, sd = (float(f(counted, dtype=np.float64)) for f in (np.mean, np.std))
    own_mean, own_sd = (float(f(others, dtype=np.float64)) for f in (np.mean, np.std))
    return Background(share, value, mean=(own_mean - mean) / sd, sd=own_sd / sd)


def background_warning(found: Mapping[str, Background], volumes: int) -> str | None:
    """Return a sentence about the volumes whose background moves their normalization, if any.

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
    others = sorted(name for name in found if found[name].value)
    first = (
        f" First subtract the value of the background in the {len(others)} volume(s) where it is"
        f" not 0 ({excerpt([f'{found[name].value:g} in {name}' for name in others], 1)})."
        if others
        else ""
    )
    return (
        f"In {len(found)} of {volumes} volume(s), more than half of the voxels are"
        f" {'equal' if others else '0'}. In {worst}, {most.share:.0%} are {most.value:g}, so"
        f" {effect}. Set `intensity_mask: nonzero` to normalize by the voxels that are not 0."
        f"{first}"
    )
