"""The file of a batch's predictions: written target by target, a row group each."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nontrivial.formats import checked_parquet
from nontrivial.formats.canonical import canonical

METADATA = "nontrivial"  # key in the metadata of the Parquet schema
REPORT = "nontrivial.report"  # key in the metadata of the Parquet file
CONTENT = "nontrivial.content"  # likewise, of the content digest

_TARGET = pa.dictionary(pa.int32(), pa.string())
_SCHEMAS = {
    "classification": pa.schema(
        [
            ("sample", pa.int32()),
            ("target", _TARGET),
            ("predicted", pa.int16()),
            ("margin", pa.float32()),
            ("log_prob", pa.float32()),
        ]
    ),
    "segmentation": pa.schema(
        [
            ("sample", pa.int32()),
            ("target", _TARGET),
            ("class", pa.int32()),
            ("tp", pa.int32()),
            ("fp", pa.int32()),
            ("fn", pa.int32()),
        ]
    ),
}


@dataclass(frozen=True)
class About:
    """What is known of a target beside its predictions.

    Attributes:
        status: ``ok``, ``cut`` or ``no_effect``.
        live_weights: weights of its kernels that can meet data at this input size.
        total_weights: all weights of its kernels.
    """

    status: str
    live_weights: int
    total_weights: int


class PredictionsWriter:
    """Writes predictions target by target, so that memory holds one target's.

    The schema's metadata hold ``targets`` (what is known of each, in the order of writing)
    and ``provenance``; the file's own hold a report of what the job cost, known last. The
    content digest covers columns, targets and their order, and neither provenance nor report:
    equal predictions have equal digests on every machine.
    """

    def __init__(self, path: Path, task: str, targets: dict[str, About], provenance: dict):
        """Open the file.

        Args:
            path: where to write; a temporary name of the caller's.
            task: ``classification`` or ``segmentation``.
            targets: what is known of each target, by name, in the order of writing.
            provenance: how and where the predictions come about, plain JSON values.
        """
        about = {name: asdict(target) for name, target in targets.items()}
        text = json.dumps({"targets": about, "provenance": provenance})
        self._schema = _SCHEMAS[task]
        self._writer = checked_parquet.Writer(
            path, self._schema.with_metadata({METADATA: text}), compression="zstd"
        )
        self._content = hashlib.sha256(
            canonical([self._schema.to_string(), list(about.items())]).encode()
        )

    def write(self, name: str, columns: dict[str, np.ndarray]) -> None:
        """Append a target's predictions as one row group.

        Args:
            name: the target's.
            columns: each (N,) or, in segmentation, (N, K); row n is sample n.
        """
        table = _table(self._schema, name, columns)
        self._writer.write_table(table)
        self._content.update(canonical([name, table.num_rows]).encode())
        for field in self._schema:
            if field.name != "target":
                self._content.update(table.column(field.name).to_numpy())

    def close(self, report: dict) -> str:
        """Close the file and return the content digest.

        Args:
            report: what the job cost, plain JSON values.
        """
        content = self._content.hexdigest()
        self._writer.close({REPORT: json.dumps(report), CONTENT: content})
        return content


def read_identity(path: Path) -> tuple[str, str] | None:
    """Return the identity in a file's provenance and the content digest; None if not whole."""
    try:
        with checked_parquet.opened(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)  # verifies its pages
            about = json.loads(file.schema_arrow.metadata[METADATA.encode()])
            content = file.metadata.metadata[CONTENT.encode()].decode()
        return about["provenance"]["identity"], content
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


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
    return pa.table(values, schema=schema)
