"""Small real files of predictions, samples and data set descriptions, for tests."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SETTINGS = {
    "experiment": "paper",
    "training": "cifar10-resnet34",
    "dataset": "cifar10",
    "network": "resnet34",
    "stem": "torchvision",
    "seeds": [0],
    "split": "test",
    "intervention": "zero",
    "parameters": {},
    "target": "layer-layer1.0.conv1",
    "kind": "layer",
    "reading": None,
    "kernels": ["layer1.0.conv1"],
    "order": 1,
    "role": "residual",
    "block": 1,
    "margin": 0.01,
}
BASELINE = {
    **SETTINGS,
    "target": "baseline",
    "kind": "baseline",
    "kernels": [],
    "order": None,
    "role": None,
    "block": None,
}


def write_predictions(path: Path, targets: dict[str, dict], status: dict | None = None) -> Path:
    """Write one row group per target, columns as given (arrays by name)."""
    about = {
        name: {"status": (status or {}).get(name, "ok"), "live_weights": 7, "total_weights": 9}
        for name in targets
    }
    first = next(iter(targets.values()))
    fields = [pa.field("target", pa.dictionary(pa.int32(), pa.string()))]
    fields += [pa.field(name, pa.array(values).type) for name, values in first.items()]
    metadata = {b"nontrivial": json.dumps({"targets": about, "provenance": {"seconds": 1.0}})}
    schema = pa.schema(fields, metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for name, columns in targets.items():
            arrays = [pa.array(values) for values in columns.values()]
            labels = pa.array([name] * len(arrays[0])).dictionary_encode()
            writer.write_table(pa.table([labels, *arrays], schema=schema))
    return path


def write_dataset(path: Path, task: str, classes: list[str], demonstration: bool = False) -> Path:
    content = {
        "task": task,
        "classes": classes,
        "channels": 1,
        "size": [32, 32],
        "dtype": "uint8",
        "normalization": {"mean": [0.0], "std": [1.0]},
        "counts": {"train": 1, "val": 1, "test": 1},
        "sha256": {},
        "demonstration": demonstration,
    }
    path.write_text(json.dumps(content))
    return path


def write_samples(
    path: Path,
    labels: list | None = None,
    subjects: list | None = None,
    pixel_ml: float | None = None,
) -> Path:
    n = len(labels if labels is not None else subjects)
    table = pa.table(
        {
            "sample": pa.array(range(n), pa.int32()),
            "subject": pa.array(subjects or [None] * n, pa.string()),
            "source": pa.array([f"file{i}" for i in range(n)]),
            "slice": pa.array(range(n) if subjects else [None] * n, pa.int32()),
            "label": pa.array([None] * n if labels is None else labels, pa.int64()),
            "pixel_ml": pa.array([pixel_ml] * n, pa.float64()),
        }
    )
    pq.write_table(table, path)
    return path


def guesses(predicted: list[int] | np.ndarray) -> dict:
    """Columns of a classification target; the certainty plays no part in most tests."""
    n = len(predicted)
    return {
        "sample": np.arange(n, dtype=np.int32),
        "predicted": np.asarray(predicted, dtype=np.int16),
        "margin": np.ones(n, dtype=np.float32),
        "log_prob": np.full(n, -0.5, dtype=np.float32),
    }


def pixel_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict:
    """Columns of a segmentation target from counts (N, K), background first."""
    n, classes = np.shape(tp)
    return {
        "sample": np.repeat(np.arange(n, dtype=np.int32), classes),
        "class": np.tile(np.arange(classes, dtype=np.int32), n),
        "tp": np.asarray(tp, dtype=np.int32).ravel(),
        "fp": np.asarray(fp, dtype=np.int32).ravel(),
        "fn": np.asarray(fn, dtype=np.int32).ravel(),
    }
