"""The configuration: defaults, clear errors, cross-checks, and its description."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from describe_configuration import describe
from nontrivial.errors import UserError
from nontrivial.planning.configuration import (
    RESERVED_EXPERIMENTS,
    check_command_line,
    complete,
    read_schema,
    resolve,
)

ROOT = Path(__file__).parents[3]
SCHEMA = read_schema(ROOT / "config" / "schema.yaml")
QUICKSTART = yaml.safe_load((ROOT / "config" / "quickstart.yaml").read_text())


@pytest.fixture
def config():
    return copy.deepcopy(QUICKSTART)


def refused(config):
    with pytest.raises(UserError) as caught:
        complete(config, SCHEMA)
    return str(caught.value)


def volumes(**changes):
    return {"source": "nifti", "classes": ["background", "tumour"], **changes}


FOLDERS = {"images": "images", "labels": "labels"}


def assign(config, path, value):
    """Set the key at a dotted path."""
    *parents, last = path.split(".")
    for name in parents:
        config = config[name]
    config[last] = value


@pytest.mark.parametrize("name", ["config.yaml", "quickstart.yaml"])
def test_shipped_configurations_are_complete(name):
    filled = complete(yaml.safe_load((ROOT / "config" / name).read_text()), SCHEMA)
    assert filled["margin"] == 0.01
    for training in filled["trainings"].values():
        assert set(training["recipe"]) == set(SCHEMA["$defs"]["recipe"]["properties"])
        changes = SCHEMA["$defs"]["recipe"]["properties"]["augmentation"]["properties"]
        assert set(training["recipe"]["augmentation"]) == set(changes)


def test_defaults_are_filled_at_every_depth(config):
    filled = complete(config, SCHEMA)
    assert filled["datasets"]["mni152"]["size"] == [64, 64]
    assert filled["experiments"]["digits"]["examples"] == {"subjects": 3, "targets": []}
    assert "axis" not in filled["datasets"]["digits"]


def test_equal_numbers_become_equal_settings(config):
    other = copy.deepcopy(config)
    assign(config, "datasets.mni152.spacing", 2)
    assign(other, "datasets.mni152.spacing", 2.0)
    assign(config, "trainings.digits-resnet34.recipe.epochs", 12)
    assign(other, "trainings.digits-resnet34.recipe.epochs", 12.0)
    assert repr(complete(config, SCHEMA)) == repr(complete(other, SCHEMA))


def test_number_keys_of_a_label_map_are_text(config):
    config["datasets"]["mine"] = {
        "source": "nifti",
        "decathlon": "Task01",
        "classes": ["background", "tumour"],
        "label_map": {0: 0, 1: 1, 2: 1},
    }
    filled = complete(config, SCHEMA)
    assert filled["datasets"]["mine"]["label_map"] == {"0": 0, "1": 1, "2": 1}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("margn", 0.01, "unknown key 'margn' (did you mean 'margin'?)"),
        ("margin", "1e-1", "margin: YAML reads 1e-1 as text, not as a number. Write 0.1"),
        ("margin", 1.5, "margin: 1.5"),
        ("margin", None, "margin: None is not of type 'number'"),
        (
            "trainings.digits-resnet34.recipe.learning_rate",
            float("inf"),
            "inf is not a finite number",
        ),
        ("margin", float("nan"), "margin: nan is not a finite number"),
        ("datasets.mni152.size", [60, 64], "60 x 64 is not a multiple of 8, which pspnet_resnet34"),
        (
            "datasets.mine",
            volumes(fill=1e39),
            "mine.fill: 1e+39 is out of range. Write at most 3.4e",
        ),
        ("datasets.mine", volumes(affine_tolerance=float("inf")), "inf is not a finite number"),
        ("batch_by", "sets", "batch_by: 'sets' is not one of set, target"),
        ("datasets.digits.axis", "axial", "datasets.digits: unknown key 'axis'"),
        ("datasets.digits.source", "mnist", "datasets.digits.source: 'mnist' is not one of"),
        (
            "datasets.digits.fractions",
            {"train": 0.6, "val": 0.1, "test": 0.5},
            "they add up to 1.2",
        ),
        ("trainings.digits-resnet34.seeds", [], "trainings.digits-resnet34.seeds"),
        ("trainings.digits-resnet34.seeds", [0, 0], "trainings.digits-resnet34.seeds"),
        ("trainings.digits-resnet34.recipe.epochs", 0, "recipe.epochs"),
        ("trainings.digits-resnet34.recipe.epochs", True, "recipe.epochs"),
        ("trainings.digits-resnet34.recipe.precision", "fp16", "not one of fp32, bf16"),
        (
            "trainings.digits-resnet34.dataset",
            "digit",
            "no data set 'digit' (did you mean 'digits'",
        ),
        ("trainings.digits-resnet34.network", "resnet35", "no network 'resnet35'"),
        ("trainings.digits-resnet34.dataset", "mni152", "is for classification, data set 'mni152'"),
        ("experiments.digits.training", "digits", "no training 'digits'"),
        ("experiments.digits.readings", [], "the block set needs at least one reading"),
        ("experiments.data", {"training": "digits-resnet34"}, "is the name of a results folder"),
        ("experiments.a/b", {"training": "digits-resnet34"}, "'a/b' is not allowed"),
        (
            "networks",
            {"resnet34": {"factory": "m:f", "kernels": "k", "task": "classification"}},
            "networks.resnet34: a built-in network has this name",
        ),
    ],
)
def test_mistakes_are_named(config, path, value, said):
    assign(config, path, value)
    assert said in refused(config)


def test_every_mistake_is_one_line(config):
    config["margin"] = "1e-2"
    config["batch_by"] = 3
    lines = refused(config).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("configuration: ") for line in lines)


def test_missing_key_is_named(config):
    del config["trainings"]["digits-resnet34"]["recipe"]["epochs"]
    assert "recipe: key 'epochs' is missing" in refused(config)


def test_every_missing_key_is_named_once():
    said = refused({})
    for name in ("datasets", "trainings", "experiments"):
        assert said.count(f"key '{name}' is missing") == 1


def parts(part, path=""):
    part = resolve(part, SCHEMA)
    yield path, part
    for name, child in part.get("properties", {}).items():
        yield from parts(child, f"{path}.{name}" if path else name)
    for branch in part.get("allOf", []):
        yield from parts(branch["then"], path)
    if isinstance(part.get("additionalProperties"), dict):
        yield from parts(part["additionalProperties"], f"{path}.<name>")


def test_every_key_has_a_description_and_stands_in_the_readme():
    text = (ROOT / "config" / "README.md").read_text()
    for path, part in parts(SCHEMA):
        if path and not path.endswith("<name>"):
            assert part.get("description"), path
            assert f"`{path}`" in text, path


def test_readme_is_what_the_schema_says():
    assert (ROOT / "config" / "README.md").read_text() == describe(SCHEMA)


def test_shipped_configurations_use_known_keys_only_in_documented_places():
    known = {path for path, _ in parts(SCHEMA)}

    def used(value, path, part):
        part = resolve(part, SCHEMA)
        for branch in part.get("allOf", []):
            if branch["if"]["properties"]["source"]["const"] == value["source"]:
                part = resolve(branch["then"], SCHEMA)
        if isinstance(value, dict):
            for name, item in value.items():
                if name in part.get("properties", {}):
                    yield from used(item, f"{path}.{name}".lstrip("."), part["properties"][name])
                else:
                    yield from used(item, f"{path}.<name>", part["additionalProperties"])
        yield path

    for name in ("config.yaml", "quickstart.yaml"):
        config = yaml.safe_load((ROOT / "config" / name).read_text())
        assert set(used(config, "", SCHEMA)) <= known


def test_no_experiment_is_named_like_a_folder_of_the_results():
    library = ROOT / "workflow" / "scripts" / "nontrivial"
    files = [*(ROOT / "rules").glob("*.smk"), *library.rglob("*.py")]
    text = "".join(path.read_text() for path in files)
    folders = set(re.findall(r"\{(?:RESULTS|self\.results)\}/(\w+)[/\"]", text))
    assert {"data", "networks", "specs", "logs"} <= folders
    assert folders <= RESERVED_EXPERIMENTS


@pytest.mark.parametrize("name", sorted(RESERVED_EXPERIMENTS))
def test_every_reserved_name_is_refused(config, name):
    config["experiments"][name] = {"training": "digits-resnet34"}
    assert f"experiments.{name}: " in refused(config)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "set exactly one of"),
        ({"images": "images"}, "set exactly one of"),
        ({**FOLDERS, "table": "t.tsv"}, "set exactly one of"),
        ({**FOLDERS, "subject_pattern": "("}, "subject_pattern: '(' is not a regular expression"),
        ({**FOLDERS, "subject_pattern": "x", "subject_table": "y"}, "only one source of subjects"),
        ({"images": "a/{subject.nii", "labels": "b/{subject}.nii"}, "brace without"),
        ({"images": "a/{name}.nii", "labels": "b/{name}.nii"}, "has no {subject}"),
        ({"images": "a/{subject}{n}.nii", "labels": "b/{subject}.nii"}, "side by side"),
        ({**FOLDERS, "label_map": {0: 0, 1: 1, 2: 2}}, "2 is mapped to 2, which is not a class"),
        ({**FOLDERS, "label_map": {"other": 5, 0: 0, 1: 1}}, "other is mapped to 5"),
        ({**FOLDERS, "label_map": {0: 0}}, "no value is mapped to class tumour"),
    ],
)
def test_volumes_that_cannot_be_found_are_refused_at_once(config, changes, problem):
    config["datasets"]["mine"] = volumes(**changes)
    told = refused(config)
    assert told.startswith("configuration: datasets.mine: ")
    assert problem in told
    assert "\n" not in told


def test_patterns_are_kept_as_they_are(config):
    images = "sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_T1w.nii.gz"
    config["datasets"]["mine"] = volumes(images=images, labels=f"derivatives/{images}")
    assert complete(config, SCHEMA)["datasets"]["mine"]["images"] == images


@pytest.mark.parametrize(
    "given",
    [
        {"trainings": {"a": {"seeds": ["0"]}}},
        {"datasets": None},
        {"plots": "{dpi: 300"},
    ],
)
def test_sections_on_the_command_line_are_refused(given):
    with pytest.raises(UserError, match="run with --configfile") as caught:
        check_command_line(given, SCHEMA)
    assert f"--config {next(iter(given))}=" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"data_dir": {"a": ""}},
            "--config data_dir=...: data_dir is a single value, not a section",
        ),
        ({"margin": {"a": "1"}}, "Write, for example, --config margin=0.01"),
        ({"margin": ["0.1"], "batch_by": ["set"]}, "--config margin=... (and 1 more): margin is a"),
    ],
)
def test_sections_in_place_of_single_values(given, told):
    with pytest.raises(UserError) as caught:
        check_command_line(given, SCHEMA)
    assert told in str(caught.value)
    assert "--configfile" not in str(caught.value)


@pytest.mark.parametrize("value", [{"epochs": "1"}, ["1"], "x", None])
def test_unknown_keys_of_the_command_line_are_left_to_the_schema(config, value):
    check_command_line({"recipe": value}, SCHEMA)
    said = refused({**config, "recipe": value})
    assert said.startswith("configuration: (top level): unknown key 'recipe' (known: data_dir,")


def test_numbers_are_advised_in_a_form_that_yaml_reads(config):
    for text in ("1e39", "2e-07", "1.5e3", "1e-1"):
        config["margin"] = text
        advised = refused(config).split("Write ")[1].split(" ")[0]
        assert yaml.safe_load(advised) == float(text)


def test_single_values_on_the_command_line_are_allowed():
    check_command_line({"margin": 0.02, "data_dir": "raw", "unknown": "x"}, SCHEMA)
