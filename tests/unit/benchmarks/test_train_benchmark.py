"""The training benchmark: both sides do the same work, and its figures are correct."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torchvision import tv_tensors

from nontrivial.data.batches import normalization
from nontrivial.errors import UserError
from nontrivial.formats import samples
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.formats.samples import Sample
from nontrivial.training.augmentation import Augmentation

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "train.py"
NETWORKS = {"classification": "resnet18", "segmentation": "pspnet_resnet34"}
SIZE = 16
COUNTS = {"train": 12, "val": 3, "test": 4}
STEPS, BATCH, ROUNDS = 2, 4, 2
CLASSES = 3


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("train_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Small(nn.Module):
    """A small network that records the batch sizes it is trained and scored on."""

    def __init__(self, classes, channels, dense):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, classes, 1)
        self.dense = dense
        self.first_weights = self.stem.weight.detach().clone()
        self.batches, self.scored = [], []

    def forward(self, x):
        (self.batches if self.training else self.scored).append(len(x))
        x = self.head(torch.relu(self.norm(self.stem(x))))
        return x if self.dense else x.mean((2, 3))


@pytest.fixture
def made(benchmark, monkeypatch):
    """Replace every network with a small one; return the list of those that are built."""
    networks = []

    def build(name, factory, classes, channels, size):
        networks.append(Small(classes, channels, name.startswith("pspnet")))
        return networks[-1]

    monkeypatch.setattr(benchmark, "build", build)
    return networks


def arguments_of(benchmark, *options):
    return benchmark.parser().parse_args(list(map(str, options)))


def case_of(benchmark, task, *options):
    few = ["--steps", STEPS, "--batch-size", BATCH, "--rounds", ROUNDS, "--size", SIZE]
    name = NETWORKS[task]
    return benchmark.make_case(name, arguments_of(benchmark, "--network", name, *few, *options))


@pytest.mark.parametrize("task", NETWORKS)
def test_both_sides_train_the_same_network_on_as_many_samples(benchmark, made, task):
    case, about = case_of(benchmark, task)
    figures = benchmark.measure(case, [0, 1])
    sides = ["ours_bf16", "ours_fp32", "theirs_workers_0", "theirs_workers_1"]
    assert list(figures["seconds"]) == list(figures["samples_per_second"]) == sides
    assert list(figures["ratio"]) == sides[:2]
    assert figures["rounds"] == ROUNDS
    assert about["samples_per_round"] == STEPS * BATCH == len(case.images)
    assert len(made) == len(sides)
    for network in made:
        assert network.batches == [BATCH] * STEPS * (ROUNDS + 1)
        assert not torch.equal(network.stem.weight, network.first_weights)
    for one, other in pairwise(made):
        assert torch.equal(one.first_weights, other.first_weights)


def test_the_ratio_is_to_the_fastest_of_their_variants(benchmark, made):
    case, _ = case_of(benchmark, "classification", "--precision", "fp32")
    taken = {
        "ours_fp32": [1.0, 2.0, 4.0],
        "theirs_workers_0": [3.0, 9.0, 9.0],
        "theirs_workers_1": [2.0, 6.0, 6.0],
        "theirs_workers_2": [7.0, 7.0, 7.0],
    }
    figures = benchmark.figures_of(case, taken)
    assert figures["fastest_of_theirs"] == "theirs_workers_1"
    assert figures["ratio"] == {"ours_fp32": {"median": 2.0, "min": 1.5, "max": 3.0}}
    assert figures["samples_per_second"]["ours_fp32"] == STEPS * BATCH / 2
    assert figures["to_reach"] == 1.3


def test_variants_of_ours_differ_in_arithmetic_only(benchmark, made):
    case, _ = case_of(benchmark, "segmentation", "--compile")
    plain, reduced, built = (
        vars(case.recipes[name]) for name in ("ours_fp32", "ours_bf16", "ours_bf16_compiled")
    )
    assert case.recipe == case.recipes["ours_bf16"]
    assert {key for key in plain if plain[key] != reduced[key]} == {"precision"}
    assert {key for key in plain if reduced[key] != built[key]} == {"compile"}


@pytest.mark.parametrize("task", NETWORKS)
def test_both_sides_normalize_in_the_same_way(benchmark, made, monkeypatch, task):
    monkeypatch.setitem(benchmark.DEFAULTS[task].recipe, "augmentation", {})
    case, _ = case_of(benchmark, task)
    assert case.recipe.augmentation == Augmentation()
    assert case.images.dtype == (np.uint8 if task == "classification" else np.float32)
    theirs = benchmark.InMemory(case)
    images, labels = zip(*(theirs[row] for row in range(len(theirs))), strict=True)
    ours = normalization(case.mean, case.std, case.device)(torch.from_numpy(case.images))
    assert torch.allclose(torch.stack(images), ours, atol=1e-5)
    assert ours.std() > 0.9
    assert np.array_equal(np.stack(labels), case.labels)


def test_their_mask_moves_with_the_image(benchmark, made, monkeypatch):
    change = {"flip": True, "translation": 0.25}
    monkeypatch.setitem(benchmark.DEFAULTS["segmentation"].recipe, "augmentation", change)
    case, _ = case_of(benchmark, "segmentation")
    case.mean[:], case.std[:] = [0.0], [1.0]
    case.images[:, 0] = case.labels
    theirs = benchmark.InMemory(case)
    moved = [theirs[row] for row in range(len(theirs))]
    for image, mask in moved:
        assert torch.allclose(image[0], mask.float(), atol=1e-3)
    assert any(not np.array_equal(mask, case.labels[row]) for row, (_, mask) in enumerate(moved))


def test_their_intensity_change_equals_ours(benchmark):
    intensity = benchmark.Intensity(brightness=0.5, contrast=0.25)
    image = torch.randn(1, SIZE, SIZE)
    mask = torch.randint(CLASSES, (SIZE, SIZE), dtype=torch.uint8)
    factors, added = [], []
    for _ in range(200):
        changed, same = intensity(tv_tensors.Image(image), tv_tensors.Mask(mask))
        assert torch.equal(same, mask)
        factors.append(float(changed.std() / image.std()))
        added.append(float(changed.mean() - image.mean()))
    assert -0.5 <= min(added) < -0.4 < 0.4 < max(added) <= 0.5
    assert 0.75 - 1e-4 <= min(factors) < 0.8 < 1.2 < max(factors) <= 1.25 + 1e-4
    expected = (image - image.mean()) * factors[-1] + image.mean() + added[-1]
    assert torch.allclose(changed, expected, atol=1e-4)


def prepare(folder, task):
    """Write prepared data; each pixel is the index of its image in the split."""
    masks = task == "segmentation"
    for split, count in COUNTS.items():
        (folder / split).mkdir(parents=True)
        numbers = np.arange(count, dtype=np.float32 if masks else np.uint8)
        images = np.broadcast_to(numbers[:, None, None, None], (count, 1, SIZE, SIZE))
        labels = np.ones((count, SIZE, SIZE), np.uint8) if masks else np.zeros(count, np.int64)
        np.save(folder / split / "images.npy", images)
        np.save(folder / split / "labels.npy", labels)
        rows = [Sample("made", f"person{row}", row, None if masks else 0) for row in range(count)]
        samples.write(folder / split / "samples.parquet", rows)
    names = [f"c{number}" for number in range(CLASSES)]
    dtype = "float32" if masks else "uint8"
    description = Description(
        task, names, 1, (SIZE, SIZE), dtype, [5.0], [3.0], COUNTS, dict.fromkeys(SPLITS, "")
    )
    (folder / "dataset.json").write_text(description.to_json())
    return folder


def test_prepared_data_give_the_first_training_samples(benchmark, made, tmp_path):
    data = prepare(tmp_path / "made", "classification")
    options = ["--data", data, "--steps", "2", "--batch-size", "4"]
    case, about = benchmark.make_case("resnet18", arguments_of(benchmark, *options))
    assert case.images[:, 0, 0, 0].tolist() == list(range(8))
    assert (case.mean, case.std) == ([5.0], [3.0])
    assert (about["data"], about["classes"], about["size"]) == ("made", CLASSES, [SIZE, SIZE])


def test_too_few_samples_are_refused(benchmark, tmp_path):
    data = prepare(tmp_path, "classification")
    options = ["--data", data, "--steps", "4", "--batch-size", "4"]
    with pytest.raises(UserError, match="train has 12 samples, and 4 steps of 4 need 16"):
        benchmark.main(arguments_of(benchmark, *options))


def test_the_program(benchmark, made, tmp_path, capsys):
    output = tmp_path / "figures.json"
    options = ["--network", *NETWORKS.values(), "--workers", "0", "--steps", "1", "--rounds", "1"]
    options += ["--threads", torch.get_num_threads(), "--batch-size", "2", "--size", SIZE]
    benchmark.main(arguments_of(benchmark, *options, "--output", output))
    report = json.loads(output.read_text())
    assert {"date", "device", "threads", "versions", "clock"} < set(report)
    assert [figures["network"] for figures in report["cases"]] == list(NETWORKS.values())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "resnet18: 1 steps of 2 samples (random) of 16 x 16 a round, 1 rounds" in printed.err
    assert "to reach 1.3 on two CPU cores; 5 on a GPU" in printed.err


@pytest.mark.parametrize("task", NETWORKS)
@pytest.mark.parametrize("wanted", [0, 1.01])
def test_time_to_a_score_with_a_recipe(benchmark, made, tmp_path, capsys, task, wanted):
    data = prepare(tmp_path / "made", task)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps({"epochs": 2, "batch_size": 4, "threads": torch.get_num_threads()})
    )
    options = ["--to-accuracy", wanted, "--network", NETWORKS[task]]
    benchmark.main(arguments_of(benchmark, *options, "--data", data, "--recipe", recipe))
    printed = capsys.readouterr()
    figures = json.loads(printed.out)["to_accuracy"]
    assert figures["metric"] == ("accuracy" if task == "classification" else "dice")
    assert figures["reached"] == (wanted == 0)
    assert len(figures["val"]) == 2
    assert figures["recipe"]["weight_decay"] == 5e-4  # the workflow's default
    before, steps = figures["seconds_before_the_first_step"], figures["seconds_of_steps"]
    assert 0 < before < before + steps < figures["wall_seconds"] * 1.01
    assert ("not reached" in printed.err) == (wanted == 1.01)
    (network,) = made
    assert network.batches == [4] * 6
    # The first batch, of one image, finds the taps that meet data.
    assert network.scored == [1] + [COUNTS["val"]] * 2 + [COUNTS["test"]]


def test_time_to_a_score_of_a_configured_training(benchmark, made, tmp_path, capsys):
    data = prepare(tmp_path / "made", "classification")
    training = {
        "dataset": "cifar10",
        "network": "resnet18",
        "recipe": {"epochs": 1, "batch_size": 6, "threads": torch.get_num_threads()},
    }
    config = {
        "datasets": {"cifar10": {"source": "cifar10"}},
        "trainings": {"mine": training},
        "experiments": {"zero": {"training": "mine"}},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    options = ["--to-accuracy", "0", "--data", data, "--configfile", path, "--training"]
    benchmark.main(arguments_of(benchmark, *options, "mine"))
    figures = json.loads(capsys.readouterr().out)["to_accuracy"]
    assert (figures["network"], figures["recipe"]["batch_size"]) == ("resnet18", 6)
    with pytest.raises(UserError, match="no training 'other'; the configuration has mine"):
        benchmark.main(arguments_of(benchmark, *options, "other"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "r"], "--recipe: only with --to-accuracy"),
        (["--training", "t"], "--training: only with --to-accuracy"),
        (["--data", "d", "--size", "8"], "--size"),
        (["--to-accuracy", "0"], "--data"),
        (["--to-accuracy", "0", "--data", "d"], "--recipe or with --configfile"),
        (["--to-accuracy", "0", "--data", "d", "--configfile", "c"], "--training"),
        (["--to-accuracy", "0", "--data", "d", "--steps", "2", "--compile"], "--steps, --compile"),
        (
            ["--to-accuracy", "0", "--data", "d", "--recipe", "r", "--network", *NETWORKS.values()],
            "name one",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(benchmark, options, message):
    with pytest.raises(UserError, match=message):
        benchmark.main(arguments_of(benchmark, *options))


@pytest.mark.parametrize("options", [["--steps", "0"], ["--workers", "-1"], ["--threads", "two"]])
def test_numbers_out_of_range_are_refused(benchmark, options, capsys):
    with pytest.raises(SystemExit):
        arguments_of(benchmark, *options)
    assert f"{options[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 1, "speed": 2}', "unknown key 'speed'"),
        ('{"epochs": 0}', "recipe.epochs"),
        ("{", "cannot be read"),
        ("[1]", "contains no keys"),
    ],
)
def test_an_invalid_recipe_is_refused(benchmark, tmp_path, text, message):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(text)
    options = ["--to-accuracy", "0", "--data", tmp_path, "--recipe", recipe]
    with pytest.raises(UserError, match=message):
        benchmark.main(arguments_of(benchmark, *options))
