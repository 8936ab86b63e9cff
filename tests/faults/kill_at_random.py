"""Kill the whole workflow repeatedly and compare its results with those of an undisturbed run.

    python tests/faults/kill_at_random.py --kills 20 --configfile config/quickstart.yaml

Sends SIGKILL to the process group at random moments, spread over the stages, and repeats the same
command. After each kill, every file under a final name must be complete and no job may still run.
Prints a line of JSON for each kill, and one for the comparison at the end.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "workflow" / "scripts"))

from conftest import ROOT, Workflow, copy_workflow
from whole_files import damaged, final_files

# In the order in which they run: the programs of each stage, and the most seconds that pass between
# the start of the first of them and the kill.
STAGES = {
    "start": ((), 6),
    "prepare": (("prepare_dataset.py",), 3),
    "train": (("train_network.py",), 12),
    "predict": (("predict_targets.py", "predict_examples.py"), 6),
    "evaluate": (("evaluate_target.py",), 3),
    "aggregate": (("aggregate_results.py",), 1),
    # Without plot_learning, which runs as soon as its network is trained.
    "display": (("tabulate_", "judge_", "plot_layers", "plot_interventions", "plot_map"), 3),
}
WEIGHTS = {
    "train": 4,
    "predict": 3,
    "evaluate": 3,
    "display": 3,
}  # number of kills relative to the other stages
CHECKPOINT_MINUTES = 0.05  # so that a training progresses between two kills; makes nothing stale
DEADLINE = 1200  # seconds of waiting for a stage or for the last run
COMPARED = ("summary.parquet", "across_seeds.parquet", "margins.parquet")


class Unexpected(Exception):  # noqa: N818  (not an error of this program)
    """The workflow behaves in a way that the comparison does not expect."""


def moments(kills: int, rng: random.Random) -> list[tuple[str, float]]:
    """Return (stage, seconds after it was first seen) of each kill, in the order of stages."""
    stages = list(STAGES)
    names = [name for name in STAGES for _ in range(WEIGHTS.get(name, 1))]
    chosen = stages[:kills] if kills >= len(stages) else rng.sample(stages, kills)
    chosen += rng.choices(names, k=kills - len(chosen))
    return [(name, rng.uniform(0, STAGES[name][1])) for name in sorted(chosen, key=stages.index)]


def killed(
    workflow: Workflow, arguments: list[str], kills: int, rng: random.Random
) -> Iterator[dict]:
    """Run the workflow, kill it at random moments, let it finish; yield a record of each kill.

    There are fewer kills if the workflow finishes before the last one.

    Raises:
        Unexpected: a file is damaged, a job still runs, or a run fails or never finishes.
    """
    for number, (stage, delay) in enumerate(moments(kills, rng), 1):
        process = start(workflow, arguments)
        try:
            began = time.monotonic()
            if stage != "start":
                wait_for(stage, process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            jobs = running(process)
        finally:
            kill(process)
        if process.returncode == 0:
            return
        if process.returncode != -signal.SIGKILL:
            raise Unexpected(f"it failed before kill {number}: {printed(workflow)}")
        seconds = time.monotonic() - began
        survivors = left_behind(workflow.folder)
        wrong = damaged(workflow.path(results_of(workflow)))
        yield {
            "kill": number,
            "stage": stage,
            "seconds": round(seconds, 1),
            "jobs": jobs,
            "final_files": len(final_files(workflow.path(results_of(workflow)))),
            "temporary_files": len(list(workflow.path(results_of(workflow)).rglob(".*.part*"))),
            "damaged": wrong,
            "survivors": survivors,
        }
        if wrong or survivors:
            raise Unexpected(f"after kill {number}: damaged {wrong}, still running {survivors}")
    process = start(workflow, arguments)
    try:
        if process.wait(DEADLINE) != 0:
            raise Unexpected(f"the last run failed: {printed(workflow)}")
    finally:
        kill(process)


def start(workflow: Workflow, arguments: list[str]) -> subprocess.Popen:
    """Start Snakemake in a session, and so a process group, of its own."""
    with workflow.path("output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=workflow.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def printed(workflow: Workflow) -> str:
    """Return the end of what the last run printed."""
    return workflow.path("output.txt").read_text()[-3000:]


def kill(process: subprocess.Popen) -> None:
    """Kill the process group and wait for its leader."""
    with contextlib.suppress(ProcessLookupError):  # it has exited
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(stage: str, process: subprocess.Popen) -> None:
    """Wait until a job of the stage or of a later one runs, or the process has exited."""
    later = list(STAGES)[list(STAGES).index(stage) :]
    programs = tuple(program for name in later for program in STAGES[name][0])
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and not any(job.startswith(programs) for job in running(process)):
        if time.monotonic() > deadline:
            raise Unexpected(f"no job of stage {stage} started")
        time.sleep(0.01)


def running(process: subprocess.Popen) -> list[str]:
    """Return the programs of the jobs below Snakemake, sorted."""
    found = []
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []
    for child in children:
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        scripts = [Path(word).name for word in words if word.endswith(".py")]
        if scripts:
            found.append(scripts[-1])
    return sorted(found)


def left_behind(folder: Path) -> list[str]:
    """Return the command lines of the processes whose working folder is a given one."""
    deadline = time.monotonic() + 5  # killed processes may take a moment to disappear
    while alive := _working_in(folder):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def _working_in(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def results_of(workflow: Workflow) -> str:
    """Return the folder of the results, below that of the workflow."""
    return workflow.config.get("results_dir", "results")


def differences(found: Path, wanted: Path) -> list[str]:
    """Return the differences between two results folders, one line each.

    Compares the rows and columns of the summaries, the CSV tables, and the digests of weights and
    predictions, but not the training histories, which hold seconds and the number of resumptions.
    """
    different = []
    for name in COMPARED:
        ours, theirs = pq.read_table(found / name), pq.read_table(wanted / name)
        if ours.schema != theirs.schema or ours.num_rows != theirs.num_rows:
            different.append(
                f"{name}: {ours.num_rows} rows, not {theirs.num_rows}, or other columns"
            )
            continue
        different += [
            f"{name}: column {column}"
            for column in ours.column_names
            if not _equal(ours[column], theirs[column])
        ]
    for pattern in ("tables/*.csv", "networks/*/seed*/model.json", "**/predictions/*.json"):
        names = [{path.relative_to(of) for path in of.glob(pattern)} for of in (found, wanted)]
        different += [f"{name}: only in one of the two" for name in sorted(names[0] ^ names[1])]
        different += [
            f"{name}: different bytes"
            for name in sorted(names[0] & names[1])
            if (found / name).read_bytes() != (wanted / name).read_bytes()
        ]
    return different


def _equal(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> bool:
    # Arrow does not count NaN as equal to NaN; repr shows all digits.
    return repr(ours.to_pylist()) == repr(theirs.to_pylist())


def _copy(folder: Path, configfile: Path) -> Workflow:
    workflow = copy_workflow(folder)
    config = yaml.safe_load(configfile.read_text())
    config["data_dir"] = str(ROOT / config.get("data_dir", "data"))
    workflow.config = {**config, "checkpoint_minutes": CHECKPOINT_MINUTES}
    return workflow


def main() -> None:
    """Compare a run that was killed with one that was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--configfile", type=Path, default=ROOT / "config" / "quickstart.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    arguments = ["--cores", str(given.cores), "--configfile", "test.yaml"]
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed = (_copy(Path(folder) / name, given.configfile) for name in ("a", "b"))
        began = time.monotonic()
        if start(calm, arguments).wait() != 0:
            sys.exit(f"the undisturbed run failed: {printed(calm)}")
        print(
            json.dumps({"seed": given.seed, "undisturbed_seconds": time.monotonic() - began}),
            flush=True,
        )
        began = time.monotonic()
        kills = 0
        try:
            for record in killed(disturbed, arguments, given.kills, random.Random(given.seed)):
                print(json.dumps(record), flush=True)
                kills += 1
        except Unexpected as error:
            sys.exit(f"error: {error}")
        results = [run.path(results_of(run)) for run in (disturbed, calm)]
        different = differences(*results)
        rows = {name: pq.read_metadata(results[0] / name).num_rows for name in COMPARED}
        print(
            json.dumps(
                {
                    "kills": kills,
                    "seconds": time.monotonic() - began,
                    "rows": rows,
                    "different": different,
                }
            )
        )
        if kills < given.kills:
            sys.exit(f"error: it finished after {kills} kills")
        sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
