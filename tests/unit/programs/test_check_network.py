"""The check of a network finds before the training what would fail during or after it."""

import json
import re
import sys

import numpy as np
import pytest
from small_trainings import RECIPE, set_up, settings_of, table_of

from check_network import check_network
from nontrivial.errors import UserError

BAD = """
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from own_networks import Classifier, Small


class RandomInEvaluation(Classifier):
    def forward(self, images):
        return functional.dropout(super().forward(images))


class ChangesInEvaluation(Classifier):
    def forward(self, images):
        self[1].running_mean += 1
        return super().forward(images)


class TupleInTraining(Classifier):
    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class OneLogit(Classifier):
    def forward(self, images):
        return super().forward(images)[:, :1]


class FailsInTraining(Classifier):
    def forward(self, images):
        if self.training:
            raise KeyError("width")
        return super().forward(images)


class Complex(Classifier):
    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.register_buffer("phase", torch.zeros(2, dtype=torch.complex128))


def normalized(classes, channels):
    network = Classifier(classes, channels)
    parametrizations.weight_norm(network[0])
    return network


def pruned(classes, channels):
    network = Classifier(classes, channels)
    prune.identity(network[0], "weight")
    return network


def factory(name):
    return lambda classes, channels, size: globals()[name](classes, channels)


random, changing, tuples, one_logit, failing, unsaved, weight_norm, pruning = map(
    factory,
    ["RandomInEvaluation", "ChangesInEvaluation", "TupleInTraining", "OneLogit",
     "FailsInTraining", "Complex", "normalized", "pruned"],
)
"""


MISREAD = """
import torch.nn.functional as F
from torch import nn


def followed(convolution, classes):
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def one_column(classes, channels, size):
    return followed(nn.Conv2d(channels, 4, (3, 16), (1, 2)), classes)


class Functional(nn.Module):
    def __init__(self, channels, computed):
        super().__init__()
        self.scaled = nn.Parameter(nn.Conv2d(channels, 4, (3, 16)).weight.detach())
        self.computed = computed
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        weight = 2 * self.scaled if self.computed else self.scaled
        return self.last(F.conv2d(x, weight, None, (1, 2)))


def functional(classes, channels, size):
    return followed(Functional(channels, False), classes)


def computed(classes, channels, size):
    return followed(Functional(channels, True), classes)


class Deep(nn.Conv3d):
    def forward(self, x):
        return super().forward(x.unsqueeze(2)).squeeze(2)


def one_depth(classes, channels, size):
    return followed(Deep(channels, 4, 3, padding=1), classes)


def one_tap(classes, channels, size):
    return followed(nn.Conv2d(channels, 4, (3, 1), 2, dilation=2), classes)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with networks and data."""
    folder = set_up(tmp_path, monkeypatch)
    (folder / "bad_networks.py").write_text(BAD)
    monkeypatch.delitem(sys.modules, "bad_networks", raising=False)
    return folder


def check(folder, settings, task="classification"):
    name = settings["network"]["name"]
    check_network(settings, folder / task, folder / f"{name}.tsv", folder / "checked.json")


@pytest.mark.parametrize(
    ("name", "factory", "task"),
    [
        ("own", "own_networks:classifier", "classification"),
        ("own", "own_networks:segmenter", "segmentation"),
        ("resnet18", None, "classification"),
        ("pspnet_resnet34", None, "segmentation"),
    ],
)
def test_a_good_network_passes(folder, name, factory, task):
    kernels = table_of(folder, name, factory)
    check(folder, settings_of(name, factory), task)
    found = json.loads((folder / "checked.json").read_text())
    assert found["network"] == name
    assert found["kernels"] == len(kernels)
    assert found["parameters"] > 100


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("random", "random in evaluation mode"),
        ("changing", r"changes 1\.running_mean in evaluation mode"),
        ("tuples", "returns tuple in training mode"),
        ("one_logit", r"returns \(4, 1\) in evaluation mode for classification, not \(4, 2\)"),
        ("failing", r"fails in training mode on images \(4, 1, 16, 16\) \(KeyError: 'width'\)"),
        ("unsaved", r"state dict, phase: tensors of torch\.complex128 cannot be saved"),
        ("weight_norm", r"0: its weight is computed from other parameters"),
        ("pruning", r"0: its weight is computed from other parameters"),
    ],
)
def test_a_bad_network_is_refused_in_one_line(folder, function, message):
    table_of(folder, "own", "own_networks:classifier")
    with pytest.raises(UserError, match=f"network own: .*{message}") as caught:
        check(folder, settings_of("own", f"bad_networks:{function}"))
    assert "\n" not in str(caught.value)
    assert not (folder / "checked.json").exists()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("one_column", r"0: on a CPU with AVX-512, .* train on a GPU or in fp32"),
        ("functional", r"0\.scaled: on a CPU with AVX-512, "),
        ("computed", r"a computed kernel \(4, 1, 3, 16\): on a CPU with AVX-512, "),
        ("one_depth", r"0: on a CPU with AVX-512, "),
        ("one_tap", r"0: on a CPU, .* set the dilation to 1 along that axis"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_torch_misreads_in_bf16_is_said(folder, function, message, precision, caplog):
    factory = f"misread_networks:{function}"
    (folder / "misread_networks.py").write_text(MISREAD)
    table_of(folder, "own", factory)
    check(folder, settings_of("own", factory, precision=precision))
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == (precision == "bf16")
    assert all(re.match(message, warning) for warning in warnings)


def test_a_state_that_is_not_a_tensor_is_refused(folder):
    table_of(folder, "own", "own_networks:extra")
    with pytest.raises(UserError, match=r"state dict, _extra_state: dict cannot be saved"):
        check(folder, settings_of("own", "own_networks:extra"))


def test_the_table_of_another_network_is_refused(folder):
    table_of(folder, "own", "own_networks:classifier")
    text = (folder / "own.tsv").read_text()
    (folder / "own.tsv").write_text(text.replace("3x3", "5x5"))
    with pytest.raises(UserError, match=r"own\.tsv.*kernel_size is 5x5"):
        check(folder, settings_of("own", "own_networks:classifier"))


def test_network_and_data_must_be_of_one_task(folder):
    table_of(folder, "resnet18", None)
    with pytest.raises(UserError, match="resnet18 is for classification"):
        check(folder, settings_of("resnet18"), "segmentation")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dice_weight": 0.5}, "dice_weight is 0.5"),
        ({"augmentation": {**RECIPE["augmentation"], "crop_padding": 16}}, "crop_padding is 16"),
        ({"snapshots": [2]}, r"snapshots must be .* below epochs \(2; .*\), not 2"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(folder, changes, words):
    table_of(folder, "own", "own_networks:classifier")
    with pytest.raises(UserError, match=words):
        check(folder, settings_of("own", "own_networks:classifier", **changes))


def test_an_empty_split_is_refused(folder):
    table_of(folder, "own", "own_networks:classifier")
    path = folder / "classification" / "dataset.json"
    description = json.loads(path.read_text())
    description["counts"]["val"] = 0
    del description["digest"]
    path.write_text(json.dumps(description))
    with pytest.raises(UserError, match="val has 0 samples, at least 1"):
        check(folder, settings_of("own", "own_networks:classifier"))


def test_a_split_without_foreground_is_refused(folder):
    table_of(folder, "own", "own_networks:segmenter")
    path = folder / "segmentation" / "val" / "labels.npy"
    np.save(path, np.zeros_like(np.load(path)))
    with pytest.raises(UserError, match="no mask of split val has foreground"):
        check(folder, settings_of("own", "own_networks:segmenter"), "segmentation")
