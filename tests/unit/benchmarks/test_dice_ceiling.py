"""The Dice ceiling: which masks the oracle can reach, and how scores are counted."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nontrivial.data.batches import MappedSamples, normalization
from nontrivial.errors import UserError
from nontrivial.formats import samples, weights
from nontrivial.formats.dataset import Description
from nontrivial.inference.dice import by_subject
from nontrivial.networks.building import build
from nontrivial.training.validation import mean_dice

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "dice_ceiling.py"
NAMES = ["background", "front", "back"]
CLASSES = len(NAMES)
CELLS = (4, 5)
CPU = torch.device("cpu")
CONFUSIONS = np.array([[[10, 1, 2], [3, 20, 4], [5, 6, 30]]])  # true class, predicted class


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("dice_ceiling", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def grid(program):
    return program.Grid(CELLS, nn.UpsamplingBilinear2d(scale_factor=8))


def score(program, confusions):
    """Return the Dice of slices of one subject, as the workflow defines it."""
    return program.mean_dice(program.subject_dice(np.zeros(len(confusions)), confusions))


def discs(count):
    """Return masks (N, 32, 40) of discs, the upper half front and the lower half back."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    centres = torch.rand(count, 2, 1, 1, generator=torch.Generator().manual_seed(0)) * 10
    down, right = rows - 11 - centres[:, 0], columns - 15 - centres[:, 1]
    inside = down**2 + right**2 < 64
    return torch.where(inside, torch.where(down < 0, 1, 2), 0).to(torch.uint8)


# The grid.


@pytest.fixture(scope="module")
def pspnet():
    torch.manual_seed(0)
    return build("pspnet_resnet34", None, CLASSES, 1, (16, 24)).eval()


def test_the_grid_of_a_pspnet_is_that_of_its_logits(program, pspnet):
    found = program.find_grid(pspnet, 1, (16, 24))
    assert found.size == (2, 3)
    assert found.upsampling is pspnet.segmentation_head[1]
    assert found.upsampling.align_corners
    images = torch.randn(2, 1, 16, 24)
    with torch.inference_mode():
        features = pspnet.decoder(pspnet.encoder(images))
        coarse = pspnet.segmentation_head[0](features)
        assert coarse.shape == (2, CLASSES, *found.size)
        assert torch.equal(found.upsampling(coarse), pspnet(images))


@pytest.mark.parametrize(
    "model",
    [
        nn.Conv2d(1, CLASSES, 1),
        nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(1, CLASSES, 3)),
    ],
    ids=["none", "not-last"],
)
def test_logits_that_are_not_upsampled_last_have_no_grid(program, model):
    with pytest.raises(UserError, match="no coarse grid"):
        program.find_grid(model, 1, (16, 24))


# The oracle.


def test_masks_that_the_grid_can_represent_are_found(program, grid):
    drawn = torch.randn(6, CLASSES, *CELLS, generator=torch.Generator().manual_seed(0))
    masks = grid.upsampling(drawn).argmax(dim=1).to(torch.uint8)
    assert score(program, program.search(masks, CLASSES, grid, 400)) > 0.99


def test_a_perfect_score_ends_the_search(program, grid, monkeypatch):
    masks = torch.zeros(2, 32, 40, dtype=torch.uint8)
    masks[:, :, 20:] = 1
    asked = []
    monkeypatch.setattr(program, "between", lambda ends, done: asked.append(done) or ends[0])
    assert score(program, program.search(masks, CLASSES, grid, 400)) == 1
    assert max(asked) < 1 / 2


def test_a_checkerboard_cannot_be_represented(program, grid):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    board = ((rows + columns) % 2).to(torch.uint8)[None]
    # Predicting foreground everywhere scores 2/3; no smooth mask scores much more.
    assert 2 / 3 <= score(program, program.search(board, 2, grid, 100)) < 0.7


def test_the_oracle_beats_good_logits_and_fewer_iterations(program, grid):
    masks = discs(6)
    # Logits that a good network might give: in each cell, the share of each class around it.
    parts = nn.functional.one_hot(masks.long(), CLASSES).movedim(-1, 1).float()
    said = grid.upsampling(nn.functional.adaptive_avg_pool2d(parts, CELLS)).argmax(dim=1)
    good = score(program, program.confusions(said, masks, CLASSES))
    few, half, whole = (
        score(program, program.search(masks, CLASSES, grid, iterations))
        for iterations in (20, 200, 400)
    )
    assert 0.3 < good < few < whole < 1
    assert abs(whole - half) < 0.01


def test_a_split_is_searched_by_subject_in_bounded_groups(program, grid, monkeypatch):
    masks = discs(6).numpy()
    masks[[0, 4]] = 0
    subjects = np.array(["b", "b", "a", "b", "a", "b"])
    monkeypatch.setattr(program, "PIXELS", 2 * masks[0].size)
    best = program.search_split(masks, subjects, CLASSES, grid, 20)
    for rows in ([2], [1, 3], [5]):
        found = program.search(torch.from_numpy(masks[rows]), CLASSES, grid, 20)
        assert np.array_equal(best[rows], found)
    assert (best[[0, 4], 0, 0] == masks[0].size).all()
    assert (best.sum(axis=(1, 2)) == masks[0].size).all()


