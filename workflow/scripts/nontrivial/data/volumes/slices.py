"""Cut a volume into slices of one size: in-plane resampling, cropping and padding.

Rows run downwards and columns to the right: from superior to inferior and posterior to anterior in
sagittal slices, superior to inferior and left to right in coronal ones, anterior to posterior and
left to right in axial ones (the subject's left is on the left). Slices are numbered from 0, from
left to right (sagittal), posterior to anterior (coronal) or inferior to superior (axial).
"""

import numpy as np

from nontrivial.errors import UserError

# (slices, rows, columns) as axes of an RAS volume; rows are reversed afterwards
_PLANES = {"sagittal": (0, 2, 1), "coronal": (1, 2, 0), "axial": (2, 1, 0)}
AXES = tuple(_PLANES)


def cut(volume: np.ndarray, axis: str) -> np.ndarray:
    """Return the slices (S, H, W) of an RAS volume (X, Y, Z), a view.

    Raises:
        UserError: the axis is unknown.
    """
    return volume.transpose(_order(axis))[:, ::-1, :]


def in_plane(spacing: tuple[float, float, float], axis: str) -> tuple[float, float]:
    """Return the spacing of rows and of columns, in the unit of ``spacing`` (X, Y, Z)."""
    _, rows, columns = _order(axis)
    return spacing[rows], spacing[columns]


def between(spacing: tuple[float, float, float], axis: str) -> float:
    """Return the distance between slices, in the unit of ``spacing`` (X, Y, Z)."""
    return spacing[_order(axis)[0]]


def resample(
    slices: np.ndarray, spacing: tuple[float, float], target: float, nearest: bool
) -> np.ndarray:
    """Return the slices (S, H, W) at ``target`` mm per pixel in both directions.

    The field of view keeps its centre and, up to rounding to whole pixels, its extent. Pixels are
    areas, so halving the spacing replaces a pixel by two. Edge values are repeated outside; no
    low-pass filter precedes a coarser grid.

    Args:
        slices: values (S, H, W).
        spacing: present mm per row and per column.
        target: new mm per row and per column.
        nearest: nearest neighbour, for labels, instead of linear interpolation.
    """
    for axis, now in ((1, spacing[0]), (2, spacing[1])):
        slices = _resample_axis(slices, axis, now, target, nearest)
    return slices


def resampled_pixels(
    shape: tuple[int, int, int], spacing: tuple[float, float], target: float
) -> float:
    """Return the total number of pixels that ``resample`` would return for slices (S, H, W)."""
    number, height, width = shape
    return number * max(1, height * spacing[0] / target) * max(1, width * spacing[1] / target)


def fit(slices: np.ndarray, size: tuple[int, int], fill: float) -> np.ndarray:
    """Return slices (S, H, W), cropped or padded about their centre to (height, width) pixels."""
    fitted = np.full((len(slices), *size), fill, dtype=slices.dtype)
    source, target = [slice(None)], [slice(None)]
    for now, wanted in zip(slices.shape[1:], size, strict=True):
        common = min(now, wanted)
        source.append(slice((now - common) // 2, (now - common) // 2 + common))
        target.append(slice((wanted - common) // 2, (wanted - common) // 2 + common))
    fitted[tuple(target)] = slices[tuple(source)]
    return fitted


def smallest_size(masks: np.ndarray) -> tuple[int, int]:
    """Return the smallest (height, width) to which ``fit`` crops masks without losing foreground.

    It is (1, 1) for masks (S, H, W) without foreground.
    """
    rows, columns = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return _smallest_length(rows, masks.shape[1]), _smallest_length(columns, masks.shape[2])


def _smallest_length(places: np.ndarray, total: int) -> int:
    if not len(places):
        return 1
    # A crop to n of N pixels keeps those from (N - n) // 2 to (N - n) // 2 + n - 1.
    first, last = int(places[0]), int(places[-1])
    return max(1, total - 2 * first - 1, 2 * last + 2 - total)


def _order(axis: str) -> tuple[int, int, int]:
    if axis not in _PLANES:
        raise UserError(f"axis: {axis!r} is not one of {', '.join(AXES)}")
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
    with np.errstate(over="ignore", invalid="ignore"):  # intensity.normalize checks the result
        return low + weight * (values.take(above, axis=axis) - low)
