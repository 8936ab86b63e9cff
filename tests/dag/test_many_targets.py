"""With more targets, files per job and command lines stay as they are: cost grows linearly."""

import copy
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG, ROOT, copy_workflow, write_volumes

FEW, MANY = 1, 40  # named sets beside the other targets
RESNET18 = 20 + 4 + 3 + 1  # layers, blocks, shortcuts, the baseline
FILES_OF_EVALUATE = 6


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("dag_benchmark", ROOT / "benchmarks" / "dag.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory):
    """Return the output of a dry run, with command lines, for few targets and for many."""
    return {
        sets: dry_run(tmp_path_factory.mktemp("dag") / "workflow", sets) for sets in (FEW, MANY)
    }


def dry_run(folder: Path, sets: int) -> str:
    workflow = copy_workflow(folder)
    write_volumes(workflow.path("raw"))
    kernels = [f"layer{n}.{unit}.conv{i}" for n in (1, 2, 3, 4) for unit in (0, 1) for i in (1, 2)]
    pairs = [[a, b] for a in kernels for b in kernels if a < b]
    config = copy.deepcopy(CONFIG)
    config["experiments"] = {
        "digits": {
            "training": "digits-resnet18",
            "named_sets": {f"pair{n}": pair for n, pair in enumerate(pairs[:sets])},
        }
    }
    workflow.config = config
    done = workflow.snakemake("-n", "-p")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(printed: str, rule: str) -> list[str]:
    return [block for block in re.split(r"\n(?=\[)", printed) if f"\nrule {rule}:\n" in block]


def test_files_of_an_evaluation(dry_runs):
    for sets, printed in dry_runs.items():
        inputs = [re.search(r"input: (.*)", job)[1] for job in jobs(printed, "evaluate")]
        assert len(inputs) == RESNET18 + sets
        assert {len(text.split(", ")) for text in inputs} == {FILES_OF_EVALUATE}


@pytest.mark.parametrize("rule", ["aggregate", "tabulate_targets", "plot_layers"])
def test_command_lines_of_jobs_that_read_all_targets(dry_runs, rule):
    lengths = {
        len(re.search(r"Shell command: (.*)", jobs(printed, rule)[0])[1])
        for printed in dry_runs.values()
    }
    assert len(lengths) == 1


def test_the_scheduler_runs_once_per_finished_job(benchmark, tmp_path):
    workflow = tmp_path / "workflow"
    copy_workflow(workflow)
    (workflow / "benchmark.yaml").write_text(yaml.safe_dump(benchmark.configuration(100, 50)))
    benchmark.environment(tmp_path / "environment")
    done = subprocess.run(
        [*benchmark.snakemake(workflow), "--verbose"],
        cwd=workflow,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    finished = len(re.findall(r"^Finished jobid: ", printed, re.MULTILINE))
    assert finished > 100
    # One when the run starts, and one for every job that ends.
    assert printed.count("Resources before job selection") <= finished + 1


def test_growth_of_the_benchmark(benchmark):
    def row(targets, seconds):
        return {"targets": targets, **{key: {"seconds": seconds} for key in benchmark.TIMES}}

    rates = benchmark.growth([row(100, 2.0), row(1000, 20.0), row(2000, 80.0)])
    assert [set(rate.values()) for rate in rates] == [{1.0}, {2.0}]


def test_the_benchmark_has_the_requested_number_of_targets(benchmark):
    config = benchmark.configuration(120, 60)
    assert len(config["experiments"]) == len(config["trainings"]) == 2
    for experiment in config["experiments"].values():
        sets = experiment["named_sets"]
        assert len({tuple(kernels) for kernels in sets.values()}) == 60 - benchmark.STANDARD
