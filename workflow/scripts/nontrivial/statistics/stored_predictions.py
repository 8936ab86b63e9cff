"""One target of a file of predictions, read without the others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nontrivial.errors import UserError
from nontrivial.statistics.parquet_columns import as_arrays, opened

METADATA = b"nontrivial"  # key in the Parquet schema's metadata


@dataclass(frozen=True)
class StoredTarget:
    """What the network predicted with one target zeroed.

    Attributes:
        status: ``ok``, ``cut`` (the output cannot depend on the input) or ``no_effect``.
        live_weights: weights of the target's kernels that can meet data at this input size.
        total_weights: all weights of the target's kernels.
        columns: the columns asked for, each (rows,).
    """

    status: str
    live_weights: int
    total_weights: int
    columns: dict[str, np.ndarray]


def read_target(path: Path, target: str, columns: Sequence[str]) -> StoredTarget:
    """Read one target's row group; the others' rows are not touched.

    Raises:
        UserError: the file cannot be read, lacks a column or does not hold the target.
    """
    with opened(path, ["target", *columns]) as file:
        about = _about(file, target, path)
        column = file.schema_arrow.names.index("target")
        groups = [i for i in range(file.num_row_groups) if _holds(file, i, column, target)]
        table = file.read_row_groups(groups, columns=list(columns))
        if not table.num_rows:
            raise UserError(f"{path}: no rows for target {target}; delete the file and run again")
        return StoredTarget(
            status=about["status"],
            live_weights=about["live_weights"],
            total_weights=about["total_weights"],
            columns=as_arrays(table, path),
        )


def _about(file: pq.ParquetFile, target: str, path: Path) -> dict:
    try:
        targets = json.loads(file.schema_arrow.metadata[METADATA])["targets"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no description of its targets; delete the file and run again"
        ) from error
    if target not in targets:
        raise UserError(
            f"{path}: does not hold target {target} (it holds {', '.join(targets)}); "
            "delete the file and run again"
        )
    return targets[target]


def _holds(file: pq.ParquetFile, group: int, column: int, target: str) -> bool:
    """Tell whether a row group is the target's, by its statistics where there are any."""
    statistics = file.metadata.row_group(group).column(column).statistics
    if statistics is not None and statistics.has_min_max:
        return statistics.min == target == statistics.max
    names = file.read_row_group(group, columns=["target"]).column("target").unique()
    return names.to_pylist() == [target]
