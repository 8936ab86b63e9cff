"""Time aggregation, a table and a figure with many targets. Print JSON.

The target files are copies of those of a finished run, under as many experiment names as needed
(``--results`` is the folder of an experiment, such as ``results/quickstart/digits``).
``aggregate_results.py`` reads them from a warm cache and writes the summary. Then
``tabulate_targets.py`` and ``plot_layers.py`` show one experiment. The output contains seconds, CPU
seconds (of all processes of a program) and the memory of a program's largest process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from nontrivial.formats import parquet  # noqa: E402
from nontrivial.formats.summary import FEW_ROWS  # noqa: E402

LIMIT = {"targets": 30_000, "seconds": 20}
PLOTS = {"dpi": 200, "width_mm": 180}


def many(results: Path, folder: Path, targets: int) -> list[str]:
    """Write files for at least this many targets and return their paths in summary order."""
    real = sorted((results / "zero" / "targets").glob("*.parquet"))
    if not real:
        raise SystemExit(f"{results}: no finished targets; give the folder of an experiment")
    tables = [(path.name, pq.read_table(path)) for path in real]
    files = []
    for number in range(-(-targets // len(tables))):
        experiment = f"{results.name}{number}"
        (folder / experiment).mkdir(parents=True)
        for name, table in tables:
            path = folder / experiment / name
            column = pa.array([experiment] * table.num_rows, pa.string())
            index = table.schema.get_field_index("experiment")
            parquet.write(table.set_column(index, "experiment", column), path, **FEW_ROWS)
            files.append(str(path))
    return files


def run(program: str, **options: object) -> dict[str, float]:
    """Run a program of the workflow and return its seconds and megabytes."""
    command = [sys.executable, str(SCRIPTS / program)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # otherwise, Popen waits for it again
    if process.returncode:
        raise SystemExit(f"{program} failed; see above")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "megabytes": round(usage.ru_maxrss * 1024 / 1e6),
    }


def measure(results: Path, folder: Path, targets: int) -> dict[str, object]:
    """Return the measurements for one number of targets."""
    files = many(results, folder / "targets", targets)
    (folder / "list.json").write_text(json.dumps({"files": files}))
    names = ("summary", "across_seeds", "margins")
    tables = {name: folder / f"{name}.parquet" for name in names}
    figures = {
        "aggregate_results.py": run(
            "aggregate_results.py",
            targets=folder / "list.json",
            output=tables["summary"],
            across_seeds=tables["across_seeds"],
            margins=tables["margins"],
            threads=os.cpu_count(),
        )
    }
    experiment = f"{results.name}0"
    figures["tabulate_targets.py"] = run(
        "tabulate_targets.py",
        settings=json.dumps({"experiment": experiment}),
        **tables,
        **{kind: folder / f"table.{kind}" for kind in ("csv", "markdown", "html")},
    )
    drawn = {"svg": folder / "figure.svg", "png": folder / "figure.png"}
    settings = json.dumps({"experiment": experiment, **PLOTS})
    figures["plot_layers.py"] = run("plot_layers.py", settings=settings, **tables, **drawn)
    rows = pq.ParquetFile(tables["summary"]).metadata.num_rows
    return {"targets": len(files), "rows": rows, "programs": figures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of an experiment")
    parser.add_argument("--targets", type=int, nargs="+", default=[3000, 30_000])
    given = parser.parse_args()
    measured = []
    for number in given.targets:
        with tempfile.TemporaryDirectory() as temporary:
            measured.append(measure(given.results.resolve(), Path(temporary), number))
    print(json.dumps({"cores": os.cpu_count(), "limit": LIMIT, "rows": measured}, indent=2))
