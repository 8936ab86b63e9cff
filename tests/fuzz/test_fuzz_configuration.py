"""Configurations near the real ones are planned, or refused in lines that name the key."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG, copy_workflow
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.errors import UserError
from nontrivial.formats.canonical import canonical
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.planning.plan import Plan

ROOT = Path(__file__).parents[2]
SCHEMA = read_schema(ROOT / "config" / "schema.yaml")
QUICKSTART = yaml.safe_load((ROOT / "config" / "quickstart.yaml").read_text())


def refused(config: object) -> str | None:
    """Complete and plan a configuration; return the error, whose form is checked, or None."""
    try:
        filled = complete(config, SCHEMA)
        specs = Plan(filled, ROOT).specs()
    except UserError as error:
        said = str(error)
    else:
        assert complete(copy.deepcopy(filled), SCHEMA) == filled
        assert canonical(filled)
        assert specs
        return None
    prefixes = ("configuration: ", "experiments.")
    assert all(line.startswith(prefixes) for line in said.splitlines()), said
    return said


# YAML files and messages of one line hold no control characters and line separators.
texts = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    texts,
    st.sampled_from(
        [
            -(2**63),
            float("nan"),
            float("inf"),
            "",
            "0",
            "1e-1",
            "..",
            "../../x",
            "a/b",
            "-rf",
            "$(touch harm)",
            "`touch harm`",
            "a;b",
            "{input}",
            "{{x}}",
            "ü" * 300,
            "digits",
            "resnet18",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.one_of(texts, st.integers(), st.none()), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def configurations(draw):
    """The quick start with some places changed, added, renamed or removed."""
    config = copy.deepcopy(QUICKSTART)
    for _ in range(draw(st.integers(1, 3))):
        place = config
        for _ in range(draw(st.integers(0, 4))):
            inner = [v for v in (place.values() if isinstance(place, dict) else place)]
            inner = [v for v in inner if isinstance(v, (dict, list)) and v]
            if not inner:
                break
            place = draw(st.sampled_from(inner))
        if isinstance(place, list):
            place[draw(st.integers(0, len(place) - 1))] = draw(values)
            continue
        key = draw(st.sampled_from(list(place)) | texts)
        action = draw(st.sampled_from(["set", "set", "remove", "rename"]))
        if action == "set":
            place[key] = draw(values)
        else:
            kept = place.pop(key, None)
            if action == "rename":
                place[draw(scalars.filter(lambda name: name == name))] = kept
    return config


@examples(120)
@given(configurations())
def test_near_the_real_one(config):
    refused(config)


@examples(40)
@given(values)
def test_anything(config):
    assert refused(config)


@pytest.mark.parametrize("section", ["datasets", "trainings", "experiments", "named_sets"])
@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a/b",
        "../a",
        "..",
        ".",
        "",
        "-rf",
        "$(touch harm)",
        "`touch harm`",
        "a;touch harm",
        "a'b",
        'a"b',
        "{seed}",
        "ü",
        "x" * 81,
    ],
)
def test_names_that_are_refused(section, name):
    config = copy.deepcopy(QUICKSTART)
    experiment = config["experiments"]["digits"]
    place = experiment.setdefault("named_sets", {}) if section == "named_sets" else config[section]
    place[name] = ["conv1"] if section == "named_sets" else next(iter(place.values()))
    said = refused(config)
    assert section in said


@pytest.mark.parametrize("name", ["a", "A-1_b", "0", "x" * 80])
def test_names_that_are_taken(name):
    config = copy.deepcopy(QUICKSTART)
    for section in ("datasets", "trainings", "experiments"):
        config[section][name] = copy.deepcopy(next(iter(config[section].values())))
    config["experiments"][name]["named_sets"] = {name: ["conv1"]}
    assert refused(config) is None


@pytest.mark.parametrize("key", ["results_dir", "data_dir"])
@pytest.mark.parametrize("value", ["", "-x", 3, None])
def test_folders_that_are_refused(key, value):
    assert key in refused(QUICKSTART | {key: value})


@pytest.mark.parametrize("value", ["{seed}/x", "a}"])
def test_a_results_folder_that_snakemake_would_read_as_a_pattern(value):
    assert "results_dir" in refused(QUICKSTART | {"results_dir": value})


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    return copy_workflow(tmp_path_factory.mktemp("configured") / "workflow")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'a: !!python/object/apply:os.system ["touch harm"]', "not valid JSON or YAML"),
        (b"datasets:\n\tx: 1", "not valid JSON or YAML"),
        (b"- 1", "keys at top level"),
        (yaml.safe_dump(CONFIG | {"experiments": {"$(touch harm)": {}}}).encode(), "experiments"),
    ],
)
def test_through_snakemake(workflow, text, said):
    workflow.path("test.yaml").write_bytes(text)
    done = workflow.snakemake("-n")
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in told
    assert "Traceback" not in told
    assert not re.search(r'File ".*\.py"', told)
    assert not workflow.path("harm").exists()
