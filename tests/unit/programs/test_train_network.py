import copy
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
from small_trainings import PROGRAM, SIZE, arguments_of, run, set_up, settings_of, table_of

from nontrivial.errors import UserError
from nontrivial.formats import weights
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.history import SCHEMA
from nontrivial.formats.snapshots import read_snapshot
from nontrivial.networks import building
from nontrivial.networks.factory import initialize
from nontrivial.networks.kernel_table import structure_digest
from nontrivial.training.loop import Training

STATES = ("model.safetensors", "snapshots.safetensors")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("task", "factory", "metric", "dice_weight"),
    [
        ("classification", "own_networks:classifier", "accuracy", 0),
        ("segmentation", "own_networks:segmenter", "dice", 0.5),
    ],
)
def test_what_a_training_leaves(place, task, factory, metric, dice_weight):
    kernels = table_of(place, "own", factory)
    target = run(place, settings_of("own", factory, dice_weight=dice_weight), task)

    assert sorted(path.name for path in target.iterdir()) == [
        ".kept",
        "model.json",
        "model.safetensors",
        "snapshots.safetensors",
        "training.parquet",
    ]
    found = json.loads((target / "model.json").read_text())
    assert found == {
        "sha256": file_digest(target / "model.safetensors"),
        "snapshots": file_digest(target / "snapshots.safetensors"),
    }
    model = building.build("own", factory, 2, 1, SIZE)
    metadata = weights.load(target / "model.safetensors", model)
    assert metadata == {"network": "own", "kernels": structure_digest(kernels)}

    history = pq.read_table(target / "training.parquet")
    assert history.schema.equals(SCHEMA)
    rows = history.to_pylist()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["test"] is None for row in rows] == [True, False]
    assert {row["metric"] for row in rows} == {metric}
    assert all(0 <= row["val"] <= 1 and row["loss"] > 0 for row in rows)
    assert rows[1]["learning_rate"] < rows[0]["learning_rate"]
    assert (rows[0]["threads"], rows[0]["precision"]) == (1, "fp32")
    assert "torch" in json.loads(rows[0]["versions"])


def change_arrays(content):
    content["sha256"]["more"] = "other"


def change_scale(content):
    content["normalization"]["std"] = [41.0]


def change_classes(content):
    content["classes"].append("never seen")


def describe_otherwise(change):
    def before(place):
        path = place / "classification" / "dataset.json"
        content = json.loads(path.read_text())
        change(content)
        del content["digest"]
        path.write_text(json.dumps(content))

    return before


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"seed": 1}, False),
        ({"code": "edited"}, False),
        ({"settings": {"learning_rate": 0.03}}, False),
        ({"before": describe_otherwise(change_arrays)}, False),
        ({"before": describe_otherwise(change_scale)}, False),
        ({"before": describe_otherwise(change_classes)}, False),
        ({"before": lambda place: (place / "out/.kept/model.safetensors").write_bytes(b"")}, False),
        ({"before": lambda place: (place / "out/.kept/model.json").unlink()}, False),
        ({"before": lambda place: (place / "out/.kept/training.parquet").unlink()}, False),
        ({"before": lambda place: (place / "out/.kept/snapshots.safetensors").unlink()}, False),
    ],
)
def test_what_was_trained_already_from_the_same_things_is_kept(place, change, kept):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    history = run(place, settings) / "training.parquet"
    before = history.read_bytes()  # it holds seconds: another training, another table
    change.get("before", lambda place: None)(place)
    settings["recipe"].update(change.get("settings", {}))
    for name in (*STATES, "model.json", "training.parquet"):
        (place / "out" / name).unlink()  # Snakemake removes outputs before a job
    run(place, settings, seed=change.get("seed", 0), code=change.get("code", "code"))
    assert (history.read_bytes() == before) == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "factory"),
    [
        ("classification", "own_networks:classifier"),
        ("segmentation", "own_networks:segmenter"),
    ],
)
def test_same_seed_same_bytes_in_another_process(place, task, factory):
    table_of(place, "own", factory)
    settings = settings_of("own", factory, dice_weight=0.5 if task == "segmentation" else 0)

    def digest_of(out, seed):
        line = [sys.executable, str(PROGRAM), *arguments_of(place, settings, out, task, seed)]
        line += ["--log", f"{out}/log"]
        subprocess.run(line, check=True, cwd=place, capture_output=True)
        return [file_digest(place / out / name) for name in STATES]

    first = digest_of("a", 3)
    assert digest_of("b", 3) == first
    log = (place / "a" / "log").read_text()
    assert "epoch 2/2: loss" in log
    assert digest_of("c", 4) != first


def test_it_learns(place):
    table_of(place, "own", "own_networks:segmenter")
    settings = settings_of("own", "own_networks:segmenter", epochs=20, learning_rate=0.3)
    settings["recipe"]["dice_weight"] = 0.5
    rows = pq.read_table(run(place, settings, "segmentation") / "training.parquet").to_pylist()
    assert rows[-1]["test"] > 0.9
    assert rows[-1]["loss"] < rows[0]["loss"] / 2


def test_a_loss_that_is_not_finite_is_placed(place):
    table_of(place, "own", "own_networks:diverging")
    with pytest.raises(UserError, match=r"out: the loss is not finite in epoch 2, step 1 of 2"):
        run(place, settings_of("own", "own_networks:diverging"))
    assert list((place / "out").iterdir()) == []


def test_a_learning_rate_far_too_high_is_told(place):
    table_of(place, "own", "own_networks:classifier")
    with pytest.raises(UserError, match=r"not finite.*try a lower learning_rate"):
        run(place, settings_of("own", "own_networks:classifier", learning_rate=1e30))


