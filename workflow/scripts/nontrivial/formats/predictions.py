"""``predictions/<batch>.parquet``: what the network predicts, a row group per target."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.errors import UserError
from nontrivial.formats import parquet
from nontrivial.formats.canonical import canonical
from nontrivial.formats.summary import STATUSES, WITHOUT_VALUE

METADATA = "nontrivial"  # key in the metadata of the Parquet schema
REPORT = "nontrivial.report"  # key in the metadata of the Parquet file

_TARGET = [
    ("sample", pa.int32()),
    ("target", pa.dictionary(pa.int32(), pa.string())),
    ("draw", pa.int16()),  # of a random intervention; null for zeroing
    ("part", pa.string()),  # level or channel inside a target; null for zeroing
]
SCHEMAS = {
    "classification": pa.schema(
        [
            *_TARGET,
            ("predicted", pa.int16()),
            ("margin", pa.float32()),  # largest minus second largest logit
            ("log_prob", pa.float32()),  # of the true class, in nats
            ("kl", pa.float32()),  # divergence from the baseline; not computed yet, null
        ]
    ),
    "segmentation": pa.schema(
        [
            *_TARGET,
            ("class", pa.int32()),
            ("tp", pa.int32()),  # pixels
            ("fp", pa.int32()),
            ("fn", pa.int32()),
            ("changed", pa.int32()),  # pixels unlike the baseline's; not computed yet, null
        ]
    ),
}


@dataclass(frozen=True)
class TargetProperties:
    """A target's properties beside its predictions.

    Attributes:
        status: ``ok``, ``cut`` (the output cannot depend on the input), ``no_effect``,
            ``undefined`` (the intervention cannot be done there) or ``not_finite``. The last two
            have no predictions.
        live_weights: weights of its kernels that can meet data at this input size.
        total_weights: all weights of its kernels.
    """

    status: str
    live_weights: int
    total_weights: int


class PredictionsWriter:
    """Writes predictions target by target, so that only one target's are in memory.

    The schema's metadata hold ``targets`` (:class:`TargetProperties` of each, in the order of
    writing) and ``provenance``. The file's metadata hold a report of what the job cost, known
    last. The content digest covers columns, targets and their order but not provenance and
    report: equal predictions have equal digests on every host.
    """

    def __init__(
        self, path: Path, task: str, targets: dict[str, TargetProperties], provenance: dict
    ):
        """Open the file.

        Args:
            path: file to write, usually a temporary one.
            task: ``classification`` or ``segmentation``.
            targets: properties of each target by name, in the order of writing.
            provenance: device, versions and the like, plain JSON values.
        """
        properties = {name: asdict(target) for name, target in targets.items()}
        text = json.dumps({"targets": properties, "provenance": provenance})
        self._schema = SCHEMAS[task]
        self._writer = parquet.Writer(
            path, self._schema.with_metadata({METADATA: text}), compression="zstd"
        )
        self._content = hashlib.sha256(
            canonical([self._schema.to_string(), list(properties.items())]).encode()
        )

    def write(self, name: str, columns: dict[str, np.ndarray]) -> None:
        """Append a target's predictions as one row group.

        Args:
            name: the target.
            columns: each (N,) or, in segmentation, (N, K); row n is sample n. A column of the
                schema that is not given is null.
        """
        table = _table(self._schema, name, columns)
        self._writer.write_table(table)
        self._content.update(canonical([name, table.num_rows]).encode())
        for field in self._schema:
            column = table.column(field.name)
            if field.name != "target" and not column.null_count:
                self._content.update(column.to_numpy())

    def close(self, report: dict) -> str:
        """Close the file and return the content digest.

        Args:
            report: what the job cost, plain JSON values.
        """
        content = self._content.hexdigest()
        self._writer.close({REPORT: json.dumps(report)})
        return content


def read_target(
    path: Path, target: str, task: str, columns: Sequence[str]
) -> tuple[TargetProperties, dict[str, np.ndarray] | None]:
    """Read one target's row group and no other.

    Args:
        path: the file.
        target: name.
        task: ``classification`` or ``segmentation``.
        columns: names of columns without nulls.

    Returns:
        The target's properties and the columns, each (rows,); None in place of the columns where
        the target's status says that it has no predictions.

    Raises:
        UserError: the file cannot be read, does not hold the target, or a column is missing,
            of another type or has nulls.
    """
    schema = parquet.select(SCHEMAS[task], columns)
    with parquet.opened(path) as file:
        parquet.require_columns(file, ["target", *columns], path)
        properties = _properties(file, target, path)
        if properties.status in WITHOUT_VALUE:
            return properties, None
        index = file.schema_arrow.names.index("target")
        groups = [i for i in range(file.num_row_groups) if _holds(file, i, index, target)]
        table = file.read_row_groups(groups, columns=schema.names)
    if not table.num_rows:
        raise UserError(f"{path}: no rows for target {target}; {parquet.REMEDY}")
    return properties, parquet.as_arrays(parquet.conform(table, schema, path), path)


def _table(schema: pa.Schema, name: str, columns: dict[str, np.ndarray]) -> pa.Table:
    shape = next(iter(columns.values())).shape
    places = np.indices(shape, dtype=np.int32)  # sample and, in segmentation, class
    rows = places[0].size
    values = {
        "sample": places[0].ravel(),
        # One name in its dictionary, so that the row group's statistics are that name.
        "target": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [name]),
        **{column: value.ravel() for column, value in columns.items()},
    }
    if len(shape) == 2:
        values["class"] = places[1].ravel()
    for field in schema:
        values.setdefault(field.name, pa.nulls(rows, field.type))
    return pa.table(values, schema=schema)


def _properties(file: pq.ParquetFile, target: str, path: Path) -> TargetProperties:
    try:
        targets = json.loads(file.schema_arrow.metadata[METADATA.encode()])["targets"]
        properties = targets.get(target)
        if properties is not None and not _is_valid(properties):
            raise ValueError(f"{target}: {properties}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: no description of its targets; {parquet.REMEDY}") from error
    if properties is None:
        raise UserError(
            f"{path}: does not contain target {target} (it contains {', '.join(targets)}); "
            f"{parquet.REMEDY}"
        )
    return TargetProperties(
        properties["status"], properties["live_weights"], properties["total_weights"]
    )


def _is_valid(properties: dict) -> bool:
    weights = properties["live_weights"], properties["total_weights"]
    are_counts = all(type(number) is int for number in weights)
    return properties["status"] in STATUSES and are_counts and 0 <= weights[0] <= weights[1]


def _holds(file: pq.ParquetFile, group: int, column: int, target: str) -> bool:
    """Tell whether a row group is the target's, by its statistics where there are any."""
    statistics = file.metadata.row_group(group).column(column).statistics
    if statistics is not None and statistics.has_min_max:
        return statistics.min == target == statistics.max
    names = file.read_row_group(group, columns=["target"]).column("target").unique()
    return names.to_pylist() == [target]
