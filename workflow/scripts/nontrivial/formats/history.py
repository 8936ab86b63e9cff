"""``training.parquet``: a row per epoch of a training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import parquet

SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("learning_rate", pa.float64()),
        ("loss", pa.float64()),
        ("metric", pa.string()),  # accuracy, dice
        ("val", pa.float64()),
        ("test", pa.float64()),  # null except after the last epoch
        ("seconds", pa.float64()),
        ("samples_per_second", pa.float64()),
        ("device", pa.string()),
        ("threads", pa.int32()),
        ("precision", pa.string()),
        ("versions", pa.string()),  # canonical JSON
        ("resumed", pa.int32()),
    ]
)
CURVES = ("epoch", "loss", "metric", "val", "test")


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch.

    Attributes:
        epoch: number, from 1.
        learning_rate: at the last step.
        loss: mean over the steps.
        val: metric on the val split after the epoch.
        seconds: time of the training steps, without validation.
        samples_per_second: training samples per second of that time.
        device: name of the device on which the epoch ended.
        versions: canonical JSON of the library versions.
        resumed: how many times the training had resumed from a checkpoint.
    """

    epoch: int
    learning_rate: float
    loss: float
    val: float
    seconds: float
    samples_per_second: float
    device: str
    versions: str
    resumed: int


def write_history(
    path: Path,
    epochs: Sequence[Epoch],
    *,
    metric: str,
    test: float,
    threads: int,
    precision: str,
) -> None:
    """Write the table atomically.

    Args:
        path: file to write.
        epochs: all epochs of the training.
        metric: name of the metric in ``val`` and ``test``.
        test: metric on the test split after the last epoch.
        threads: CPU threads of the training.
        precision: ``fp32`` or ``bf16``.
    """
    about = {"metric": metric, "threads": threads, "precision": precision}
    rows = [
        {**about, **asdict(epoch), "test": test if epoch is epochs[-1] else None}
        for epoch in epochs
    ]
    with replacing(path) as temporary:
        parquet.write(pa.Table.from_pylist(rows, SCHEMA), temporary)


def read_curves(path: Path) -> dict[str, list]:
    """Return the columns :data:`CURVES`, a list per column.

    Raises:
        UserError: the file cannot be read, has no epoch, or has nulls (``test`` has its value
            in the last row only).
    """
    columns = parquet.read(path, parquet.select(SCHEMA, CURVES)).to_pydict()
    if not columns["epoch"]:
        raise UserError(f"{path}: the history has no epoch; {parquet.REMEDY}")
    for name, values in columns.items():
        if None in (values[-1:] if name == "test" else values):
            raise UserError(f"{path}: column {name} has empty fields; {parquet.REMEDY}")
    return columns
