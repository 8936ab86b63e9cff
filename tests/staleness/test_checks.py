"""Checks of networks: always before a training, and never a reason to train again."""

import re

import pytest

LIBRARY = "workflow/scripts/nontrivial"
CHECKS = {"check_network digits-resnet18", "check_network t1-pspnet"}


def edit(finished, name):
    path = finished.path(name)
    path.write_text(path.read_text() + "\nEDITED = True\n")


@pytest.mark.parametrize(
    "name",
    [
        "workflow/scripts/check_network.py",
        f"{LIBRARY}/networks/checks.py",
        f"{LIBRARY}/training/misfits.py",
    ],
)
def test_an_edited_check_checks_again_and_trains_nothing(finished, name):
    edit(finished, name)
    assert finished.stale() == CHECKS


def test_what_both_read_makes_both_stale(finished):
    """Snakemake 9.27 would miss the training if the check were an `ancient` input of it."""
    edit(finished, f"{LIBRARY}/training/recipe.py")
    stale = finished.stale()
    assert stale >= CHECKS | {"train digits-resnet18 0", "train t1-pspnet 0"}


def test_a_recipe_checks_and_trains_its_own_training(finished):
    config = finished.config
    config["trainings"]["t1-pspnet"]["recipe"]["learning_rate"] = 0.04
    finished.config = config
    stale = finished.stale()
    assert stale >= {"check_network t1-pspnet", "train t1-pspnet 0"}
    assert not stale & {"check_network digits-resnet18", "train digits-resnet18 0"}


def test_one_more_built_in_network_makes_nothing_stale(finished):
    path = finished.path(f"{LIBRARY}/networks/registry.py")
    text = path.read_text()
    new = text.replace('"resnet101")', '"resnet101", "resnet152")', 1)
    assert new != text
    path.write_text(new)
    (finished.path("resources/kernels/resnet152.tsv")).write_bytes(
        finished.path("resources/kernels/resnet101.tsv").read_bytes()
    )
    stale = finished.stale()
    assert not [job for job in stale if re.match("train|predict", job)]


def test_an_edit_to_one_network_trains_only_that(finished):
    edit(finished, f"{LIBRARY}/networks/pspnet.py")
    trained = {job for job in finished.stale() if job.startswith("train ")}
    assert trained == {"train t1-pspnet 0"}


def test_a_network_that_fails_its_check_is_not_trained(finished):
    """The training would go on with a wrong table; its own check stops it."""
    table = finished.path("resources/kernels/resnet18.tsv")
    table.write_text(table.read_text().replace("3x3", "5x5"))
    target = "results/networks/digits-resnet18/seed0/model.json"
    done = finished.snakemake("--cores", "1", target)
    log = finished.path("results/logs/train/digits-resnet18-seed0.log").read_text()
    assert done.returncode != 0
    assert "kernel_size is 5x5 in the table and 3x3 in the network" in log
    assert "epoch 1" not in log
