"""Measure training on a data set larger than memory, and on one that fits into one window.

    python benchmarks/larger_than_memory.py --limit 4

Writes random images as prepared data (removed at the end) and drops them from the system's cache.
Then runs the workflow's own training program for one epoch in another process. The network is so
small that reading data is most of the work. Prints JSON: the peak resident memory of that process,
the memory of its libraries, and the speed of reading samples, with the training and without it. Val
and test are read once.

With --limit, the process runs in a Linux memory control group (version 1 or 2, if this user may
create one) that is smaller than the data. The system's cache of the files counts in this group, so
it cannot hold the data either. The cache uses all memory of the group that the process leaves.
"""

import argparse
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path

# As in the workflow's programs: OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1250")

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.data import sample_order
from nontrivial.data.array_stream import array_stream
from nontrivial.data.batches import place, shuffled_batches
from nontrivial.data.prepared import open_split
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.atomic import write_text
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.planning.configuration import complete, read_schema

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
MIB = 1 << 20
GIB = 1 << 30
SHAPE = (3, 64, 64)
CLASSES = 10
HELD_OUT = 256  # samples of val and of test
FACTORY = f"{Path(__file__).stem}:small"
RECIPE = {"epochs": 1, "batch_size": 256, "learning_rate": 0.01}
PIECE = 1024  # samples written at a time
DEFAULT_GIB = 6.0
SHARE = 1.5  # size of the data relative to the limit, unless given
ONE_WINDOW = 0.9  # size of the data that fit into one window, relative to the window


def small(classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Return a network with little to compute."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 8, stride=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


# The data.


def write_data(folder: Path, nbytes: int) -> int:
    """Write prepared data with this many bytes in the train split; return its samples."""
    train = nbytes // (int(np.prod(SHAPE)) + np.dtype(np.int64).itemsize)
    counts = {"train": train, "val": HELD_OUT, "test": HELD_OUT}
    generator = np.random.default_rng(0)
    for split in SPLITS:
        images, labels = (folder / split / f"{name}.npy" for name in ("images", "labels"))
        with (
            array_stream(images, SHAPE, "uint8") as pictures,
            array_stream(labels, (), "int64") as numbers,
        ):
            for first in range(0, counts[split], PIECE):
                rows = min(PIECE, counts[split] - first)
                pictures.append(generator.integers(0, 256, (rows, *SHAPE), dtype=np.uint8))
                numbers.append(generator.integers(0, CLASSES, rows))
        drop_from_cache(images)
        drop_from_cache(labels)
    description = Description(
        task="classification",
        classes=[str(number) for number in range(CLASSES)],
        channels=SHAPE[0],
        size=SHAPE[1:],
        dtype="uint8",
        mean=[127.5] * SHAPE[0],
        std=[73.9] * SHAPE[0],
        counts=counts,
        sha256={},
    )
    write_text(folder / "dataset.json", description.to_json())
    return train


def drop_from_cache(path: Path) -> None:
    """Drop a file from the cache; otherwise, pages count in the group that wrote them."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb+") as file:
            os.fsync(file.fileno())  # only what is on the disk can be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# The limit.


@dataclass(frozen=True)
class Group:
    """A memory control group.

    Attributes:
        folder: of its files.
        version: of Linux's control groups.
    """

    folder: Path
    version: int

    def run(self, command: list[str]) -> list[str]:
        """Return the command that runs another command in the group from its first page on."""
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", enter, str(self.folder / "cgroup.procs"), *command]

    def peak(self) -> int | None:
        """Return the peak memory of the group in bytes, including the system's cache."""
        name = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}[self.version]
        path = self.folder / name  # Linux before 5.19 has no memory.peak
        return int(path.read_text()) if path.exists() else None


