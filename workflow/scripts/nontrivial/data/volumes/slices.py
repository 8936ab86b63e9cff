"""From a volume to slices of a fixed size: cutting, in-plane resampling, cropping and padding.

Rows run downwards and columns to the right: sagittal superior to inferior, posterior to anterior;
coronal superior to inferior, left to right; axial anterior to posterior, left to right (the
subject's left is on the left). Slices are numbered from 0: left to right (sagittal), posterior to
anterior (coronal), inferior to superior (axial).
"""

import numpy as np

from nontrivial.errors import UserError

# axis -> (slices, rows, columns) as axes of an RAS volume; rows are reversed afterwards
_PLANES = {"sagittal": (0, 2, 1), "coronal": (1, 2, 0), "axial": (2, 1, 0)}
AXES = tuple(_PLANES)


def cut(volume: np.ndarray, axis: str) -> np.ndarray:
    """Return the slices (S, H, W) of an RAS volume (X, Y, Z), a view.

    Raises:
        UserError: the axis is unknown.
    """
    return volume.transpose(_order(axis))[:, ::-1, :]


def in_plane(spacing: tuple[float, float, float], axis: str) -> tuple[float, float]:
    """Return the distance of rows and of columns, in the unit of ``spacing`` (X, Y, Z)."""
    _, rows, columns = _order(axis)
    return spacing[rows], spacing[columns]


def resample(
    slices: np.ndarray, spacing: tuple[float, float], target: float, nearest: bool
) -> np.ndarray:
    """Return the slices (S, H, W) at ``target`` mm per pixel in both directions.

    The field of view keeps its centre and, up to rounding to whole pixels, its extent; pixels are
    areas, so halving the spacing puts two pixels where one was. Linear for images, nearest
    neighbour for labels, edge values outside; no low-pass filter before a coarser grid.

    Args:
        slices: values (S, H, W).
        spacing: mm per row and per column now.
        target: mm per row and column wanted.
        nearest: take the nearest value instead of the linear mean of two.
    """
    for axis, now in ((1, spacing[0]), (2, spacing[1])):
        slices = _resample_axis(slices, axis, now, target, nearest)
    return slices


def resampled_pixels(
    shape: tuple[int, int, int], spacing: tuple[float, float], target: float
) -> float:
    """Return how many pixels ``resample`` would make of slices (S, H, W), all together."""
    number, height, width = shape
    return number * max(1, height * spacing[0] / target) * max(1, width * spacing[1] / target)


def fit(slices: np.ndarray, size: tuple[int, int], fill: float) -> np.ndarray:
    """Crop or pad slices (S, H, W) about their centre to ``size`` (height, width) in pixels."""
    fitted = np.full((len(slices), *size), fill, dtype=slices.dtype)
    source, target = [slice(None)], [slice(None)]
    for now, wanted in zip(slices.shape[1:], size, strict=True):
        common = min(now, wanted)
        source.append(slice((now - common) // 2, (now - common) // 2 + common))
        target.append(slice((wanted - common) // 2, (wanted - common) // 2 + common))
    fitted[tuple(target)] = slices[tuple(source)]
    return fitted


def _order(axis: str) -> tuple[int, int, int]:
    if axis not in _PLANES:
        raise UserError(f"axis: give one of {', '.join(AXES)}, not {axis!r}")
    return _PLANES[axis]


def _resample_axis(
    values: np.ndarray, axis: int, now: float, target: float, nearest: bool
) -> np.ndarray:
    length = values.shape[axis]
    step = target / now  # old pixels per new pixel
    number = max(1, round(length / step))
    places = (np.arange(number) - (number - 1) / 2) * step + (length - 1) / 2
    places = np.clip(places, 0, length - 1)
    if nearest:
        return values.take(np.floor(places + 0.5).astype(int), axis=axis)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, length - 1)
    shape = [1] * values.ndim
    shape[axis] = number
    weight = (places - below).astype(values.dtype).reshape(shape)
    low = values.take(below, axis=axis)
    return low + weight * (values.take(above, axis=axis) - low)
