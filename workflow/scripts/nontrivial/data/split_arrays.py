"""The arrays of a split, checked against the description of the data."""

from pathlib import Path

import numpy as np

from nontrivial.data.prepared import SPLITS, Description, open_split
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest


def open_checked(
    folder: Path, split: str, description: Description
) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of a split, memory-mapped and read-only.

    Raises:
        UserError: the split is unknown, empty, cannot be read, or is not as described (each byte).
    """
    if split not in SPLITS:
        raise UserError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    images, labels = open_split(folder, split)
    count = description.counts[split]
    if count == 0:
        raise UserError(f"{folder}: split {split} is empty; choose another split or fractions")
    wanted = (count, description.channels, *description.size)
    answers = (count, *description.size) if description.task == "segmentation" else (count,)
    if images.shape != wanted or labels.shape != answers:
        raise UserError(
            f"{folder}: {split} holds images {images.shape} and labels {labels.shape}, but"
            f" dataset.json says {wanted} and {answers}; delete the folder and prepare again"
        )
    for name in ("images", "labels"):
        path = Path(folder) / split / f"{name}.npy"
        said = description.sha256.get(f"{split}/{name}.npy")
        # The program is about to go through all of it, which takes far longer.
        if said is not None and said != file_digest(path):
            raise UserError(
                f"{path}: damaged (not what dataset.json says); delete it and prepare again"
            )
    return images, labels
