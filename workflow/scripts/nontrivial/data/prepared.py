"""Read the arrays of a prepared data set, memory-mapped.

A prepared data set is ``<folder>/{train,val,test}/{images.npy,labels.npy,samples.parquet}`` and
``<folder>/dataset.json``. Images are NCHW, uint8 or float32; labels are int64 (N,) for
classification and uint8 (N, H, W) for segmentation.
"""

from pathlib import Path

import numpy as np

from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.dataset import SPLITS, Description


def open_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of one split, memory-mapped and read-only.

    Raises:
        UserError: an array is missing or truncated.
    """
    arrays = []
    for name in ("images", "labels"):
        path = Path(folder) / split / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("a zip file")  # numpy reads it as an archive of arrays
            arrays.append(array)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{path}: not a readable array ({error}); delete it and prepare the data set again"
            ) from error
    return arrays[0], arrays[1]


def open_checked(
    folder: Path, split: str, description: Description
) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of a split, memory-mapped and read-only.

    Raises:
        UserError: the split is unknown, empty or unreadable, or its shape or content is not what
            ``dataset.json`` says.
    """
    if split not in SPLITS:
        raise UserError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    images, labels = open_split(folder, split)
    count = description.counts[split]
    if count == 0:
        raise UserError(
            f"{folder}: the {split} split is empty; choose another split or other fractions"
        )
    image_shape = (count, description.channels, *description.size)
    label_shape = (count, *description.size) if description.task == "segmentation" else (count,)
    if images.shape != image_shape or labels.shape != label_shape:
        raise UserError(
            f"{folder}: the {split} split has images {images.shape} and labels {labels.shape}, but"
            f" dataset.json says {image_shape} and {label_shape}; delete the folder and prepare the"
            " data set again"
        )
    for name in ("images", "labels"):
        path = Path(folder) / split / f"{name}.npy"
        expected = description.sha256.get(f"{split}/{name}.npy")
        # Hashing is cheap beside the passes over the data that follow.
        if expected is not None and expected != file_digest(path):
            raise UserError(
                f"{path}: damaged (its sha256 is not that in dataset.json); delete it and prepare"
                " the data set again"
            )
    return images, labels