# Scores.


def test_confusions_are_counted_by_true_and_predicted_class(program):
    predicted = torch.tensor([[[0, 1, 2]], [[2, 2, 0]]])
    masks = torch.tensor([[[0, 2, 2]], [[1, 1, 0]]], dtype=torch.uint8)
    wanted = [[[1, 0, 0], [0, 0, 0], [0, 1, 1]], [[1, 0, 0], [0, 0, 2], [0, 0, 0]]]
    assert program.confusions(predicted, masks, CLASSES).tolist() == wanted


def test_classes_are_merged(program):
    assert program.merged(CONFUSIONS).tolist() == [[[10, 3], [8, 60]]]


def test_detected_foreground_is_given_its_true_class(program):
    wanted = [[[10, 1, 2], [3, 24, 0], [5, 0, 36]]]
    assert program.rightly_named(CONFUSIONS).tolist() == wanted
    assert CONFUSIONS[0, 1].tolist() == [3, 20, 4]  # the input is not changed


def test_figures(program):
    front, back = 40 / (40 + 7 + 7), 60 / (60 + 6 + 11)
    named = (48 / (48 + 1 + 3) + 72 / (72 + 2 + 5)) / 2
    found = program.figures(np.array(["a"]), CONFUSIONS, NAMES)
    assert found["dice"] == pytest.approx((front + back) / 2, abs=1e-6)
    assert found["per_class"] == pytest.approx({"front": front, "back": back}, abs=1e-6)
    assert found["foreground"] == pytest.approx(120 / (120 + 3 + 8), abs=1e-6)
    assert found["right_class"] == pytest.approx(named, abs=1e-6)


def test_dice_equals_the_workflows(program):
    generator = np.random.default_rng(0)
    confusions = generator.integers(0, 50, (7, CLASSES, CLASSES))
    subjects = np.array(list("abacbba"))
    tp = confusions[:, [0, 1, 2], [0, 1, 2]]
    fp, fn = confusions.sum(axis=1) - tp, confusions.sum(axis=2) - tp
    _, wanted = by_subject(subjects, tp, fp, fn)
    np.testing.assert_array_equal(program.subject_dice(subjects, confusions), wanted[:, 1:])


# The program.


def description(task="segmentation", count=6):
    return Description(
        task=task,
        classes=NAMES,
        channels=1,
        size=(32, 40),
        dtype="float32",
        mean=[0.5],
        std=[2.0],
        counts={"train": 0, "val": count, "test": 0},
        sha256={},
    )


def write_data(folder):
    masks = discs(6).numpy()
    masks[3] = 0
    images = np.random.default_rng(0).normal(size=(6, 1, 32, 40)).astype(np.float32)
    (folder / "val").mkdir()
    np.save(folder / "val" / "images.npy", images + masks[:, None])
    np.save(folder / "val" / "labels.npy", masks)
    rows = [samples.Sample(source="scan", subject=name, slice=0) for name in "aabbcc"]
    samples.write(folder / "val" / "samples.parquet", rows)
    (folder / "dataset.json").write_text(description().to_json())


def test_the_program_prints_the_ceiling_and_the_trained_network(program, pspnet, tmp_path, capsys):
    write_data(tmp_path)
    weights.save(pspnet, tmp_path / "model.safetensors", {})
    options = ["--data", str(tmp_path), "--model", str(tmp_path / "model.safetensors")]
    options += ["--iterations", "40"]
    program.main(program.parser().parse_args(options))
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert (report["subjects"], report["slices"], report["slices_with_foreground"]) == (3, 6, 5)
    assert (report["size"], report["grid"]) == ([32, 40], list(CELLS))
    assert report["iterations"] == 40
    half, ceiling = report["ceiling_with_half_the_iterations"], report["ceiling"]
    assert half["dice"] > 0.5
    assert 0.5 < ceiling["dice"] <= ceiling["right_class"] <= 1
    images, masks = (np.load(tmp_path / "val" / f"{name}.npy") for name in ("images", "labels"))
    network = build("pspnet_resnet34", None, CLASSES, 1, (32, 40))
    weights.load(tmp_path / "model.safetensors", network)
    normalize = normalization([0.5], [2.0], CPU)
    split = MappedSamples(images, masks, CPU)
    trained = mean_dice(network, split, normalize, np.array(list("aabbcc")), CLASSES)
    assert 0 < trained < ceiling["dice"]
    assert report["trained"]["dice"] == pytest.approx(trained, abs=1e-6)
    assert "logits 4 x 5 for 32 x 40 pixels" in printed.err
    assert f"{ceiling['dice']:.4f}" in printed.err


def test_images_with_one_label_are_refused(program, tmp_path):
    (tmp_path / "dataset.json").write_text(description("classification").to_json())
    with pytest.raises(UserError, match="Dice needs masks"):
        program.main(program.parser().parse_args(["--data", str(tmp_path)]))
