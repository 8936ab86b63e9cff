"""The table of samples: what each row of a split's arrays is (``samples.parquet``)."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import checked_parquet

SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),  # row number in images.npy and labels.npy
        ("subject", pa.string()),  # null where the data set does not know
        ("source", pa.string()),  # file (and row) of the raw data
        ("slice", pa.int32()),  # number along the slicing axis, null for pictures
        ("label", pa.int64()),  # class number, null for segmentation
    ]
)


@dataclass(frozen=True)
class Sample:
    """One row, less its number."""

    source: str
    subject: str | None = None
    slice: int | None = None
    label: int | None = None


def write(path: Path, rows: list[Sample]) -> None:
    """Write the table of a split; sample numbers follow the order of ``rows``."""
    table = pa.table(
        {
            "sample": list(range(len(rows))),
            "subject": [row.subject for row in rows],
            "source": [row.source for row in rows],
            "slice": [row.slice for row in rows],
            "label": [row.label for row in rows],
        },
        schema=SCHEMA,
    )
    with replacing(path) as temporary:
        checked_parquet.write(table, temporary)


def read(path: Path) -> pa.Table:
    """Read a table of samples.

    Raises:
        UserError: the file is missing, cut short or has other columns.
    """
    try:
        table = checked_parquet.read(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({reason}); prepare the data again") from error
    if not table.schema.equals(SCHEMA):
        raise UserError(
            f"{path}: columns {table.column_names} are not those of a table of samples; "
            "prepare the data again"
        )
    return table
