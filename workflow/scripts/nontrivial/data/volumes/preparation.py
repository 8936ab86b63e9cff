"""Prepare pairs of volumes, one volume in memory at a time."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nontrivial.data import splits
from nontrivial.data.prepared_writer import Form, PreparedWriter, writing
from nontrivial.data.volumes import intensity, reading, slices
from nontrivial.data.volumes.intensity import Background
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.reading import Volume
from nontrivial.data.volumes.remarks import Remarks
from nontrivial.errors import UserError
from nontrivial.formats.dataset import SPLITS
from nontrivial.formats.samples import Sample

log = logging.getLogger("nontrivial")

# Settings of every source of volumes.
KEYS = frozenset(
    {
        "affine_tolerance",
        "axis",
        "fill",
        "fractions",
        "intensity",
        "intensity_mask",
        "keep_empty",
        "size",
        "spacing",
        "split_seed",
    }
)

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
        lost: number of foreground pixels that cropping removed.
        pixel_ml: volume of a pixel, as thick as the slices are apart, in ml.
        background: what the volume's zeros do to its normalization; None if nothing.
    """

    images: np.ndarray
    masks: np.ndarray
    lost: int
    pixel_ml: float
    background: Background | None = None


def prepare(
    pairs: list[Pair], settings: dict, frame: int | None, labels: LabelMap, output: Path
) -> None:
    """Write the prepared data set of pairs of volumes.

    Args:
        pairs: the volumes; unless they specify splits, subjects are divided by ``fractions``.
        settings: ``classes`` and ``KEYS``.
        frame: frame of 4-D images, counted from 0.
        labels: maps label values to classes.
        output: folder of the prepared data set.

    Raises:
        UserError: a volume or a split is wrong, there is no foreground, or cropping would remove
            foreground from val or test.
    """
    grid = Grid.of(settings)
    split_of = _split(pairs, settings)
    cropped = []
    form = Form("segmentation", list(settings["classes"]), 1, grid.size, "float32")
    foreground = dict.fromkeys(SPLITS, False)
    remarks = Remarks()
    with writing(output, form) as writer:
        for number, (pair, split) in enumerate(zip(pairs, split_of, strict=True), start=1):
            volume = reading.read(pair, frame, settings["fill"], settings["affine_tolerance"])
            result = on_grid(volume, labels.apply(volume.label, pair.label), grid, pair.name)
            if result.lost and split != "train":
                raise UserError(
                    f"{pair.image}: cropping to {grid.size[0]} x {grid.size[1]} would remove "
                    f"{result.lost} foreground pixels of this {split} volume; increase size"
                )
            cropped += [pair.name] if result.lost else []
            remarks.add(pair.name, volume, result.background)
            foreground[split] |= bool(result.masks.any())
            _append(writer, split, result, pair, settings["keep_empty"] or split != "train")
            if number % 100 == 0:
                log.info("prepared %d of %d volumes", number, len(pairs))
        _check_foreground(foreground)
    for text in remarks.warnings():
        log.warning("warning: %s", text)
    for text in remarks.notes():
        log.info("%s", text)
    if cropped:
        log.info(
            "cropping removed foreground from %d train volume(s), the first is %s; increase size to"
            " keep it",
            len(cropped),
            cropped[0],
        )


def on_grid(volume: Volume, mask: np.ndarray, grid: Grid, name: str) -> Slices:
    """Return a volume's slices: resampled, normalized over the full volume, cropped or padded.

    Padding has the volume's minimum.

    Args:
        volume: image and spacing; its label is not used.
        mask: uint8 class numbers of the volume's voxels.
        grid: how to cut the volume.
        name: the volume's name in error messages.

    Raises:
        UserError: the volume is constant, or the grid is invalid or has far too many pixels.
    """
    images, masks = slices.cut(volume.image, grid.axis), slices.cut(mask, grid.axis)
    spacing = slices.in_plane(volume.spacing, grid.axis)
    voxel_mm3, pixel_mm2 = math.prod(volume.spacing), math.prod(spacing)
    pixel_ml = voxel_mm3 / MM3_PER_ML
    if grid.spacing is not None:
        pixel_ml *= grid.spacing**2 / pixel_mm2
        pixels = slices.resampled_pixels(images.shape, spacing, grid.spacing)
        if pixels > MOST_PIXELS:
            raise UserError(
                f"{name}: its pixels are {spacing[0]:g} x {spacing[1]:g} mm, so a spacing of "
                f"{grid.spacing:g} mm would give {pixels:.2g} pixels; repair its header or change"
                " spacing"
            )
        images = slices.resample(images, spacing, grid.spacing, nearest=False)
        masks = slices.resample(masks, spacing, grid.spacing, nearest=True)
    background = None if grid.intensity_mask else intensity.background(images, grid.intensity)
    images = intensity.normalize(images, grid.intensity, name, grid.intensity_mask)
    fitted = slices.fit(masks, grid.size, 0)
    lost = int(np.count_nonzero(masks)) - int(np.count_nonzero(fitted))
    filled = slices.fit(images, grid.size, float(images.min()))
    return Slices(filled, fitted, lost, pixel_ml, background)


def _split(pairs: list[Pair], settings: dict) -> list[str]:
    given = [pair.split for pair in pairs if pair.split]
    if len(given) == len(pairs):
        if missing := set(SPLITS) - set(given):
            raise UserError(
                f"no volume is in the {min(missing)} split; assign volumes to train, val and test"
            )
        splits.check_disjoint((pair.subject, pair.split or "") for pair in pairs)
        return given
    of = splits.by_subject(
        (pair.subject for pair in pairs), settings["fractions"], settings["split_seed"]
    )
    return [of[pair.subject] for pair in pairs]


def _append(
    writer: PreparedWriter, split: str, result: Slices, pair: Pair, keep_empty: bool
) -> None:
    kept = np.arange(len(result.masks))
    if not keep_empty:
        kept = np.flatnonzero(result.masks.any(axis=(1, 2)))
    rows = [
        Sample(pair.source, pair.subject, slice=int(place), pixel_ml=result.pixel_ml)
        for place in kept
    ]
    writer.append(split, result.images[kept, None], result.masks[kept], rows)


def _check_foreground(foreground: dict[str, bool]) -> None:
    without = [split for split, found in foreground.items() if not found]
    if len(without) == len(SPLITS):
        raise UserError("no label volume has foreground; check labels and label_map")
    if without:
        raise UserError(
            f"no label volume of the {without[0]} split has foreground; "
            "change fractions or split_seed"
        )
