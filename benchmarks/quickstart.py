"""Time the first steps of a new user: install, run the quick start, and dry-run it again.

Works on a clone of this repository in a temporary folder and prints one JSON object. The
installation requires a package index.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DRY_RUNS = 3


def seconds(command: list[str], folder: Path) -> float:
    """Run a command and return its seconds; if it fails, exit with its output."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def measure(folder: Path) -> dict[str, object]:
    """Clone, install, run, and dry-run again."""
    clone = folder / "nontrivial"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    install = seconds(["make", ".venv/.installed"], clone)
    quickstart = seconds(["make", "quickstart"], clone)
    snakemake = [".venv/bin/snakemake", "-n", "--configfile", "config/quickstart.yaml"]
    dry = sorted(seconds(snakemake, clone) for _ in range(DRY_RUNS))
    results = clone / "results" / "quickstart"
    return {
        "cores": os.cpu_count(),
        "installation_seconds": round(install, 1),
        "quickstart_seconds": round(quickstart, 1),
        "dry_run_seconds": {"min": round(dry[0], 2), "max": round(dry[-1], 2), "runs": DRY_RUNS},
        "targets": len(list(results.glob("*/zero/targets/*.parquet"))),
        "report_megabytes": round((results / "report.html").stat().st_size / 1e6, 1),
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(Path(temporary)), indent=2))
