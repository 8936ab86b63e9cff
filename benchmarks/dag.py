"""Measure Snakemake's own time and memory with many targets; print a table and JSON.

For each number of targets, it copies this workflow to a temporary folder and times a first dry
run, a real run, and a dry run and a real run of the finished workflow. Times are wall times. Memory
is that of the largest process, which is Snakemake. Growth is the ratio of times divided by the
ratio of targets, compared with the row above. A growth of 1 is linear.

Rules, profiles and input functions are the real ones, but jobs compute nothing. Their ``python`` is
a shell script that writes each output, as large as a real target's file. The last column gives the
wall time per job and, in parentheses, how much of it the script takes (the command line of an
evaluate job, started without Snakemake).

The configuration contains many trainings of ResNet34 on scikit-learn's digits, with one experiment
each. An experiment has 44 targets, plus enough named sets to make ``--per-experiment`` targets. The
jobs that train, predict and plot are additional.
"""

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from itertools import pairwise
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ("Snakefile", "rules", "workflow", "resources", "envs", "profiles", "config")
STANDARD = 44  # targets of a ResNet34: 36 layers, 4 blocks, 3 shortcuts, the baseline
TARGET_BYTES = 11_000  # a real target's file (10 classes)
LIMITS = {"targets": 10_000, "dry_run_seconds": 30, "megabytes": 1000, "milliseconds_per_job": 20}
TIMES = ("first_dry_run", "run", "dry_run_with_nothing_to_do", "run_with_nothing_to_do")
ALONE = 100  # runs of the payload without Snakemake

PAYLOAD = """#!/bin/sh
# Runs in place of every program: writes its outputs and computes nothing.
option=
for word do
    case $option in
    --output | --digest | --history | --snapshots | --across-seeds | --margins | --csv \\
    | --markdown | --html | --svg | --png)
        case $* in
        *prepare_dataset.py*)
            for split in train val test; do
                mkdir -p "$word/$split"
                for name in images.npy labels.npy samples.parquet; do
                    cp {content} "$word/$split/$name"
                done
            done
            for name in dataset.json preparation.json; do
                cp {content} "$word/$name"
            done ;;
        *) [ -e "$word" ] || cp {content} "$word" ;;
        esac ;;
    esac
    option=$word
done
"""


def configuration(targets: int, per_experiment: int) -> dict:
    """Return a configuration with this many targets."""
    experiments, rest = divmod(targets, per_experiment)
    if rest or per_experiment < STANDARD:
        raise SystemExit(
            f"--targets must be multiples of --per-experiment, which is at least {STANDARD}"
        )
    table = (ROOT / "resources" / "kernels" / "resnet34.tsv").read_text().splitlines()
    column = table[0].split("\t").index("path")
    kernels = [line.split("\t")[column] for line in table[1:]]
    combinations = itertools.chain(*(itertools.combinations(kernels, n) for n in (2, 3)))
    chosen = itertools.islice(combinations, per_experiment - STANDARD)
    named_sets = {f"set{number}": list(kernels) for number, kernels in enumerate(chosen)}
    training = {"dataset": "digits", "network": "resnet34", "recipe": {"epochs": 1}}
    names = [f"digits{number}" for number in range(experiments)]
    return {
        "datasets": {"digits": {"source": "digits"}},
        "trainings": {name: training for name in names},
        "experiments": {name: {"training": name, "named_sets": named_sets} for name in names},
    }


