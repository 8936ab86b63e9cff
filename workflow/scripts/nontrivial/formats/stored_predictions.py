"""One target of a file of predictions, read without the others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nontrivial.errors import UserError
from nontrivial.formats.parquet_columns import TEXT, as_arrays, opened

METADATA = b"nontrivial"  # key in the Parquet schema's metadata
STATUSES = ("ok", "cut", "no_effect")


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


def read_target(path: Path, target: str, columns: Mapping[str, str]) -> StoredTarget:
    """Read one target's row group; the others' rows are not touched.

    Args:
        path: the file.
        target: its name.
        columns: what each column must hold, by name (``parquet_columns.INTEGER`` and the like).

    Raises:
        UserError: the file cannot be read, lacks a column, one holds something else, or it does
            not hold the target.
    """
    with opened(path, {"target": TEXT, **columns}) as file:
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
        about = targets.get(target)
        if about is not None and not _is_description(about):
            raise ValueError(f"{target}: {about}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: no description of its targets; delete the file and run again"
        ) from error
    if about is None:
        raise UserError(
            f"{path}: does not hold target {target} (it holds {', '.join(targets)}); "
            "delete the file and run again"
        )
    return about


def _is_description(about: dict) -> bool:
    weights = about["live_weights"], about["total_weights"]
    are_counts = all(type(number) is int for number in weights)
    return about["status"] in STATUSES and are_counts and 0 <= weights[0] <= weights[1]


def _holds(file: pq.ParquetFile, group: int, column: int, target: str) -> bool:
    """Tell whether a row group is the target's, by its statistics where there are any."""
    statistics = file.metadata.row_group(group).column(column).statistics
    if statistics is not None and statistics.has_min_max:
        return statistics.min == target == statistics.max
    names = file.read_row_group(group, columns=["target"]).column("target").unique()
    return names.to_pylist() == [target]