def test_out_of_memory_is_one_line(place):
    table_of(place, "own", "own_networks:hungry")
    with pytest.raises(UserError, match="memory with batch_size 8; lower batch_size") as caught:
        run(place, settings_of("own", "own_networks:hungry"))
    assert "\n" not in str(caught.value)


# The torchvision stem leaves one pixel of 16 x 16 before layer4: torch 2.14 leaves the gradient of
# the dead taps of a strided convolution unwritten there, in bf16 on a processor.
@pytest.mark.parametrize(
    ("task", "name", "dice_weight"),
    [("classification", "resnet18", 0), ("segmentation", "pspnet_resnet34", 0.5)],
)
def test_the_real_networks_train_in_bf16(place, task, name, dice_weight):
    table_of(place, name, None)
    settings = settings_of(name, dice_weight=dice_weight, precision="bf16", epochs=1)
    target = run(place, settings, task)
    model = building.build(name, None, 2, 1, SIZE)
    weights.load(target / "model.safetensors", model)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_snapshots_are_the_states_after_their_epochs(place):
    """A training of so many epochs would be another: the learning rate follows their number."""
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=4, snapshots=[0, 1, 3])
    states = {}
    true_run = Training.run

    def run_and_copy(training, *arguments):
        for epoch in true_run(training, *arguments):
            states[epoch.epoch] = copy.deepcopy(training._model.state_dict())
            yield epoch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Training, "run", run_and_copy)
        target = run(place, settings)
    for epoch in (1, 3):
        found = read_snapshot(target / "snapshots.safetensors", epoch)
        assert found.keys() == states[epoch].keys()
        assert all(torch.equal(value, states[epoch][name]) for name, value in found.items())
    assert not torch.equal(found["0.weight"], states[4]["0.weight"])
    with pytest.raises(UserError, match=r"no snapshot of epoch 2 \(stored: 1, 3\)"):
        read_snapshot(target / "snapshots.safetensors", 2)


def test_snapshots_change_nothing_else(place):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=3)
    weights_of = [
        (run(place, {**settings, "recipe": {**settings["recipe"], "snapshots": chosen}}, out=out))
        / "model.safetensors"
        for out, chosen in (("none", []), ("all", [0, 1, 2]))
    ]
    assert weights_of[0].read_bytes() == weights_of[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "factory"), [("own", "own_networks:classifier"), ("resnet18", None)]
)
def test_epoch_0_can_be_built_from_factory_and_seed(place, monkeypatch, name, factory):
    table_of(place, name, factory)
    settings = settings_of(name, factory, epochs=1, snapshots=[0])
    begun = {}

    def state_before(training, *arguments):
        begun.update(copy.deepcopy(training._model.state_dict()))
        raise UserError("stop here")

    monkeypatch.setattr(Training, "run", state_before)
    with pytest.raises(UserError, match="stop here"):
        run(place, settings, seed=3)
    torch.rand(5)  # the RNG state does not matter
    again = initialize(settings["network"]["factory"], 2, 1, SIZE, 3).state_dict()
    assert again.keys() == begun.keys()
    assert all(torch.equal(value, begun[name]) for name, value in again.items())


@pytest.mark.parametrize(("instructions", "told"), [(True, 0), (None, 0), (False, 1)])
def test_bf16_without_instructions_is_told_once(place, monkeypatch, caplog, instructions, told):
    table_of(place, "own", "own_networks:classifier")
    monkeypatch.setattr("train_network.devices.has_bf16_instructions", lambda device: instructions)
    run(place, settings_of("own", "own_networks:classifier", precision="bf16"))
    assert caplog.text.count("has no bf16 instructions") == told


@pytest.mark.slow
def test_a_compiled_training_is_a_training(place):
    table_of(place, "own", "own_networks:classifier")
    plain = run(place, settings_of("own", "own_networks:classifier"))
    compiled = run(
        place, settings_of("own", "own_networks:classifier", compile=True), out="compiled"
    )
    losses = [
        [row["loss"] for row in pq.read_table(target / "training.parquet").to_pylist()]
        for target in (plain, compiled)
    ]
    # The network's dropout draws otherwise when compiled.
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    model = building.build("own", "own_networks:classifier", 2, 1, SIZE)
    weights.load(compiled / "model.safetensors", model)


def test_without_a_compiler_compile_is_refused(place, monkeypatch):
    table_of(place, "own", "own_networks:classifier")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place / "cache"))
    with pytest.raises(UserError, match=r"torch\.compile failed \(.*\); fix this or set compile"):
        run(place, settings_of("own", "own_networks:classifier", compile=True))


def test_a_branch_that_opens_late_trains(place):
    """Its parameters get their first gradient when others have momentum already."""
    table_of(place, "own", "own_networks:late")
    target = run(place, settings_of("own", "own_networks:late"))
    model = building.build("own", "own_networks:late", 2, 1, SIZE)
    torch.manual_seed(0)
    begun = building.build("own", "own_networks:late", 2, 1, SIZE).late.weight
    weights.load(target / "model.safetensors", model)
    assert not torch.allclose(begun, model.late.weight)


def test_a_training_runs_the_check_first(place):
    table_of(place, "own", "own_networks:classifier")
    check = place / "check.py"
    check.write_text("import sys; sys.exit('error: the network is wrong')")
    table = place / "own.tsv"
    arguments = {"check": check, "kernel_table": table}
    settings = settings_of("own", "own_networks:classifier")
    with pytest.raises(UserError, match="the network is wrong"):
        run(place, settings, **arguments)
    assert not (place / "out" / "model.safetensors").exists()
    run(place, settings, check=PROGRAM.with_name("check_network.py"), kernel_table=table)
    run(place, settings, **arguments)  # reused: nothing is checked
