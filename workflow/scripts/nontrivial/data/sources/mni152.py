"""Prepare the MNI152 T1 template that nilearn ships: real volumes without a download.

The template is the mean of many brains and counts as one subject. Train, val and test are slabs of
its slices with gaps between them. They say nothing about other subjects, so the data set is marked
as a demonstration. Source: ICBM 2009c nonlinear symmetric, 1 mm (Fonov et al. 2011).
"""

import logging
from pathlib import Path

import numpy as np

from nontrivial.data import splits
from nontrivial.data.class_counts import class_counts
from nontrivial.data.prepared_writer import Form, writing
from nontrivial.data.volumes import gzip_streams, slices
from nontrivial.data.volumes.grid import Grid, on_grid
from nontrivial.data.volumes.inventory import ClassCounts, Inventory
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.reading import Volume
from nontrivial.data.volumes.remarks import Remarks
from nontrivial.errors import UserError
from nontrivial.formats.samples import Sample

log = logging.getLogger("nontrivial")

CLASSES = ["background", "grey matter", "white matter"]
KEYS = frozenset({"axis", "spacing", "size", "intensity", "intensity_mask", "fractions", "gap"})
SUBJECT = "mni152"
RESOLUTION = 1  # mm, as packaged


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare the template with grey and white matter as classes.

    Args:
        settings: those of ``KEYS``; ``gap`` is the number of slices left out between slabs.
        data_dir: not read.
        output: folder of the prepared data.

    Raises:
        UserError: a slab would be empty, or cropping would remove tissue.
    """
    grid = Grid.of(settings)
    volume = template()
    result = on_grid(volume, volume.label, grid, SUBJECT)
    if result.lost:
        raise UserError(
            f"{SUBJECT}: cropping to {grid.size[0]} x {grid.size[1]} would remove {result.lost} "
            f"foreground pixels; set size to {list(result.needed)} or increase spacing"
        )
    remarks = Remarks()
    remarks.add(SUBJECT, volume, result.background)
    tissue = np.flatnonzero(slices.cut(volume.label, grid.axis).any(axis=(1, 2)))
    slabs = split_slabs(int(tissue[0]), int(tissue[-1]) + 1, settings["fractions"], settings["gap"])
    form = Form("segmentation", CLASSES, 1, grid.size, "float32", demonstration=True)
    with writing(output, form) as writer:
        inventory = Inventory(CLASSES, grid)
        pair = Pair(SUBJECT, SUBJECT, SUBJECT, Path(SUBJECT), Path(SUBJECT))
        inventory.add_volume(pair, volume, LabelMap(None, CLASSES), result)
        voxels = class_counts(slices.cut(volume.label, grid.axis), len(CLASSES))
        pixels = class_counts(result.masks, len(CLASSES))  # cropping removes none
        for split, places in slabs:
            kept = pixels[places].sum(axis=0)
            counts = ClassCounts(voxels[places].sum(axis=0), kept, kept)
            inventory.add_classes(split, SUBJECT, counts, len(places))
            rows = [
                Sample(SUBJECT, SUBJECT, slice=place, pixel_ml=result.pixel_ml) for place in places
            ]
            writer.append(split, result.images[places, None], result.masks[places], rows)
        inventory.finish(writer.preparation)
        writer.preparation.warnings += remarks.warnings()
        left_out = len(result.masks) - sum(len(places) for _, places in slabs)
        writer.preparation.left_out.append(
            f"{left_out} slices without tissue or in the gaps of {settings['gap']} slices between"
            " the splits"
        )


def template() -> Volume:
    """Return the template at 1 mm with class numbers (uint8) as its label.

    A voxel's class is the most probable of background (1 - grey - white), grey matter and white
    matter; ties go to the first.

    Raises:
        UserError: a file of the package is damaged.
    """
    from nilearn import datasets  # slow to import, and only this source needs it

    for name in ("MNI152_FILE_PATH", "GM_MNI152_FILE_PATH", "WM_MNI152_FILE_PATH"):
        gzip_streams.check(Path(getattr(datasets, name)))
    image = datasets.load_mni152_template(resolution=RESOLUTION)
    grey = np.asarray(datasets.load_mni152_gm_template(resolution=RESOLUTION).dataobj)
    white = np.asarray(datasets.load_mni152_wm_template(resolution=RESOLUTION).dataobj)
    mask = np.zeros(grey.shape, dtype=np.uint8)
    background = 1 - grey - white
    mask[grey > background] = 1
    mask[(white > background) & (white > grey)] = 2
    voxels = np.asarray(image.dataobj).astype(np.float32)
    spacing = float(RESOLUTION)
    return Volume(voxels, mask, (spacing, spacing, spacing))


def split_slabs(
    start: int, stop: int, fractions: dict[str, float], gap: int
) -> list[tuple[str, list[int]]]:
    """Divide slices ``start`` to ``stop`` (excluded) into slabs: train, val, test, train.

    Half of train is at either end, so that val and test show anatomy between trained slices.

    Args:
        start: first slice.
        stop: one past the last slice.
        fractions: of the slices outside the gaps.
        gap: slices left out between neighbouring slabs.

    Raises:
        UserError: there are too few slices.
    """
    number = splits.counts(stop - start - 3 * gap, fractions, "slices outside the gaps")
    if number["train"] < 2:
        raise UserError(f"{stop - start} slices are too few for gaps of {gap}; decrease gap")
    first = number["train"] // 2
    slabs = []
    for split, length in (
        ("train", first),
        ("val", number["val"]),
        ("test", number["test"]),
        ("train", number["train"] - first),
    ):
        slabs.append((split, list(range(start, start + length))))
        start += length + gap
    return slabs
