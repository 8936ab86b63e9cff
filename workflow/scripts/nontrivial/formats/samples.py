"""``samples.parquet``: what each row of a split's arrays is."""

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
        ("sample", pa.int32()),  # row number in images.npy and labels.npy
        ("subject", pa.string()),  # null where the data set has no subjects
        ("source", pa.string()),  # file (and row) of the raw data
        ("slice", pa.int32()),  # number along the slicing axis, null for pictures
        ("label", pa.int64()),  # class number, null for segmentation
        ("pixel_ml", pa.float64()),  # volume of a pixel in ml, null where it is not known
    ]
)


@dataclass(frozen=True)
class Sample:
    """One row without its number."""

    source: str
    subject: str | None = None
    slice: int | None = None
    label: int | None = None
    pixel_ml: float | None = None


def write(path: Path, rows: list[Sample]) -> None:
    """Write the table of a split; sample numbers follow the order of ``rows``."""
    table = pa.table(
        {
            "sample": list(range(len(rows))),
            "subject": [row.subject for row in rows],
            "source": [row.source for row in rows],
            "slice": [row.slice for row in rows],
            "label": [row.label for row in rows],
            "pixel_ml": [row.pixel_ml for row in rows],
        },
        schema=SCHEMA,
    )
    with replacing(path) as temporary:
        parquet.write(table, temporary)


def read(path: Path) -> pa.Table:
    """Read the whole table.

    Raises:
        UserError: the file cannot be read or has other columns.
    """
    return parquet.read(path, SCHEMA)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read ``sample`` and the named columns, each (samples,).

    Raises:
        UserError: the file cannot be read, a column has nulls, or the samples are not numbered
            0, 1, 2, ...
    """
    table = parquet.read(path, parquet.select(SCHEMA, ["sample", *names]))
    columns = parquet.as_arrays(table, path)
    if not np.array_equal(columns["sample"], np.arange(table.num_rows)):
        raise UserError(f"{path}: samples are not numbered from 0; {parquet.REMEDY}")
    return columns
