"""The jobs of a configuration, in a dry run and in the plan itself."""

import copy
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG, ROOT, copy_workflow, write_volumes

from nontrivial.errors import UserError
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.planning.plan import Plan, Spec

SCHEMA = read_schema(ROOT / "config" / "schema.yaml")


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    copied = copy_workflow(tmp_path_factory.mktemp("dag") / "workflow")
    write_volumes(copied.path("raw"))
    return copied


def plan(config):
    return Plan(complete(copy.deepcopy(config), SCHEMA), ROOT)


def counts(jobs):
    return Counter(job.split(" ")[0] for job in jobs)


def test_quick_start(workflow):
    workflow.config = yaml.safe_load((ROOT / "config" / "quickstart.yaml").read_text())
    found = counts(workflow.stale())
    assert (found["prepare"], found["train"], found["aggregate"]) == (2, 2, 1)
    assert (found["check_network"], found["summarize"]) == (2, 2)
    # ResNet34 has 36 layers, 4 blocks, 3 shortcuts and a baseline; the PSPNet has more layers.
    table = (ROOT / "resources" / "kernels" / "pspnet_resnet34.tsv").read_text().splitlines()
    assert found["evaluate"] == (36 + 4 + 3 + 1) + (len(table) - 1 + 4 + 3 + 1)
    assert found["predict"] == 2 * len(("baseline", "layers", "blocks-first-unit"))


def test_the_paper_has_both_tasks_and_every_reading(workflow):
    workflow.config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    jobs = workflow.stale()
    seeds = {job.split(" ")[2] for job in jobs if job.startswith("train cifar10-resnet34")}
    assert counts(jobs)["train"] == 2 * len(seeds)
    for n in (1, 2, 3, 4):
        for reading in ("first-unit", "next", "both-sides", "none"):
            for experiment in ("cifar10", "t1"):
                assert f"evaluate {experiment} block-{n}-{reading}" in jobs


def test_batches():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits"]["named_sets"] = {"mine": ["layer3.*.conv2"]}
    chosen = plan(config)
    assert set(chosen.batches("digits")) == {"baseline", "layers", "blocks-first-unit", "set-mine"}
    assert set(chosen.batches("t1")) == {"baseline", "blocks-first-unit", "shortcuts"}


def test_batch_by_target_predicts_each_kernel_set_once():
    chosen = plan({**CONFIG, "batch_by": "target"})
    batches = chosen.batches("digits")
    kernels = [json.loads(spec.text)["targets"][0]["kernels"] for spec in batches.values()]
    assert len(kernels) == len({tuple(names) for names in kernels}) == 20 + 4 + 1


def test_specs_are_named_by_their_content():
    specs = plan(CONFIG).specs()
    assert len({spec.path for spec in specs}) == len({spec.text for spec in specs})


def test_a_spec_is_written_once_and_repaired(tmp_path):
    spec = Spec(str(tmp_path / "specs" / "a.json"), "{}\n")
    path = Path(spec.path)
    spec.write()
    first = path.stat()
    spec.write()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    path.write_text("{")
    spec.write()
    assert path.read_text() == spec.text
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_dry_runs_write_the_specs_and_read_only_commands_do_not(workflow):
    workflow.config = CONFIG
    specs = workflow.path(CONFIG.get("results_dir", "results")) / "specs"
    shutil.rmtree(specs.parent, ignore_errors=True)
    workflow.snakemake("--list-rules")
    assert not specs.parent.exists()
    workflow.stale()
    written = {str(file.relative_to(workflow.folder)) for file in specs.iterdir()}
    assert written == {spec.path for spec in plan(CONFIG).specs()}


def test_unknown_module_path_is_named():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits"]["named_sets"] = {"mine": ["layer9.*"]}
    with pytest.raises(UserError, match=r"experiments\.digits.*layer9"):
        plan(config).targets("digits")


def test_unknown_example_target_is_named():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["t1"]["examples"] = {"targets": ["block-9-next"]}
    with pytest.raises(UserError, match=r"examples\.targets: no target 'block-9-next'"):
        plan(config).example_targets("t1")


