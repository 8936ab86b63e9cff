"""Time predict and evaluate of one trained ResNet34 through Snakemake, for each ``batch_by``.

Works on a clone of this repository in a temporary folder. Trains once, on CIFAR-10, for one
epoch (the time of what follows does not depend on the weights), and then runs the jobs of one
experiment from nothing to the last evaluated target. Beside the wall time stands that of the
replay alone, as the job that holds the whole network reports it: tracing, reading and
computing in one process, without starting Python. Prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("block", "target", "network")
FACTOR, EXTRA = 1.3, 15.0  # of the replay alone, and seconds, that `block` may take


def configuration(data_dir: Path, batch_by: str) -> dict:
    return {
        "data_dir": str(data_dir),
        "results_dir": "results",
        "batch_by": batch_by,
        "datasets": {"cifar10": {"source": "cifar10"}},
        "trainings": {
            "resnet34": {
                "dataset": "cifar10",
                "network": "resnet34",
                "recipe": {"epochs": 1, "precision": "bf16"},
            }
        },
        "experiments": {batch_by: {"training": "resnet34"}},
    }


def snakemake(clone: Path, config: dict, cores: int, *arguments: str) -> float:
    """Run the workflow of the clone and return the seconds it took; fail with its output."""
    path = clone / "benchmark.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", *arguments]
    command += ["--cores", str(cores), "--resources", "gpu=1", "--configfile", str(path)]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=clone,
        env={**os.environ, "PATH": tools},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def reports(predictions: Path) -> list[dict]:
    """Return what each prediction job says that it cost."""
    return [
        json.loads(pq.ParquetFile(path).metadata.metadata[b"nontrivial.report"])
        for path in sorted(predictions.glob("*.parquet"))
    ]


def measure(clone: Path, data_dir: Path, cores: int) -> dict[str, object]:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    snakemake(clone, configuration(data_dir, WAYS[0]), cores, "networks")
    rows = {}
    for way in WAYS:
        seconds = snakemake(
            clone, configuration(data_dir, way), cores, "all", "--until", "evaluate"
        )
        zero = clone / "results" / way / "seed0" / "zero"
        jobs = reports(zero / "predictions")
        rows[way] = {
            "seconds": round(seconds, 1),
            "predict_jobs": len(jobs),
            "evaluate_jobs": len(list((zero / "targets").glob("*.parquet"))),
            "replay_seconds": round(sum(job["seconds"] for job in jobs), 1),
        }
    alone = rows["network"]["replay_seconds"]
    return {
        "cores": cores,
        "samples": jobs[0]["samples"],
        "batch_by": rows,
        "replay_alone_seconds": alone,
        "block_limit_seconds": round(FACTOR * alone + EXTRA, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with cifar10/")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(Path(temporary) / "nontrivial", given.data_dir.resolve(), given.cores)
        print(json.dumps(result, indent=2))
