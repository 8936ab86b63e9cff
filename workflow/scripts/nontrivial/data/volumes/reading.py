"""Read an image volume and its label volume in canonical orientation."""

import decimal
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from nontrivial.data.sources.locations import halves
from nontrivial.data.volumes import gzip_streams, stored_volume
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.stored_volume import StoredVolume
from nontrivial.errors import UserError

# Largest difference between the elements of two affines; headers hold float32, and tools round.
AFFINE_TOLERANCE = 1e-3  # mm
VOXEL_TOLERANCE = 0.1  # likewise in voxel sizes, which matters for voxels below 0.01 mm
HEADER_ROUNDING = 1e-6  # relative, of a distance, so that 0.3 mm in float32 are not 0.301 mm
SAME_DIRECTION = math.cos(math.radians(45))  # of two axes; below it, another axis is closer
LABEL_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative; a few operations in float32
MOST_ROUNDING = 0.01  # absolute, so that half a label never counts as rounding
LARGEST_LABEL = 1 << 53  # float64 represents integers below this exactly


@dataclass(frozen=True)
class Volume:
    """An image with its label on the same grid, axes in RAS order.

    Attributes:
        image: float32 (X, Y, Z): left to right, posterior to anterior, inferior to superior.
        label: integers (X, Y, Z), as stored.
        spacing: voxel size along X, Y, Z in mm.
        filled: number of voxels that were not finite and were replaced.
        oriented: whether the header states the orientation. If not, the axes are taken as nibabel
            does: X from right to left, Y and Z as above.
        converted: unit of the image's header, if lengths were converted from it to mm.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float, float]
    filled: int = 0
    oriented: bool = True
    converted: str | None = None


def read(
    pair: Pair,
    frame: int | None,
    fill: float | None = None,
    affine_tolerance: float | None = None,
) -> Volume:
    """Return a pair, reoriented to the closest canonical (RAS) axes.

    gzip files are read to the end, so that their checksums are compared. Other volume files have
    no checksum.

    Args:
        pair: the image and its label.
        frame: frame of a 4-D image, counted from 0; None for 3-D images.
        fill: replaces voxels of the image that are not finite; None refuses them.
        affine_tolerance: largest distance in mm between the places of a corner voxel in the image
            and in the label; None allows affines whose elements differ by ``AFFINE_TOLERANCE``. It
            never allows axes in other directions.

    Raises:
        UserError: a file is missing, damaged or not a volume; shapes or affines differ; voxels are
            not finite; labels are not integers; the frame does not exist; ``fill`` or
            ``affine_tolerance`` is not finite.
    """
    if fill is not None and not abs(fill) <= float(np.finfo(np.float32).max):
        raise UserError(f"fill: {fill:g} is not a finite float32 number; set it to one, such as 0")
    if affine_tolerance is not None and not math.isfinite(affine_tolerance):
        raise UserError(f"affine_tolerance: {affine_tolerance} is not a finite number; write one")
    try:
        return _read(pair, frame, fill, affine_tolerance)
    except UserError:
        # Damage explains whatever else is wrong, such as a header that does not fit its label.
        for path in (*halves(pair.image), *halves(pair.label)):
            gzip_streams.check(path)
        raise


def _read(
    pair: Pair, frame: int | None, fill: float | None, affine_tolerance: float | None
) -> Volume:
    with stored_volume.opened(pair.image) as image, stored_volume.opened(pair.label) as label:
        if image.shape[:3] != label.shape[:3]:
            raise UserError(
                f"{pair.label}: shape {label.shape[:3]} differs from that of its image, "
                f"{image.shape[:3]}; resample the label onto the image"
            )
        _require_same_place(image, label, affine_tolerance)
        orientation = nib.io_orientation(image.affine)
        if np.isnan(orientation).any():
            raise stored_volume.not_invertible(pair.image)
        spacing = [0.0, 0.0, 0.0]
        for size, (canonical, _) in zip(image.voxel_sizes, orientation, strict=True):
            spacing[int(canonical)] = float(size)
        voxels, filled = _filled(image.voxels(frame), fill)
        single = _single(nib.apply_orientation(voxels, orientation), pair.image)
        label_frame = frame if label.frames > 1 else None
        values = nib.apply_orientation(label.voxels(label_frame), orientation)
        return Volume(
            single,
            _integers(values, pair.label),
            (spacing[0], spacing[1], spacing[2]),
            filled,
            image.oriented,
            image.converted,
        )


def _require_same_place(image: StoredVolume, label: StoredVolume, tolerance: float | None) -> None:
    elements = min(AFFINE_TOLERANCE, VOXEL_TOLERANCE * float(image.voxel_sizes.min()))
    if np.allclose(image.affine, label.affine, atol=elements, rtol=0):
        return
    directions = [one.affine[:3, :3] / one.voxel_sizes for one in (image, label)]
    cosines = (directions[0] * directions[1]).sum(axis=0)
    if cosines.min() < SAME_DIRECTION:
        angle = math.degrees(math.acos(max(-1.0, float(cosines.min()))))
        raise UserError(
            f"{label.path}: an axis of it points {angle:.0f} degrees away from that of its image;"
            " resample the label onto the image, or, if the voxels of both lie at the same place,"
            " copy the affine of the right header into the wrong one"
        )
    sides = ((0, side - 1) for side in image.shape[:3])
    corners = np.array([(*corner, 1) for corner in itertools.product(*sides)])
    apart = float(np.linalg.norm(corners @ (image.affine - label.affine).T, axis=1).max())
    apart *= 1 - HEADER_ROUNDING
    if tolerance is None or apart > tolerance:
        shown = _rounded_up(apart)
        advice = f", or set `affine_tolerance: {shown}` to use it as it is"
        raise UserError(
            f"{label.path}: its affine differs from that of its image, which moves a corner by"
            f" {shown} mm; resample the label onto the image"
            f"{advice if apart < image.voxel_sizes.min() else ''}"
        )


def _rounded_up(distance: float) -> str:
    """Return a distance with three digits that is not below it, as YAML reads a number."""
    context = decimal.Context(prec=3, rounding=decimal.ROUND_CEILING)
    return f"{context.create_decimal_from_float(distance).normalize():f}"


def _filled(voxels: np.ndarray, fill: float | None) -> tuple[np.ndarray, int]:
    """Return the voxels without those that are not finite, and the number of these."""
    if fill is None or voxels.dtype.kind != "f":
        return voxels, 0
    bad = ~np.isfinite(voxels)
    return np.where(bad, voxels.dtype.type(fill), voxels), int(bad.sum())


def _single(voxels: np.ndarray, path: Path) -> np.ndarray:
    _require_finite(voxels, path, "set `fill: 0` to replace them")
    with np.errstate(over="ignore"):  # checked on the next line
        single = voxels.astype(np.float32)
    _require_finite(single, path, "rescale the volume")
    return single


def _require_finite(voxels: np.ndarray, path: Path, hint: str) -> None:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise UserError(
            f"{path}: {bad} voxel(s) are NaN or infinite as float32; {hint}, or repair the file"
        )


def _integers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    _require_finite(values, path, "give them an integer label")
    whole = np.rint(values)
    others = np.flatnonzero(whole != values)
    value, nearest = values.flat[others], np.abs(whole.flat[others])
    wrong = np.abs(np.abs(value) - nearest) > np.clip(
        LABEL_ROUNDING * nearest, LABEL_ROUNDING, MOST_ROUNDING
    )
    if wrong.any():
        shown = value[wrong][0]
        with np.errstate(over="ignore"):
            short = np.float32(shown)
        raise UserError(
            f"{path}: labels are not integers (one is {short if short == shown else shown!s});"
            " resample the labels with nearest-neighbour interpolation"
        )
    if (np.abs(whole) >= LARGEST_LABEL).any():
        raise UserError(f"{path}: label {np.abs(whole).max():g} is too large; relabel the volume")
    return whole.astype(np.int64)
