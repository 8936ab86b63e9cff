"""Prepare pairs of volumes, one volume in memory at a time."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nontrivial.data import splits
from nontrivial.data.prepared_writer import Form, PreparedWriter, writing
from nontrivial.data.volumes import reading
from nontrivial.data.volumes.grid import Grid, Slices, on_grid
from nontrivial.data.volumes.inventory import ClassCounts, Inventory
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
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


def prepare(
    pairs: list[Pair],
    settings: dict,
    frame: int | None,
    labels: LabelMap,
    output: Path,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Write the prepared data set of pairs of volumes.

    All volumes are read before a crop or a vanished class is refused, so that the message covers
    all of them.

    Args:
        pairs: the volumes; unless they specify splits, subjects are divided by ``fractions``.
        settings: ``classes`` and ``KEYS``.
        frame: frame of 4-D images, counted from 0.
        labels: maps label values to classes.
        output: folder of the prepared data set.
        notes: what the source converted or assumed, a sentence each, for the summary.
        warnings: what is unusual about the files or their subjects, likewise.

    Raises:
        UserError: a volume or a split is wrong, cropping would remove foreground from val or test,
            a class vanishes from a split or is not in train, or a split has no foreground.
    """
    grid = Grid.of(settings)
    split_of = _split(pairs, settings)
    form = Form("segmentation", list(settings["classes"]), 1, grid.size, "float32")
    inventory = Inventory(form.classes, grid)
    empty = 0
    remarks = Remarks()
    with writing(output, form) as writer:
        writer.preparation.notes += notes
        writer.preparation.warnings += warnings
        for number, (pair, split) in enumerate(zip(pairs, split_of, strict=True), start=1):
            volume = reading.read(pair, frame, settings["fill"], settings["affine_tolerance"])
            result = on_grid(volume, labels.apply(volume.label, pair.label), grid, pair.name)
            kept = _kept(result, settings["keep_empty"] or split != "train")
            empty += len(result.masks) - len(kept)
            counts = ClassCounts(result.voxels, result.resampled, result.cropped)
            remarks.add(pair.name, volume, result.background)
            inventory.add_volume(pair, volume, labels, result)
            inventory.add_classes(split, pair.subject, counts, len(kept))
            inventory.add_crop(split, pair, result.lost)
            if not inventory.cuts_evaluated:  # else nothing will be written
                _append(writer, split, result, pair, kept)
            if number % 100 == 0:
                log.info("prepared %d of %d volumes", number, len(pairs))
        inventory.finish(writer.preparation)
        writer.preparation.warnings += remarks.warnings()
        writer.preparation.notes += remarks.notes()
        if empty:
            writer.preparation.left_out.append(
                f"{empty} train slices without foreground, because keep_empty is false"
            )


def _split(pairs: list[Pair], settings: dict) -> list[str]:
    given = [pair.split for pair in pairs if pair.split]
    if len(given) == len(pairs):
        if missing := [split for split in SPLITS if split not in given]:
            raise UserError(
                f"no volume is in the split {' or '.join(missing)}; assign volumes to train, val"
                " and test"
            )
        splits.check_disjoint((pair.subject, pair.split or "") for pair in pairs)
        return given
    of = splits.by_subject(
        (pair.subject for pair in pairs), settings["fractions"], settings["split_seed"]
    )
    return [of[pair.subject] for pair in pairs]


def _kept(result: Slices, keep_empty: bool) -> np.ndarray:
    if keep_empty:
        return np.arange(len(result.masks))
    return np.flatnonzero(result.masks.any(axis=(1, 2)))


def _append(
    writer: PreparedWriter, split: str, result: Slices, pair: Pair, kept: np.ndarray
) -> None:
    rows = [
        Sample(pair.source, pair.subject, slice=int(place), pixel_ml=result.pixel_ml)
        for place in kept
    ]
    writer.append(split, result.images[kept, None], result.masks[kept], rows)
