"""Print the cost of one evaluate job as JSON: CPU and wall seconds of the whole process.

Uses two targets of realistic size: 10,000 images in 10 classes, and 52 subjects with 50 slices in 3
classes. Each is one of 44 targets in its predictions file. Runs alternate with runs in which
pyarrow may import pandas. The median of the paired differences is the time saved by blocking
pandas.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "workflow" / "scripts" / "evaluate_target.py"
TARGETS = ["baseline", *(f"layer-{i}" for i in range(43))]
LIMIT = 0.5  # CPU seconds per job
# Runs the program as a module, which skips its main block and so does not block pandas.
WITH_PANDAS = "from evaluate_target import *; command_line.run(evaluate_target)"


def write_predictions(path: Path, columns: dict[str, list[np.ndarray]]) -> None:
    """Write one row group per target; ``columns`` holds an array per target."""
    about = {name: {"status": "ok", "live_weights": 9, "total_weights": 9} for name in TARGETS}
    names = [name for name in columns if name != "target"]
    fields = [("target", pa.dictionary(pa.int32(), pa.string()))]
    fields += [(name, pa.array(columns[name][0]).type) for name in names]
    schema = pa.schema(fields, {b"nontrivial": json.dumps({"targets": about, "provenance": {}})})
    with pq.ParquetWriter(path, schema) as writer:
        for i, target in enumerate(TARGETS):
            arrays = [pa.array(columns[name][i]) for name in names]
            labels = pa.array([target] * len(arrays[0])).dictionary_encode()
            writer.write_table(pa.table([labels, *arrays], schema=schema))


def write_samples(path: Path, columns: dict[str, object]) -> None:
    """Write a table of samples; columns that are not given are null."""
    n = len(columns["sample"])
    types = {"subject": pa.string(), "label": pa.int64(), "pixel_ml": pa.float64()}
    empty = {name: pa.nulls(n, kind) for name, kind in types.items()}
    pq.write_table(pa.table({**empty, **columns}), path)


def write_dataset(path: Path, task: str, classes: list[str]) -> None:
    path.write_text(
        json.dumps(
            {
                "task": task,
                "classes": classes,
                "channels": 1,
                "size": [32, 32],
                "dtype": "uint8",
                "normalization": {"mean": [0.0], "std": [1.0]},
                "counts": {"train": 0, "val": 0, "test": 0},
                "sha256": {},
                "demonstration": False,
            }
        )
    )


def classification(folder: Path) -> None:
    n, generator = 10_000, np.random.default_rng(0)
    labels = generator.integers(0, 10, n)
    samples = np.arange(n, dtype=np.int32)
    guesses = [
        np.where(generator.random(n) < 0.1, generator.integers(0, 10, n), labels).astype(np.int16)
        for _ in TARGETS
    ]
    floats = [-generator.random(n).astype(np.float32) for _ in TARGETS]
    write_predictions(
        folder / "predictions.parquet",
        {
            "sample": [samples] * len(TARGETS),
            "predicted": guesses,
            "margin": floats,
            "log_prob": floats,
        },
    )
    write_samples(folder / "samples.parquet", {"sample": samples, "label": labels})
    write_dataset(folder / "dataset.json", "classification", [f"c{i}" for i in range(10)])


def segmentation(folder: Path) -> None:
    subjects, slices, classes, generator = 52, 50, 3, np.random.default_rng(0)
    n = subjects * slices
    rows = n * classes
    samples = np.arange(n, dtype=np.int32)
    truth = generator.integers(1, 200, rows)
    tp = [generator.integers(0, truth + 1) for _ in TARGETS]
    counts = {
        "tp": [hits.astype(np.int32) for hits in tp],
        "fp": [generator.integers(0, 40, rows).astype(np.int32) for _ in TARGETS],
        "fn": [(truth - hits).astype(np.int32) for hits in tp],
    }
    write_predictions(
        folder / "predictions.parquet",
        {
            "sample": [np.repeat(samples, classes)] * len(TARGETS),
            "class": [np.tile(np.arange(classes, dtype=np.int32), n)] * len(TARGETS),
            **counts,
        },
    )
    names = [f"subject-{i // slices:03d}" for i in range(n)]
    volumes = np.full(n, 0.001)
    write_samples(
        folder / "samples.parquet", {"sample": samples, "subject": names, "pixel_ml": volumes}
    )
    write_dataset(folder / "dataset.json", "segmentation", ["background", "front", "back"])


def measure(folder: Path, *, pandas: bool = False) -> dict[str, float]:
    """Run the program once and return its own CPU and wall seconds."""
    settings = {
        "experiment": "e",
        "training": "t",
        "dataset": "d",
        "network": "resnet34",
        "stem": "torchvision",
        "seeds": [0],
        "split": "test",
        "intervention": "zero",
        "parameters": {},
        "target": "layer-20",
        "kind": "layer",
        "reading": None,
        "kernels": ["layer-20"],
        "order": 20,
        "role": "residual",
        "block": 2,
        "margin": 0.01,
    }
    command = [sys.executable, *(["-c", WITH_PANDAS] if pandas else [PROGRAM])]
    command += ["--settings", json.dumps(settings)]
    command += ["--predictions", folder / "predictions.parquet", "--stored-as", "layer-20"]
    command += ["--baseline", folder / "predictions.parquet"]
    command += ["--samples", folder / "samples.parquet", "--dataset", folder / "dataset.json"]
    command += ["--output", folder / "target.parquet"]
    # Snakemake starts a job with one thread like this.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(PROGRAM.parent)
    before, start = os.times(), time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return {"cpu_seconds": cpu, "wall_seconds": wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="number of pairs of runs; medians are printed"
    )
    runs = parser.parse_args().runs
    figures: dict[str, object] = {"limit_cpu_seconds": LIMIT, "runs": runs}
    for name, write in (("classification", classification), ("segmentation", segmentation)):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            measure(Path(folder))  # fills the caches of code and files
            pairs = [
                (measure(Path(folder)), measure(Path(folder), pandas=True)) for _ in range(runs)
            ]
        figures[name] = {
            **{key: round(median(one[key] for one, _ in pairs), 3) for key in pairs[0][0]},
            "cpu_seconds_of_pandas": round(
                median(other["cpu_seconds"] - one["cpu_seconds"] for one, other in pairs), 3
            ),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
