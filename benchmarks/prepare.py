"""Measure time and memory of preparing the real data sets, beside a bare nibabel loop.

    python benchmarks/prepare.py --data-dir data

Prints JSON. Each measurement runs in a separate process and includes imports.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "workflow" / "scripts" / "prepare_dataset.py"
SETTINGS = {
    "cifar10": {"source": "cifar10", "validation": 5000, "split_seed": 0},
    "hippocampus": {
        "source": "hippocampus",
        "axis": "coronal",
        "spacing": 0.5,
        "size": [128, 128],
        "intensity": "zscore",
        "keep_empty": True,
        "intensity_mask": None,
        "fill": None,
        "affine_tolerance": None,
        "label_map": None,
        "classes": ["background", "anterior", "posterior"],
        "fractions": {"train": 0.7, "val": 0.1, "test": 0.2},
        "split_seed": 0,
    },
}
BARE_LOOP = """
import sys
import nibabel
import numpy
for line in sys.stdin:
    numpy.asarray(nibabel.load(line.strip()).dataobj)
"""
MIB = 1024  # getrusage counts KiB on Linux


def measure(command: list[str], text: str = "") -> dict[str, float]:
    """Run a command; return wall seconds, CPU seconds and its peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    process.stdin.write(text)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[1]} failed")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / MIB),
    }


def prepare(name: str, data_dir: Path, folder: Path) -> dict[str, float]:
    output = folder / name
    result = measure(
        [
            *(sys.executable, str(PROGRAM), "--name", name, "--data-dir", str(data_dir)),
            *("--settings", json.dumps(SETTINGS[name]), "--output", str(output)),
        ]
    )
    counts = json.loads((output / "dataset.json").read_text())["counts"]
    result["samples_per_second"] = round(sum(counts.values()) / result["seconds"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    volumes = sorted((data_dir / "hippocampus").rglob("*.nii.gz"))
    with tempfile.TemporaryDirectory() as folder:
        result = {name: prepare(name, data_dir, Path(folder)) for name in SETTINGS}
    bare = measure([sys.executable, "-c", BARE_LOOP], "\n".join(str(path) for path in volumes))
    hippocampus = result["hippocampus"]
    hippocampus["volumes_per_second"] = round(len(volumes) / 2 / hippocampus["seconds"], 1)
    hippocampus["bare_nibabel_loop"] = bare
    hippocampus["ratio_to_bare_loop"] = round(hippocampus["seconds"] / bare["seconds"], 2)
    print(json.dumps({"cores": os.cpu_count(), **result}, indent=2))


if __name__ == "__main__":
    main()
