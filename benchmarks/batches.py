"""Time predict and evaluate for one trained ResNet34 through Snakemake, for each ``batch_by``.

Works on a clone of this repository in a temporary folder. Trains once on CIFAR-10, for one epoch
with few images, because the jobs that follow take the same time with any weights. Then, for each
``batch_by``, runs the jobs of one experiment until every target is evaluated. For comparison, it
replays all targets in one process. The process reports this time itself: tracing, reading and
computing, without the start of Python. Prints one JSON object.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.formats.canonical import canonical
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.planning.plan import Plan
from nontrivial.targets.enumeration import BATCH_BY

ROOT = Path(__file__).resolve().parents[1]
TEST_IMAGES = 10_000
VALIDATION = 40_000  # images that are not used for training
FACTOR, EXTRA = 1.2, 15.0  # goal of `set`: FACTOR times the replay alone, plus EXTRA seconds


def configuration(data_dir: Path, batch_by: str, images: int) -> dict:
    """Return a configuration that evaluates one ResNet34 on this many images of CIFAR-10."""
    is_test = images == TEST_IMAGES
    return {
        "data_dir": str(data_dir),
        "results_dir": "results",
        "batch_by": batch_by,
        "datasets": {
            "cifar10": {"source": "cifar10", "validation": VALIDATION if is_test else images}
        },
        "trainings": {
            "resnet34": {
                "dataset": "cifar10",
                "network": "resnet34",
                "recipe": {"epochs": 1, "precision": "bf16"},
            }
        },
        "experiments": {batch_by: {"training": "resnet34", "split": "test" if is_test else "val"}},
    }


def snakemake(clone: Path, config: dict, cores: int, *arguments: str) -> float:
    """Run the workflow of the clone and return its seconds; if it fails, exit with its output."""
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


def report(predictions: Path) -> dict:
    """Return what a prediction job measured about itself."""
    return json.loads(pq.ParquetFile(predictions).metadata.metadata[b"nontrivial.report"])


def replay_alone(clone: Path, config: dict, cores: int) -> float:
    """Replay all targets of the configuration's experiment in one process; return its seconds."""
    plan = Plan(complete(config, read_schema(clone / "config" / "schema.yaml")), clone)
    (experiment,) = config["experiments"]
    targets = [
        {"name": target.name, "kernels": list(target.kernels)}
        for target in plan.targets(experiment).values()
        if target.stored_as == target.name
    ]
    folder = Path(tempfile.mkdtemp(dir=clone))  # otherwise, the program reuses the earlier result
    spec, output = folder / "targets.json", folder / "predictions.parquet"
    spec.write_text(canonical({"targets": targets}))
    results = clone / "results"
    command = {
        "--settings": plan.prediction_settings(experiment),
        "--data": results / "data" / "cifar10",
        "--model": results / "networks" / "resnet34" / "seed0" / "model.safetensors",
        "--kernels": plan.kernel_table("resnet34"),
        "--targets": spec,
        "--threads": cores,
        "--output": output,
        "--digest": folder / "digest.json",
    }
    options = [str(word) for option in command.items() for word in option]
    program = clone / "workflow" / "scripts" / "predict_targets.py"
    subprocess.run([sys.executable, str(program), *options], check=True)
    return report(output)["seconds"]


def measure(
    clone: Path, data_dir: Path, cores: int, images: int, ways: list[str]
) -> dict[str, object]:
    """Return the seconds of each ``batch_by`` and of the replay alone, before and after them."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    config = configuration(data_dir, ways[0], images)
    snakemake(clone, config, cores, "networks")
    alone = [replay_alone(clone, config, cores)]
    rows = {}
    for way in ways:
        config = configuration(data_dir, way, images)
        seconds = snakemake(clone, config, cores, "all", "--until", "evaluate")
        jobs = [
            report(path)
            for path in sorted((clone / "results" / way).rglob("predictions/*.parquet"))
        ]
        rows[way] = {
            "seconds": round(seconds, 1),
            "predict_jobs": len(jobs),
            "replay_seconds": round(sum(job["seconds"] for job in jobs), 1),
        }
        alone.append(replay_alone(clone, config, cores))
    return {
        "cores": cores,
        "images": images,
        "batch_by": rows,
        "replay_alone_seconds": [round(seconds, 1) for seconds in alone],
        "set_limit_seconds": round(FACTOR * sum(alone) / len(alone) + EXTRA, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with cifar10/")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument(
        "--images",
        type=int,
        default=TEST_IMAGES,
        help="number of images; any other than the default is taken from val",
    )
    parser.add_argument("--batch-by", nargs="+", choices=BATCH_BY, default=list(BATCH_BY))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(
            Path(temporary) / "nontrivial",
            given.data_dir.resolve(),
            given.cores,
            given.images,
            given.batch_by,
        )
        print(json.dumps(result, indent=2))