@contextmanager
def limited(nbytes: int) -> Iterator[Group]:
    """Yield a group with this limit and without swap.

    Raises:
        UserError: this host has no such groups, or this user may not create one.
    """
    version, parent = parent_group()
    folder = parent / f"nontrivial-{os.getpid()}"
    files = {
        1: {"memory.limit_in_bytes": nbytes, "memory.memsw.limit_in_bytes": nbytes},
        2: {"memory.max": nbytes, "memory.swap.max": 0},
    }[version]
    try:
        folder.mkdir()
    except OSError as error:
        raise UserError(f"--limit: {folder}: {error.strerror}; run as root") from error
    try:
        limit, swap = files
        if not (folder / limit).exists():
            raise UserError(f"--limit: {parent} does not control memory; run without --limit")
        (folder / limit).write_text(str(files[limit]))
        if (folder / swap).exists():  # not where the system has no swap
            (folder / swap).write_text(str(files[swap]))
        yield Group(folder, version)
    finally:
        folder.rmdir()


def parent_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")):
    """Return the version of the host's memory groups, and the group to create one in.

    Raises:
        UserError: there are none.
    """
    lines = own.read_text().splitlines() if own.exists() else []
    paths = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
    if "memory" in paths and (root / "memory").is_dir():
        return 1, below(root / "memory", paths["memory"])
    if "" in paths and (root / "cgroup.controllers").exists():
        group = below(root, paths[""])
        # A group with its own processes passes no memory on, so create the new one beside it.
        return 2, group if group == root else group.parent
    raise UserError("--limit: this host has no control groups for memory; run without --limit")


def below(root: Path, path: str) -> Path:
    """Return the folder of this process's group, or the root if a container hides it."""
    folder = root / path.lstrip("/")
    return folder if folder.is_dir() else root


# The process that trains.


def settings() -> dict:
    """Return the training program's settings, with the workflow's defaults filled in."""
    network = {"factory": FACTORY, "kernels": "none.tsv", "task": "classification"}
    training = {"dataset": "random", "network": "small", "recipe": RECIPE}
    config = {
        "datasets": {"random": {"source": "digits"}},
        "networks": {"small": network},
        "trainings": {"small": training},
        "experiments": {"small": {"training": "small"}},
    }
    filled = complete(config, read_schema(ROOT / "config" / "schema.yaml"))
    return {
        "network": {"name": "small", "factory": FACTORY},
        "recipe": filled["trainings"]["small"]["recipe"],
    }


def train(folder: Path, window: int) -> None:
    """Train on the data in the folder and print the cost of this process."""
    sample_order.WINDOW = window
    # The libraries, which are counted separately; the optimizer imports the second one.
    import_module("train_network")
    import_module("torch._dynamo")
    cpu = torch.device("cpu")
    libraries, read, start = devices.peak_memory(cpu), bytes_read(), time.perf_counter()
    name = str(SCRIPTS / "train_network.py")
    sys.argv = [name, "--settings", json.dumps(settings()), "--seed", "0"]
    sys.argv += ["--data", str(folder), "--kernels", "none"]
    sys.argv += ["--output", str(folder / "model.safetensors")]
    sys.argv += ["--snapshots", str(folder / "snapshots.safetensors")]
    sys.argv += ["--digest", str(folder / "model.json")]
    sys.argv += ["--history", str(folder / "training.parquet"), "--code", "benchmark"]
    runpy.run_path(name, run_name="__main__")
    found = {"libraries": libraries, "peak": devices.peak_memory(cpu)}
    if read is not None:
        found["read"] = bytes_read() - read
    found["program_seconds"] = time.perf_counter() - start
    gc.collect()  # what is still mapped stays in the system's cache
    print(json.dumps(found | {"feed_seconds": feed(folder)}))


def feed(folder: Path) -> float:
    """Return the seconds to read an epoch's batches from the disk, without training."""
    for name in ("images", "labels"):
        drop_from_cache(folder / "train" / f"{name}.npy")
    samples = place({"train": open_split(folder, "train")}, torch.device("cpu"))["train"]
    start = time.perf_counter()
    for _ in shuffled_batches(samples, RECIPE["batch_size"], seed=0):
        pass
    return time.perf_counter() - start


