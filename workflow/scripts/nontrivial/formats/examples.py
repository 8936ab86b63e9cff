"""``examples.parquet``: slices of a segmentation with the truth and predictions, to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import parquet

SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),  # row in the split's arrays
        ("subject", pa.string()),
        ("slice", pa.int32()),
        ("target", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("image", pa.binary()),  # uint8 (height, width), 0 to 255 over the slice
        ("truth", pa.binary()),  # uint8 (height, width), class numbers
        ("predicted", pa.binary()),  # uint8 (height, width), class numbers
    ]
)
MAPS = ("image", "truth", "predicted")


@dataclass(frozen=True)
class Example:
    """One slice under one target; image and maps are uint8 (H, W)."""

    sample: int
    subject: str
    slice: int
    target: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def write(path: Path, examples: Sequence[Example]) -> None:
    """Write the table atomically."""
    rows = []
    for example in examples:
        height, width = example.truth.shape
        row = {**vars(example), "height": height, "width": width}
        row |= {name: row[name].astype(np.uint8).tobytes() for name in MAPS}
        rows.append(row)
    with replacing(path) as temporary:
        parquet.write(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)


def read(path: Path, classes: int) -> list[Example]:
    """Read all examples.

    Args:
        path: the file.
        classes: number of classes of the data set.

    Raises:
        UserError: the file cannot be read, is empty, has nulls, or has a map of another size
            or a class number out of range.
    """
    rows = parquet.read(path, SCHEMA).to_pylist()
    if not rows:
        raise UserError(f"{path}: no slice; {parquet.REMEDY}")
    return [_example(row, classes, f"{path}: row {number}") for number, row in enumerate(rows)]


def _example(row: dict, classes: int, where: str) -> Example:
    if None in row.values():
        raise UserError(f"{where} has empty fields; {parquet.REMEDY}")
    height, width = row.pop("height"), row.pop("width")
    for name in MAPS:
        if min(height, width) < 1 or len(row[name]) != height * width:
            raise UserError(
                f"{where}: {name} has {len(row[name])} pixels instead of {height} x {width}; "
                f"{parquet.REMEDY}"
            )
        row[name] = np.frombuffer(row[name], dtype=np.uint8).reshape(height, width)
    if max(row["truth"].max(), row["predicted"].max()) >= classes:
        raise UserError(
            f"{where} has a class beyond the {classes} of dataset.json; {parquet.REMEDY}"
        )
    return Example(**row)
