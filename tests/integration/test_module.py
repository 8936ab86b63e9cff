"""The workflow as a module of another workflow, in a folder of its own."""

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from conftest import CONFIG

from nontrivial.formats.target_files import read_targets

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
configfile: "study.yaml"

module nontrivial:
    snakefile: {snakefile!r}
    config: config["layers"]
    {prefix}

use rule * from nontrivial as nontrivial_*

rule study:
    default_target: True
    input: rules.nontrivial_all.input
"""


@pytest.fixture
def study(tmp_path):
    """Return a folder with a workflow that imports this one, configured as the quick start."""
    folder = tmp_path / "a study"
    folder.mkdir()
    configure(folder, yaml.safe_load((ROOT / "config" / "quickstart.yaml").read_text()))
    write(folder, str(ROOT / "workflow" / "Snakefile"))
    return folder


def configure(folder: Path, config: dict) -> None:
    layers = {**config, "results_dir": "results/which layers"}
    (folder / "study.yaml").write_text(yaml.safe_dump({"layers": layers}))


def write(folder: Path, snakefile: str, prefix: str = "") -> None:
    (folder / "Snakefile").write_text(SNAKEFILE.format(snakefile=snakefile, prefix=prefix))


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_dry_run_of_the_quick_start(study):
    done = snakemake(study, "-n", "--quiet", "rules")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    for rule in ("prepare", "train", "predict", "evaluate", "aggregate", "plot_map"):
        assert f"nontrivial_{rule} " in text
    assert "localrules" not in text  # they would name rules that the importing workflow renamed


def test_a_data_set_is_prepared_in_the_folder_of_the_importing_workflow(study):
    done = snakemake(study, "results/which layers/data/digits/dataset.json")
    assert done.returncode == 0, done.stderr
    assert (study / "results/which layers/data/digits/test/images.npy").exists()
    assert (study / "results/which layers/logs/prepare/digits.log").exists()


def test_a_target_is_evaluated_in_the_folder_of_the_importing_workflow(study):
    config = {
        "datasets": {"digits": CONFIG["datasets"]["digits"]},
        "trainings": {"digits-resnet18": CONFIG["trainings"]["digits-resnet18"]},
        "experiments": {"digits": {"training": "digits-resnet18", "sets": ["shortcut"]}},
    }
    configure(study, config)
    target = "results/which layers/digits/zero/targets/shortcut-2.parquet"
    done = snakemake(study, target)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_targets([study / target]).to_pylist()
    assert {(row["experiment"], row["target"]) for row in rows} == {("digits", "shortcut-2")}
    over_classes = [row for row in rows if row["class"] is None and row["metric"] == "accuracy"]
    assert [row["seed"] for row in over_classes] == [0, None]
    logs = study / "results/which layers/logs"
    assert (logs / "train/digits-resnet18-seed0.log").stat().st_size > 0
    assert (logs / "evaluate/digits-shortcut-2.log").exists()
    assert "Nothing to be done" in snakemake(study, "-n", target).stdout


def only_error(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    (line,) = (line for line in lines if "nontrivial " in line and "rule" not in line)
    assert "Traceback" not in "\n".join(lines)
    return line


def test_a_prefix_is_refused(study):
    write(study, str(ROOT / "workflow" / "Snakefile"), 'prefix: "elsewhere"')
    assert "set results_dir" in only_error(snakemake(study, "-n"))


def test_a_remote_module_is_refused(study):
    handler = partial(SimpleHTTPRequestHandler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        write(study, f"http://127.0.0.1:{server.server_port}/workflow/Snakefile")
        done = snakemake(study, "-n")
        server.shutdown()
    assert "Clone the repository" in only_error(done)
