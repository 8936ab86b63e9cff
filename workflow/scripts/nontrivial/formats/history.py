"""The table ``training.parquet``: a row per epoch, and what the training was made from."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from nontrivial.execution.atomic import replacing
from nontrivial.formats import checked_parquet
from nontrivial.training.loop import Epoch

IDENTITY = b"nontrivial.identity"  # key in the metadata of the Parquet schema

SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("learning_rate", pa.float64()),
        ("loss", pa.float64()),
        ("metric", pa.string()),
        ("val", pa.float64()),
        ("test", pa.float64()),
        ("seconds", pa.float64()),
        ("samples_per_second", pa.float64()),
        ("device", pa.string()),
        ("threads", pa.int32()),
        ("precision", pa.string()),
        ("versions", pa.string()),
        ("resumed", pa.int32()),
    ]
)


def write_history(
    path: Path,
    epochs: Sequence[Epoch],
    *,
    metric: str,
    test: float,
    threads: int,
    precision: str,
    identity: str,
) -> None:
    """Write the table in one step; ``test`` stands in the last row only.

    ``identity``, a digest of everything that decides the weights, goes into the metadata.
    """
    about = {
        "metric": metric,
        "threads": threads,
        "precision": precision,
    }
    rows = [
        {**about, **asdict(epoch), "test": test if epoch is epochs[-1] else None}
        for epoch in epochs
    ]
    schema = SCHEMA.with_metadata({IDENTITY: identity})
    with replacing(path) as temporary:
        checked_parquet.write(pa.Table.from_pylist(rows, schema), temporary)


def read_identity(path: Path) -> str | None:
    """Return the identity in a table's metadata; None without a table that is whole."""
    try:
        metadata = checked_parquet.read(path).schema.metadata or {}
    except (OSError, pa.ArrowException):
        return None
    return metadata.get(IDENTITY, b"").decode() or None
