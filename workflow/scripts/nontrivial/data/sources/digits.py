"""Prepare the handwritten digits that scikit-learn ships, a real data set without a download."""

from pathlib import Path

import numpy as np
from PIL import Image

from nontrivial.data import splits
from nontrivial.data.prepared_writer import Form, writing
from nontrivial.formats.samples import Sample

KEYS = frozenset({"fractions", "split_seed"})
SIZE = (32, 32)  # pixels; the originals are 8 x 8
WHITE = 16  # largest value in the originals
CLASSES = [str(digit) for digit in range(10)]
FORM = Form("classification", CLASSES, channels=3, size=SIZE, dtype="uint8")


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare the 1,797 digits: enlarged to 32 x 32 bilinearly, three equal channels.

    Args:
        settings: ``fractions`` of every class and ``split_seed``.
        data_dir: not read.
        output: folder of the prepared data.

    Raises:
        UserError: the fractions would leave a split empty.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    split_of = np.array(
        splits.by_class(
            labels.tolist(), settings["fractions"], len(CLASSES), settings["split_seed"]
        )
    )
    with writing(output, FORM) as writer:
        for split in writer.rows:
            rows = np.flatnonzero(split_of == split)
            images = np.stack([enlarged(digits.images[row]) for row in rows])
            table = [Sample(source=f"digits:{row}", label=int(labels[row])) for row in rows]
            writer.append(split, images, labels[rows], table)


def enlarged(image: np.ndarray) -> np.ndarray:
    """Return an 8 x 8 image with values from 0 to 16 as uint8 (3, 32, 32)."""
    levels = np.rint(image * (255 / WHITE)).astype(np.uint8)
    width_height = (SIZE[1], SIZE[0])
    large = np.asarray(Image.fromarray(levels).resize(width_height, Image.Resampling.BILINEAR))
    return np.broadcast_to(large, (3, *SIZE))