def bytes_read() -> int | None:
    """Return the bytes this process has read from the disk, if the system reports them."""
    path = Path("/proc/self/io")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)


# The figures.


def measure(folder: Path, nbytes: int, window: int, limit: int | None) -> dict[str, object]:
    """Return the measurements of one epoch on this many bytes of data."""
    samples = write_data(folder, nbytes)
    os.chdir(Path(__file__).parent)  # where the factory is
    command = [sys.executable, __file__, "--train-only", str(folder), "--window"]
    command += [str(window / MIB)]
    held = None
    if limit is None:
        found = json.loads(run(command))
    else:
        with limited(limit) as group:
            found = json.loads(run(group.run(command)))
            held = group.peak()
    (epoch,) = pq.read_table(folder / "training.parquet").to_pylist()
    return {
        "data_mib": round(nbytes / MIB),
        "windows": len(order_of(samples, nbytes // samples, window)),
        "samples": samples,
        "peak_mib": round(found["peak"] / MIB),
        "libraries_mib": round(found["libraries"] / MIB),
        "group_peak_mib": None if held is None else round(held / MIB),
        "read_from_disk_mib": round(found["read"] / MIB) if "read" in found else None,
        "program_seconds": round(found["program_seconds"], 1),
        "epoch_seconds": round(epoch["seconds"], 1),
        "samples_per_second": round(epoch["samples_per_second"]),
        "mib_per_second": round(nbytes / MIB / epoch["seconds"]),
        "mib_per_second_without_training": round(nbytes / MIB / found["feed_seconds"]),
    }


def order_of(samples: int, bytes_per_sample: int, window: int) -> list[sample_order.Window]:
    sample_order.WINDOW = window
    return sample_order.epoch_order(samples, bytes_per_sample, RECIPE["batch_size"], 0)


def run(command: list[str]) -> str:
    """Return the output of a program.

    Raises:
        UserError: it failed; its messages are on standard error.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == -9:
        raise UserError("the training was killed: memory is short; raise --limit")
    if done.returncode:
        raise UserError(f"a program failed with exit status {done.returncode}; see above")
    return done.stdout


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--limit", type=float, metavar="GIB", help="memory of the training process")
    made.add_argument(
        "--gib",
        type=float,
        help=f"size of the larger data; default {SHARE} times the limit, or {DEFAULT_GIB}",
    )
    made.add_argument(
        "--window",
        type=float,
        metavar="MIB",
        default=sample_order.WINDOW / MIB,
        help="samples shuffled together (default %(default)g); determines memory",
    )
    made.add_argument(
        "--folder", type=Path, help="write the data in this folder; default: the temporary folder"
    )
    made.add_argument("--train-only", type=Path, help="internal: data to train on")
    return made


def main(arguments: argparse.Namespace) -> None:
    window = int(arguments.window * MIB)
    if arguments.train_only:
        train(arguments.train_only, window)
        return
    limit = None if arguments.limit is None else int(arguments.limit * GIB)
    size = int(arguments.gib * GIB) if arguments.gib else int(SHARE * (limit or 0))
    sizes = {"one_window": int(ONE_WINDOW * window), "larger": size or int(DEFAULT_GIB * GIB)}
    if sizes["larger"] <= window:
        raise UserError(f"--gib: {arguments.gib:g} GiB fit into one window; increase it")
    cases = {}
    for name, nbytes in sizes.items():
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            cases[name] = measure(Path(folder), nbytes, window, limit)
        print(f"{name}: {cases[name]}", file=sys.stderr, flush=True)
    report = {
        "date": date.today().isoformat(),
        "device": devices.describe(devices.pick()),
        "versions": devices.versions(),
        "limit_mib": None if limit is None else round(limit / MIB),
        "window_mib": window / MIB,
        "batch_size": RECIPE["batch_size"],
        "cases": cases,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.call(lambda: main(parser().parse_args()))
