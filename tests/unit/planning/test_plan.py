"""Which data sets the rules and files of a command line need."""

import copy
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT

from nontrivial.planning.configuration import complete, read_schema
from nontrivial.planning.plan import Plan


@pytest.fixture(scope="module")
def plan():
    config = copy.deepcopy(CONFIG)
    config["datasets"] |= {"mine": CONFIG["datasets"]["t1"], "unused": CONFIG["datasets"]["t1"]}
    config["trainings"]["only-trained"] = {**CONFIG["trainings"]["t1-pspnet"], "dataset": "mine"}
    return Plan(complete(config, read_schema(ROOT / "config" / "schema.yaml")), ROOT)


@pytest.mark.parametrize(
    ("target", "datasets"),
    [
        *((rule, "digits mine t1") for rule in ("all", "data", "networks")),
        *((rule, "digits t1") for rule in ("predictions", "summary", "tables", "figures")),
        ("results/summary.parquet", "digits t1"),
        ("results/tables/paper.csv", "digits t1"),
        ("results/data/t1/dataset.json", "t1"),
        ("results/data/unused/train/images.npy", "unused"),
        ("results/networks/only-trained/seed0/model.safetensors", "mine"),
        ("results/t1/zero/targets/baseline.parquet", "t1"),
        ("results/figures/layers-digits.svg", "digits"),
        ("results/figures/learning-t1-pspnet.svg", "t1"),
        ("results/tables/targets-t1.csv", "t1"),
        ("./results/data/../data/t1", "t1"),
        (str(Path("results/data/t1").absolute()), "t1"),
        *((name, "") for name in ("nothing", "results/nothing/x", "results/data", "t1")),
        *((f"results/{name}", "") for name in ("data/x/y", "networks/x/y", "figures/layers-x.svg")),
    ],
)
def test_what_a_target_needs(plan, target, datasets):
    assert plan.needed_datasets([target]) == datasets.split()


def test_what_several_targets_need(plan):
    targets = ["results/data/t1/dataset.json", "results/digits/seed0/zero/examples.parquet"]
    assert plan.needed_datasets(targets) == ["digits", "t1"]
    assert plan.needed_datasets([]) == []
