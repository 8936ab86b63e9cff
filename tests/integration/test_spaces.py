"""Checkout, data and results in folders whose names contain spaces."""

import copy
import re

from conftest import CONFIG, ROOT, copy_workflow, write_volumes

# One word whatever it contains: quoted, or no text that a user chooses.
QUOTED = re.compile(r"\{[^{}]+:q\}|\{threads\}|\{wildcards\.seed\}")


def test_a_small_run_and_its_report(tmp_path):
    workflow = copy_workflow(tmp_path / "a folder" / "my checkout")
    config = copy.deepcopy(CONFIG)
    config |= {"results_dir": "my results", "data_dir": "raw data"}
    config["datasets"]["digits"]["fractions"] = {"train": 0.05, "val": 0.05, "test": 0.9}
    config["trainings"]["digits-resnet18"]["recipe"]["batch_size"] = 32
    config["experiments"]["digits"]["sets"] = ["shortcut"]
    del config["trainings"]["t1-pspnet"], config["experiments"]["t1"]
    workflow.config = config
    write_volumes(workflow.path("raw data"))
    workflow.run()
    workflow.run("my results/data/t1/dataset.json")
    assert workflow.stale() == set()
    done = workflow.snakemake("--report", "my results/report.html")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "summary.parquet",
        "figures/interventions-digits.svg",
        "data/t1/dataset.json",
        "report.html",
    ):
        assert workflow.path(f"my results/{name}").stat().st_size
    assert sorted(path.name for path in (tmp_path / "a folder").iterdir()) == ["my checkout"]


def test_every_rule_quotes_what_it_passes_to_the_shell():
    for path in (ROOT / "rules").glob("*.smk"):
        for block in re.findall(r"\n    shell:\n((?: {8}.*\n|\n)+)", path.read_text()):
            left = QUOTED.sub("", block)
            assert "{" not in left, f"{path.name}: {left}"