def test_a_configuration_error_is_one_line_without_a_traceback(workflow):
    workflow.config = {**copy.deepcopy(CONFIG), "margin": "1e-1"}
    done = workflow.snakemake("-n")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "configuration: margin: YAML reads 1e-1 as text, not as a number. Write 0.1" in output
    assert "Traceback" not in output


def refused(workflow, changes, *arguments):
    """Return what a dry run prints about a data set whose settings are changed."""
    config = copy.deepcopy(CONFIG)
    config["datasets"]["t1"] |= changes
    workflow.config = config
    done = workflow.snakemake("-n", *arguments)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": "imgs"}, "datasets.t1: raw/imgs: no such folder"),
        ({"images": None, "labels": None, "table": "t1.tsv"}, "raw/t1.tsv: no such file"),
        ({"subject_table": "who.tsv"}, "raw/who.tsv: no such file"),
        ({"images": "images/{subject", "labels": "labels/{subject}.nii.gz"}, "brace without"),
        ({"images": "images/{subject}.nii", "labels": "labels/{subject}.nii"}, "no file matches"),
        ({"images": "images", "labels": "images"}, "images and labels are both 'images'"),
        ({"images": "*/{subject}.nii", "labels": "l/{subject}.nii"}, "'*' is not a wildcard"),
        ({"subject_pattern": "("}, "is not a regular expression"),
        ({"subject_pattern": "x"}, "s00.nii.gz (and 11 more): its name does not match"),
        ({"label_map": {0: 0, 1: 2}}, "1 is mapped to 2, which is not a class"),
    ],
)
def test_a_dry_run_finds_what_names_say(workflow, changes, said):
    assert said in refused(workflow, changes)


@pytest.mark.parametrize(
    "target",
    [
        *("networks", "predictions", "summary", "tables", "figures"),
        "results/data/t1/dataset.json",
        "results/figures/slices-t1.svg",
    ],
)
def test_every_target_says_in_one_line_that_raw_data_are_missing(workflow, target):
    output = refused(workflow, {"images": "imgs"}, target)
    assert output.count("datasets.t1: raw/imgs: no such folder") == 1
    assert "InputFunctionException" not in output


def test_prepared_data_are_kept_when_their_raw_data_are_gone(workflow):
    """Snakemake deleted them, because they were stale, before prepare failed."""
    config = copy.deepcopy(CONFIG)
    config["results_dir"] = "kept"
    for name in ("trainings", "experiments"):
        config[name] = {key: value for key, value in config[name].items() if key.startswith("t1")}
    workflow.config = config
    workflow.run("kept/data/t1/dataset.json")
    files = {path: path.read_bytes() for path in workflow.path("kept/data").rglob("*.*")}
    workflow.path("raw").rename(workflow.path("moved"))
    try:
        for arguments in (["-n"], ["-n", "data"], ["--cores", "1", "data"]):
            done = workflow.snakemake(*arguments)
            assert done.returncode != 0
            output = done.stdout + done.stderr
            assert f"datasets.t1: {workflow.path('raw')}: no such folder; set data_dir" in output
            assert "All results stay as they are until the raw data are back" in output
        assert {p: p.read_bytes() for p in workflow.path("kept/data").rglob("*.*")} == files
    finally:
        workflow.path("moved").rename(workflow.path("raw"))
    assert "prepare t1" not in workflow.stale()