def environment(folder: Path) -> Path:
    """Create an environment with these packages, in which ``python`` is the payload.

    Returns:
        The path of its real Python.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    programs = folder / "bin"
    for link in programs.glob("python*"):
        link.unlink()
    real = programs / "python-of-snakemake"
    real.symlink_to(Path(sys.executable).resolve())
    content = folder / "content"
    content.write_bytes(os.urandom(TARGET_BYTES))
    (programs / "python").write_text(PAYLOAD.format(content=shlex.quote(str(content))))
    (programs / "python").chmod(0o755)
    return real


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command and return its seconds and the megabytes of its largest process.

    CPU time, which includes the jobs, stays comparable on a busy host.
    """
    output = folder / "output.txt"
    with output.open("wb") as file:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # otherwise, Popen waits for it again
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{output.read_text()[-4000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "megabytes": round(usage.ru_maxrss * 1024 / 1e6),
    }


def payload_seconds(clone: Path) -> float:
    """Return the seconds of one evaluate job's command line, started as Snakemake does."""
    done = subprocess.run(
        [*snakemake(clone), "-n", "-p", "--until", "evaluate", "--force"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    line = re.search(
        r"^Shell command: (python \S*evaluate_target\.py .*)$", done.stdout + done.stderr, re.M
    )[1]
    output = clone / "alone"
    line = re.sub(r"--output \S+", f"--output {shlex.quote(str(output))}", line)
    tools = {**os.environ, "PATH": f"{clone.parent / 'environment' / 'bin'}:{os.environ['PATH']}"}
    start = time.perf_counter()
    for _ in range(ALONE):
        output.unlink(missing_ok=True)
        subprocess.run(
            ["bash", "-c", f"set -euo pipefail; {line}"], cwd=clone, env=tools, check=True
        )
    return (time.perf_counter() - start) / ALONE


def snakemake(clone: Path) -> list[str]:
    python = clone.parent / "environment" / "bin" / "python-of-snakemake"
    command = [str(python), "-m", "snakemake", "--configfile", "benchmark.yaml"]
    return [*command, "--cores", str(os.cpu_count()), "--resources", "gpu=1"]


def measure(folder: Path, targets: int, per_experiment: int) -> dict[str, object]:
    """Return the times and sizes for one number of targets."""
    clone = folder / "workflow"
    clone.mkdir()
    for name in WORKFLOW:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, clone / name)
    (clone / "benchmark.yaml").write_text(yaml.safe_dump(configuration(targets, per_experiment)))
    environment(folder / "environment")
    dry = run([*snakemake(clone), "-n"], clone)
    jobs = int(re.search(r"^total +(\d+)$", (clone / "output.txt").read_text(), re.M)[1])
    payload = payload_seconds(clone)
    real = run(snakemake(clone), clone)
    nothing_dry = run([*snakemake(clone), "-n"], clone)
    nothing = run(snakemake(clone), clone)
    text = (clone / "output.txt").read_text()
    if "Nothing to be done" not in text:
        raise SystemExit(f"the finished workflow of {targets} targets is stale:\n{text[-4000:]}")
    return {
        "targets": targets,
        "jobs": jobs,
        "first_dry_run": dry,
        "run": real,
        "dry_run_with_nothing_to_do": nothing_dry,
        "run_with_nothing_to_do": nothing,
        "milliseconds_per_job": round(1000 * real["seconds"] / jobs, 1),
        "of_which_payload": round(1000 * payload, 1),
    }


def growth(rows: list[dict]) -> list[dict[str, float]]:
    """Return the growth of each row but the first, compared with the row before it."""
    return [
        {
            key: round(
                now[key]["seconds"] / before[key]["seconds"] * before["targets"] / now["targets"], 2
            )
            for key in TIMES
        }
        for before, now in pairwise(rows)
    ]


def table(rows: list[dict]) -> str:
    """Return the rows as a table in Markdown, times in seconds and megabytes, with growth."""
    head = ["targets", "jobs", *(key.replace("_", " ") for key in TIMES), "ms a job (payload)"]
    lines = [head, ["---"] * len(head)]
    for row, rates in zip(rows, [None, *growth(rows)], strict=True):
        cells = [
            f"{row[key]['seconds']:.1f} s, {row[key]['megabytes']} MB"
            + (f", growth {rates[key]}" if rates else "")
            for key in TIMES
        ]
        per_job = f"{row['milliseconds_per_job']} ({row['of_which_payload']})"
        lines.append([str(row["targets"]), str(row["jobs"]), *cells, per_job])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, nargs="+", default=[100, 1000, 10_000, 30_000])
    parser.add_argument("--per-experiment", type=int, default=50)
    given = parser.parse_args()
    results = []
    for number in sorted(given.targets):
        with tempfile.TemporaryDirectory() as temporary:
            results.append(measure(Path(temporary), number, given.per_experiment))
        print(table(results), file=sys.stderr)  # the largest ones take long
    print(
        json.dumps(
            {
                "cores": os.cpu_count(),
                "targets_per_experiment": given.per_experiment,
                "limits": LIMITS,
                "rows": results,
                "growth": growth(results),
            },
            indent=2,
        )
    )
