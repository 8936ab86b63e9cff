"""Cut a volume into normalized slices of one grid, and count what its classes lose."""

import math
from dataclasses import dataclass

import numpy as np

from nontrivial.data.volumes import intensity, slices
from nontrivial.data.volumes.intensity import Background
from nontrivial.data.volumes.label_names import MOST_CLASSES
from nontrivial.data.volumes.reading import Volume
from nontrivial.errors import UserError

MOST_PIXELS = 1 << 30  # of one resampled volume, 4 GiB
MM3_PER_ML = 1000


@dataclass(frozen=True)
class Grid:
    """How volumes become slices.

    Attributes:
        axis: ``sagittal``, ``coronal`` or ``axial``.
        spacing: in-plane pixel size in mm; None keeps the volume's own.
        size: (height, width) of a slice in pixels.
        intensity: method of ``intensity.normalize``.
        intensity_mask: its mask.
    """

    axis: str
    spacing: float | None
    size: tuple[int, int]
    intensity: str
    intensity_mask: str | None = None

    @classmethod
    def of(cls, settings: dict) -> "Grid":
        """Return the grid of a data set's section of the configuration."""
        height, width = settings["size"]
        return cls(
            settings["axis"],
            settings["spacing"],
            (height, width),
            settings["intensity"],
            settings["intensity_mask"],
        )


@dataclass(frozen=True)
class Slices:
    """A volume's slices on the grid.

    Attributes:
        images: float32 (S, H, W), normalized.
        masks: uint8 (S, H, W), class numbers.
        voxels: int64 (256,), voxels of each class as read.
        resampled: int64 (256,), pixels of each class before cropping.
        cropped: int64 (256,), pixels of each class after cropping.
        extent: (rows, columns) of the resampled slices, before cropping and padding.
        needed: the smallest (height, width) that keeps all foreground.
        pixel_ml: volume of a pixel, as thick as the slices are apart, in ml.
        background: what the volume's background does to its normalization; None if nothing.
    """

    images: np.ndarray
    masks: np.ndarray
    voxels: np.ndarray
    resampled: np.ndarray
    cropped: np.ndarray
    extent: tuple[int, int]
    needed: tuple[int, int]
    pixel_ml: float
    background: Background | None = None

    @property
    def lost(self) -> int:
        """Number of foreground pixels that cropping removed."""
        return int(self.resampled[1:].sum() - self.cropped[1:].sum())


def on_grid(volume: Volume, mask: np.ndarray, grid: Grid, name: str) -> Slices:
    """Return a volume's slices: resampled, normalized over the full volume, cropped or padded.

    Padding has the volume's minimum.

    Args:
        volume: image and spacing; its label is not used.
        mask: uint8 class numbers of the volume's voxels.
        grid: how to cut the volume.
        name: the volume's name in error messages.

    Raises:
        UserError: the volume is constant, or the grid is invalid, has far too many pixels or leaves
            one pixel of a slice.
    """
    images, masks = slices.cut(volume.image, grid.axis), slices.cut(mask, grid.axis)
    spacing = slices.in_plane(volume.spacing, grid.axis)
    voxel_mm3, pixel_mm2 = math.prod(volume.spacing), math.prod(spacing)
    pixel_ml = voxel_mm3 / MM3_PER_ML
    voxels = _counts(masks)
    if grid.spacing is not None:
        pixel_ml *= grid.spacing**2 / pixel_mm2
        pixels = slices.resampled_pixels(images.shape, spacing, grid.spacing)
        if pixels > MOST_PIXELS:
            raise UserError(
                f"{name}: its pixels are {spacing[0]:g} x {spacing[1]:g} mm, so a spacing of "
                f"{grid.spacing:g} mm would give {pixels:.2g} pixels; repair its header or change"
                " spacing"
            )
        before = images.shape[1:]
        images = slices.resample(images, spacing, grid.spacing, nearest=False)
        masks = slices.resample(masks, spacing, grid.spacing, nearest=True)
        if any(now == 1 < was for now, was in zip(images.shape[1:], before, strict=True)):
            raise UserError(
                f"{name}: its slices are {before[0] * spacing[0]:g} x {before[1] * spacing[1]:g} mm"
                f", so a spacing of {grid.spacing:g} mm would leave {images.shape[1]} x"
                f" {images.shape[2]} pixels; decrease spacing, or repair the units in its header"
            )
    background = intensity.background(images, grid.intensity, grid.intensity_mask)
    images = intensity.normalize(images, grid.intensity, name, grid.intensity_mask)
    fitted = slices.fit(masks, grid.size, 0)
    return Slices(
        images=slices.fit(images, grid.size, float(images.min())),
        masks=fitted,
        voxels=voxels,
        resampled=_counts(masks),
        cropped=_counts(fitted),
        extent=(images.shape[1], images.shape[2]),
        needed=slices.smallest_size(masks),
        pixel_ml=pixel_ml,
        background=background,
    )


def _counts(masks: np.ndarray) -> np.ndarray:
    # One slice at a time: bincount copies its input as int64, eight times the size of a mask.
    total = np.zeros(MOST_CLASSES, dtype=np.int64)
    for mask in masks:
        total += np.bincount(mask.ravel(), minlength=MOST_CLASSES)
    return total