def test_a_dry_run_finds_scans_of_one_subject_and_their_pattern(workflow):
    for kind in ("images", "labels"):
        for number in range(6):
            path = workflow.path(f"raw/scans/{kind}/OAS1_{number // 2:04d}_MR{number % 2}.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"voxels")
    folders = {kind: f"scans/{kind}" for kind in ("images", "labels")}
    output = refused(workflow, folders)
    assert "(and 2 more subjects likewise)" in output
    assert "Set subject_pattern: '(OAS[123]_?[0-9]{4})'" in output
    names = [f"OAS1_{number // 2:04d}_MR{number % 2}" for number in range(6)]
    rows = "".join(f"{name}\t{name}\n" for name in names)
    workflow.path("raw/who.tsv").write_text("image\tsubject\n" + rows)
    for rule, warns in (
        ({"subject_pattern": "(OAS[123]_?[0-9]{4})"}, False),
        ({"subject_table": "who.tsv"}, True),
        ({"one_subject_per_file": True}, False),
    ):
        config = copy.deepcopy(CONFIG)
        config["datasets"]["t1"] |= folders | rule
        workflow.config = config
        assert "prepare t1" in workflow.stale()
        done = workflow.snakemake("-n")
        said = done.stdout + done.stderr
        assert said.count("subject_table makes OAS1_0000_MR0, OAS1_0000_MR1") == warns


def test_one_data_set_does_not_need_the_files_of_another(workflow):
    digits = "results/data/digits/dataset.json"
    config = copy.deepcopy(CONFIG)
    config["datasets"]["t1"]["images"] = "imgs"
    workflow.config = config
    done = workflow.snakemake("-n", digits)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_section_on_the_command_line_is_refused(workflow):
    section = "trainings={digits-resnet18: {seeds: [0, 1]}}"
    output = refused(workflow, {}, "--config", section)
    assert "--config trainings=...: Snakemake reads the values in a section as text" in output
    assert refused(workflow, {}, "--config", "datasets=").count("--config datasets=...")
    output = refused(workflow, {}, "--config", "margin={a: 1}")
    assert "--config margin=...: margin is a single value, not a section or a list." in output
    output = refused(workflow, {}, "--config", "recipe={epochs: 1}")
    assert "configuration: (top level): unknown key 'recipe' (known: " in output


def test_a_single_value_on_the_command_line_is_used(workflow):
    config = copy.deepcopy(CONFIG)
    config["data_dir"] = "elsewhere"
    workflow.config = config
    assert "prepare t1" in workflow.stale("--config", "data_dir=raw")


def test_preparing_data_summarizes_them(workflow):
    workflow.config = CONFIG
    jobs = {f"{job} {name}" for job in ("prepare", "summarize") for name in ("digits", "t1")}
    assert workflow.stale("data") == jobs


def test_networks_do_not_need_the_summary_of_their_data(workflow):
    workflow.config = CONFIG
    assert counts(workflow.stale("networks"))["summarize"] == 0


def test_an_unused_data_set_is_not_prepared(workflow):
    config = copy.deepcopy(CONFIG)
    config["datasets"]["unused"] = {"source": "cifar10"}
    workflow.config = config
    assert "prepare unused" not in workflow.stale()


FACTORY = '''"""A plain network of the user's own."""

from torch import nn


def plain(classes, channels, size):
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes),
    )
'''


def own_network(workflow):
    workflow.path("mine.py").write_text(FACTORY)
    command = [sys.executable, "workflow/scripts/list_kernels.py", "--factory", "mine:plain"]
    command += ["--output", "mine.tsv", "--input-size", "32", "32", "--channels", "3"]
    subprocess.run(command, cwd=workflow.folder, check=True)
    config = copy.deepcopy(CONFIG)
    config["networks"] = {
        "plain": {"factory": "mine:plain", "kernels": "mine.tsv", "task": "classification"}
    }
    config["trainings"] = {"own": {**CONFIG["trainings"]["digits-resnet18"], "network": "plain"}}
    config["experiments"] = {"own": {"training": "own", "sets": ["layer"]}}
    return config


def test_a_custom_network(workflow):
    workflow.config = own_network(workflow)
    jobs = workflow.stale()
    assert {job for job in jobs if job.startswith("evaluate")} == {
        "evaluate own baseline",
        "evaluate own layer-0",
        "evaluate own layer-2",
    }


def test_editing_a_custom_network_changes_the_code_of_train(workflow):
    workflow.config = own_network(workflow)
    workflow.run("networks")
    assert workflow.stale("networks") == set()
    workflow.path("mine.py").write_text(FACTORY.replace("4, 4, 3, padding=1", "4, 4, 1"))
    assert workflow.stale("networks") == {"check_network own", "train own 0"}
    workflow.path("mine.py").write_text(FACTORY + "# a comment\n")
    assert workflow.stale("networks") == set()
