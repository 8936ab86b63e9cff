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
def folder(tmp_path, monkeypatch):
    """Return a working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("task", "factory", "metric", "dice_weight"),
    [
        ("classification", "own_networks:classifier", "accuracy", 0),
        ("segmentation", "own_networks:segmenter", "dice", 0.5),
    ],
)
def test_files_of_a_training(folder, task, factory, metric, dice_weight):
    kernels = table_of(folder, "own", factory)
    target = run(folder, settings_of("own", factory, dice_weight=dice_weight), task)

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
    def before(folder):
        path = folder / "classification" / "dataset.json"
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
        (
            {"before": lambda folder: (folder / "out/.kept/model.safetensors").write_bytes(b"")},
            False,
        ),
        ({"before": lambda folder: (folder / "out/.kept/model.json").unlink()}, False),
        ({"before": lambda folder: (folder / "out/.kept/training.parquet").unlink()}, False),
        ({"before": lambda folder: (folder / "out/.kept/snapshots.safetensors").unlink()}, False),
    ],
)
def test_a_network_of_the_same_inputs_is_reused(folder, change, kept):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier")
    history = run(folder, settings) / "training.parquet"
    before = history.read_bytes()  # has seconds, so that another training gives another table
    change.get("before", lambda folder: None)(folder)
    settings["recipe"].update(change.get("settings", {}))
    for name in (*STATES, "model.json", "training.parquet"):
        (folder / "out" / name).unlink()  # Snakemake removes outputs before a job
    run(folder, settings, seed=change.get("seed", 0), code=change.get("code", "code"))
    assert (history.read_bytes() == before) == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "factory"),
    [
        ("classification", "own_networks:classifier"),
        ("segmentation", "own_networks:segmenter"),
    ],
)
def test_same_seed_same_bytes_in_another_process(folder, task, factory):
    table_of(folder, "own", factory)
    settings = settings_of("own", factory, dice_weight=0.5 if task == "segmentation" else 0)

    def digest_of(out, seed):
        line = [sys.executable, str(PROGRAM), *arguments_of(folder, settings, out, task, seed)]
        line += ["--log", f"{out}/log"]
        subprocess.run(line, check=True, cwd=folder, capture_output=True)
        return [file_digest(folder / out / name) for name in STATES]

    first = digest_of("a", 3)
    assert digest_of("b", 3) == first
    log = (folder / "a" / "log").read_text()
    assert "epoch 2/2: loss" in log
    assert digest_of("c", 4) != first


def test_it_learns(folder):
    table_of(folder, "own", "own_networks:segmenter")
    settings = settings_of("own", "own_networks:segmenter", epochs=20, learning_rate=0.3)
    settings["recipe"]["dice_weight"] = 0.5
    rows = pq.read_table(run(folder, settings, "segmentation") / "training.parquet").to_pylist()
    assert rows[-1]["test"] > 0.9
    assert rows[-1]["loss"] < rows[0]["loss"] / 2


def test_a_loss_that_is_not_finite_is_an_error_with_its_step(folder):
    table_of(folder, "own", "own_networks:diverging")
    with pytest.raises(UserError, match=r"out: the loss is not finite in epoch 2, step 1 of 2"):
        run(folder, settings_of("own", "own_networks:diverging"))
    assert list((folder / "out").iterdir()) == []


def test_a_far_too_high_learning_rate_is_named(folder):
    table_of(folder, "own", "own_networks:classifier")
    with pytest.raises(UserError, match=r"not finite.*try a lower learning_rate"):
        run(folder, settings_of("own", "own_networks:classifier", learning_rate=1e30))


def test_out_of_memory_is_one_line(folder):
    table_of(folder, "own", "own_networks:hungry")
    with pytest.raises(UserError, match="memory with batch_size 8; lower batch_size") as caught:
        run(folder, settings_of("own", "own_networks:hungry"))
    assert "\n" not in str(caught.value)


# The torchvision stem leaves one pixel of 16 x 16 before layer4: torch 2.14 leaves the gradient of
# the dead taps of a strided convolution uninitialized there, in bf16 on a CPU.
@pytest.mark.parametrize(
    ("task", "name", "dice_weight"),
    [("classification", "resnet18", 0), ("segmentation", "pspnet_resnet34", 0.5)],
)
def test_the_real_networks_train_in_bf16(folder, task, name, dice_weight):
    table_of(folder, name, None)
    settings = settings_of(name, dice_weight=dice_weight, precision="bf16", epochs=1)
    target = run(folder, settings, task)
    model = building.build(name, None, 2, 1, SIZE)
    weights.load(target / "model.safetensors", model)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_snapshots_are_the_states_after_their_epochs(folder):
    """A shorter training gives other states, because the schedule depends on its epochs."""
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=4, snapshots=[0, 1, 3])
    states = {}
    true_run = Training.run

    def run_and_copy(training, *arguments):
        for epoch in true_run(training, *arguments):
            states[epoch.epoch] = copy.deepcopy(training._model.state_dict())
            yield epoch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Training, "run", run_and_copy)
        target = run(folder, settings)
    for epoch in (1, 3):
        found = read_snapshot(target / "snapshots.safetensors", epoch)
        assert found.keys() == states[epoch].keys()
        assert all(torch.equal(value, states[epoch][name]) for name, value in found.items())
    assert not torch.equal(found["0.weight"], states[4]["0.weight"])
    with pytest.raises(UserError, match=r"no snapshot of epoch 2 \(stored: 1, 3\)"):
        read_snapshot(target / "snapshots.safetensors", 2)


def test_snapshots_change_nothing_else(folder):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=3)
    weights_of = [
        (run(folder, {**settings, "recipe": {**settings["recipe"], "snapshots": chosen}}, out=out))
        / "model.safetensors"
        for out, chosen in (("none", []), ("all", [0, 1, 2]))
    ]
    assert weights_of[0].read_bytes() == weights_of[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "factory"), [("own", "own_networks:classifier"), ("resnet18", None)]
)
def test_epoch_0_can_be_built_from_factory_and_seed(folder, monkeypatch, name, factory):
    table_of(folder, name, factory)
    settings = settings_of(name, factory, epochs=1, snapshots=[0])
    initial = {}

    def state_before(training, *arguments):
        initial.update(copy.deepcopy(training._model.state_dict()))
        raise UserError("stop here")

    monkeypatch.setattr(Training, "run", state_before)
    with pytest.raises(UserError, match="stop here"):
        run(folder, settings, seed=3)
    torch.rand(5)  # the RNG state does not matter
    again = initialize(settings["network"]["factory"], 2, 1, SIZE, 3).state_dict()
    assert again.keys() == initial.keys()
    assert all(torch.equal(value, initial[name]) for name, value in again.items())


@pytest.mark.parametrize(("instructions", "warnings"), [(True, 0), (None, 0), (False, 1)])
def test_bf16_without_instructions_logs_one_warning(
    folder, monkeypatch, caplog, instructions, warnings
):
    table_of(folder, "own", "own_networks:classifier")
    monkeypatch.setattr("train_network.devices.has_bf16_instructions", lambda device: instructions)
    run(folder, settings_of("own", "own_networks:classifier", precision="bf16"))
    assert caplog.text.count("has no bf16 instructions") == warnings


@pytest.mark.slow
def test_a_compiled_training_has_similar_losses(folder):
    table_of(folder, "own", "own_networks:classifier")
    plain = run(folder, settings_of("own", "own_networks:classifier"))
    compiled = run(
        folder, settings_of("own", "own_networks:classifier", compile=True), out="compiled"
    )
    losses = [
        [row["loss"] for row in pq.read_table(target / "training.parquet").to_pylist()]
        for target in (plain, compiled)
    ]
    # Dropout draws other numbers when compiled.
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    model = building.build("own", "own_networks:classifier", 2, 1, SIZE)
    weights.load(compiled / "model.safetensors", model)


def test_without_a_compiler_compile_is_refused(folder, monkeypatch):
    table_of(folder, "own", "own_networks:classifier")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache"))
    with pytest.raises(UserError, match=r"torch\.compile failed \(.*\); fix this or set compile"):
        run(folder, settings_of("own", "own_networks:classifier", compile=True))


def test_a_branch_that_is_used_late_is_trained(folder):
    """Its parameters get their first gradient when others have momentum already."""
    table_of(folder, "own", "own_networks:late")
    target = run(folder, settings_of("own", "own_networks:late"))
    model = building.build("own", "own_networks:late", 2, 1, SIZE)
    torch.manual_seed(0)
    initial = building.build("own", "own_networks:late", 2, 1, SIZE).late.weight
    weights.load(target / "model.safetensors", model)
    assert not torch.allclose(initial, model.late.weight)


def test_a_training_runs_the_check_first(folder):
    table_of(folder, "own", "own_networks:classifier")
    check = folder / "check.py"
    check.write_text("import sys; sys.exit('error: the network is wrong')")
    table = folder / "own.tsv"
    arguments = {"check": check, "kernel_table": table}
    settings = settings_of("own", "own_networks:classifier")
    with pytest.raises(UserError, match="the network is wrong"):
        run(folder, settings, **arguments)
    assert not (folder / "out" / "model.safetensors").exists()
    run(folder, settings, check=PROGRAM.with_name("check_network.py"), kernel_table=table)
    run(folder, settings, **arguments)  # reused: nothing is checked
