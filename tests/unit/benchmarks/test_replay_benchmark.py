"""The replay benchmark: both sides do the same work, and its figures are correct."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from replay_networks import state_digest
from torch import nn

from nontrivial.errors import UserError
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.replay.zeroing import zeroed

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "replay.py"
SIZE = 16
COUNT = 6
CLASSES = 4
TARGETS = {
    "baseline": (),
    "layer-stem": ("stem",),
    "layer-branch": ("branch",),
    "block-1-none": ("stem", "branch"),
    "shortcut-1": ("branch",),
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("replay_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Small(nn.Module):
    def __init__(self, dense):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.head = nn.Conv2d(8, CLASSES, 1)
        self.dense = dense

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.head(x + torch.relu(self.branch(x)))
        return x if self.dense else x.mean((2, 3))


@pytest.fixture(params=[False, True], ids=["classification", "segmentation"])
def case(benchmark, request):
    torch.manual_seed(0)
    model = Small(request.param)
    benchmark.calibrate(model, (2, SIZE, SIZE))
    model.eval().requires_grad_(False)
    return benchmark.Case(model, TARGETS, torch.randn(COUNT, 2, SIZE, SIZE), 4)


def expected(case, paths):
    """Return the logits of every sample with the kernels zeroed, batch by batch."""
    with torch.inference_mode(), zeroed(case.model, paths):
        return [case.model(images) for images in case.batches]


def test_the_naive_loop_does_one_pass_per_target_and_restores_the_weights(benchmark, case):
    before = state_digest(case.model)
    found = list(benchmark.naive_loop(case, case.batches, "fp32"))
    assert state_digest(case.model) == before
    wanted = [(name, logits) for name in TARGETS for logits in expected(case, TARGETS[name])]
    assert [name for name, _ in found] == [name for name, _ in wanted]
    for (_, logits), (_, right) in zip(found, wanted, strict=True):
        assert torch.equal(logits, right)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_figures(benchmark, case, precision):
    rates = {"fp32": 1e9, "bf16": 1e9}
    figures = benchmark.measure(case, precision, 3, rates)
    naive = ["naive_fp32"] if precision == "fp32" else ["naive_fp32", "naive_bf16"]
    assert list(figures["ratio"]) == naive
    assert list(figures["seconds"]) == [*naive, "replay"]
    for ratio in figures["ratio"].values():
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    answers = len(TARGETS) * COUNT * (SIZE**2 if case.model.dense else 1)
    assert all(found["answers"] == answers for found in figures["difference"].values())
    tolerance = 1e-4 if precision == "fp32" else 0.1
    assert figures["difference"]["replay"]["largest_relative_difference"] < tolerance
    if precision == "fp32":
        assert figures["difference"]["replay"]["changed"] == 0

    pixels, cost = SIZE**2, figures["multiply_accumulates_per_sample"]
    head = 8 * CLASSES * pixels
    stem, branch = 2 * 8 * 9 * pixels, 8 * 8 * 9 * pixels
    assert cost["passes"] == len(TARGETS) * (stem + branch + head)
    # With the stem zeroed no output depends on the sample; with the branch zeroed only the head
    # is left.
    assert cost["clean"] == stem + branch + head
    assert cost["recomputed"] == head
    assert figures["floor"]["every_tap"] == pytest.approx(
        cost["passes"] / (cost["clean"] + head), rel=1e-3
    )
    seconds = figures["seconds"]["replay"]["median"]
    useful = cost["live_clean"] + cost["live_recomputed"]
    assert figures["share_of_matrix_rate"]["replay"] == pytest.approx(
        useful * COUNT / seconds / 1e9, rel=1e-2
    )
    assert figures["samples_targets_per_second"]["replay"] == pytest.approx(
        len(TARGETS) * COUNT / seconds, rel=1e-2
    )


def test_changed_predictions_are_counted_with_their_margins(benchmark):
    naive = torch.tensor([[1.0, 3.0, 2.5], [4.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    other = naive.clone()
    other[0] = torch.tensor([1.0, 2.4, 2.5])
    difference = benchmark.Difference()
    difference.add(naive, other)
    figures = difference.figures()
    assert (figures["answers"], figures["changed"]) == (3, 1)
    assert figures["margins_of_changed"] == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert figures["largest_relative_difference"] == pytest.approx(0.6 / 4)


def test_changed_pixels_are_counted(benchmark):
    naive = torch.zeros(1, 2, 2, 2)
    naive[:, 1] = 1.0
    other = naive.clone()
    other[0, 0, 1, 0] = 2.0
    difference = benchmark.Difference()
    difference.add(naive, other)
    figures = difference.figures()
    assert (figures["answers"], figures["changed"]) == (4, 1)
    assert figures["changed_per_million"] == 250_000


def test_a_side_that_omits_a_target_is_refused(benchmark, case):
    def naive(images):
        return benchmark.naive_loop(case, [images], "fp32")

    def short(images):
        return list(naive(images))[1:]

    with pytest.raises(RuntimeError, match="short left out baseline"):
        benchmark.compare(naive, {"short": short}, case.batches)


def test_captum_has_the_effect_of_zeroing_a_kernel_without_bias(benchmark, case):
    layers = case.layers(5)
    assert layers.targets == {"layer-stem": ("stem",), "layer-branch": ("branch",)}
    clean = expected(layers, [])
    classes = [logits.argmax(dim=1) for logits in clean]
    found = list(benchmark.ablate(layers, classes))
    assert [name for name, _ in found] == ["layer-stem"] * 2 + ["layer-branch"] * 2
    for place, (name, attribution) in enumerate(found):
        batch = place % 2
        left = clean[batch] - expected(layers, TARGETS[name])[batch]
        lost = left.gather(1, classes[batch][:, None]).flatten(1).mean(dim=1)
        assert lost.abs().max() > 1e-3
        assert torch.allclose(attribution[:, 0, 0, 0], lost, atol=1e-5)


def write_data(folder):
    """Write a test split of 7 images; each pixel is twice the index of the image."""
    counts = dict.fromkeys(SPLITS, 0) | {"test": 7}
    (folder / "test").mkdir()
    values = np.arange(7, dtype=np.uint8)[:, None, None, None]
    np.save(folder / "test" / "images.npy", np.broadcast_to(2 * values, (7, 2, SIZE, SIZE)))
    np.save(folder / "test" / "labels.npy", np.zeros(7, np.int64))
    names = [f"c{number}" for number in range(5)]
    description = Description(
        "classification", names, 2, (SIZE, SIZE), "uint8", [2.0, 0.0], [1.0, 2.0], counts, {}
    )
    (folder / "dataset.json").write_text(description.to_json())


def test_real_samples_are_taken_from_the_whole_test_split_and_normalized(benchmark, tmp_path):
    write_data(tmp_path)
    options = ["--network", "resnet18", "--samples", "3", "--data", str(tmp_path)]
    case, about = benchmark.make_case("resnet18", benchmark.parser().parse_args(options))
    assert case.images[:, :, 0, 0].tolist() == [[-2.0, 0.0], [4.0, 3.0], [10.0, 6.0]]
    assert (about["samples"], about["batch_size"]) == (3, 3)
    assert (about["classes"], about["channels"], about["size"]) == (5, 2, [SIZE, SIZE])
    assert case.model.fc.out_features == 5
    assert len(case.targets) == 28
    assert not case.model.training


def test_the_program(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SIDE", 8)
    output = tmp_path / "figures.json"
    options = ["--network", "resnet18", "--samples", "2", "--size", "16", "--rounds", "1"]
    options += ["--threads", str(torch.get_num_threads()), "--captum", "1", "--output", str(output)]
    benchmark.main(benchmark.parser().parse_args(options))
    report = json.loads(output.read_text())
    (figures,) = report["cases"]
    assert (figures["network"], figures["samples"], figures["targets"]) == ("resnet18", 2, 28)
    memory = figures["memory_mib"]
    assert 0 < memory["libraries"] < memory["peak"]
    assert set(figures["captum"]["ratio"]) == {
        "captum_to_replay",
        "captum_to_naive",
        "naive_to_replay",
    }
    assert figures["captum"]["layer_targets"] == 20
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "resnet18, replay in fp32: 2 samples" in printed.err


@pytest.mark.parametrize("options", [["--model", "m"], ["--data", "d", "--size", "8"]])
def test_options_that_contradict_each_other_are_refused(benchmark, options):
    with pytest.raises(UserError, match=options[-2]):
        benchmark.main(benchmark.parser().parse_args(["--network", "resnet18", *options]))
