"""Target statuses: from the graph, and by probing where there is none."""

import pytest
import torch
from torch import nn

from nontrivial.networks.building import build
from nontrivial.networks.registry import NETWORKS
from nontrivial.replay import Replay
from nontrivial.replay.zeroing import zeroed

SIZE = (16, 16)


class Branches(nn.Module):
    """A module used twice, an in-place addition, a shape, and an ignored branch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.right = nn.Conv2d(4, 4, 3, padding=1)
        self.ignored = nn.Conv2d(4, 4, 1)
        self.grid = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.twice(torch.relu(self.stem(x)))
        x = self.twice(x)
        left = self.left(x)
        left.add_(self.right(x))
        self.ignored(x)
        blank = torch.zeros_like(self.grid(x))
        up = nn.functional.interpolate(left, size=x.shape[2:])
        return self.head(up + blank)


class Untraceable(Branches):
    """The same network, which branches on a value and so cannot be traced."""

    def forward(self, x):
        if x.abs().sum() < 0:
            return x
        return super().forward(x)


CASES = [
    (["stem"], "cut"),
    (["twice"], "cut"),
    (["left"], "ok"),
    (["right"], "ok"),
    (["left", "right"], "cut"),
    (["ignored"], "no_effect"),
    (["grid"], "no_effect"),
    (["ignored", "grid"], "no_effect"),
    (["ignored", "left"], "ok"),
    (["head"], "cut"),
    ([], "ok"),
]


def status(model, paths, shape=(1, *SIZE)):
    return statuses(model, {"target": paths}, shape)["target"]


def statuses(model, targets, shape):
    return Replay(model, shape, targets, batch_size=2).statuses


def constant(model, paths):
    torch.manual_seed(1)
    with zeroed(model, paths), torch.inference_mode():
        return torch.equal(model(torch.randn(1, 1, *SIZE)), model(torch.randn(1, 1, *SIZE)))


@pytest.mark.parametrize("kind", [Branches, Untraceable])
@pytest.mark.parametrize(("paths", "expected"), CASES)
def test_status(kind, paths, expected):
    torch.manual_seed(0)
    model = kind().eval()
    assert status(model, paths) == expected
    assert constant(model, paths) == (expected == "cut")


def test_a_network_that_cannot_be_traced_is_probed_with_a_warning(caplog):
    status(Branches().eval(), ["stem"])
    assert "probing" not in caplog.text
    status(Untraceable().eval(), ["stem"])
    assert "probing" in caplog.text


def test_a_kernel_without_live_taps_has_no_effect():
    layers = [nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 2, dilation=4, padding=2), nn.Conv2d(2, 2, 1)]
    model = nn.Sequential(*layers).eval()
    # On a map of two pixels a side, taps at offsets -2 and 2 meet only padding.
    assert status(model, ["1"], (1, 2, 2)) == "no_effect"
    assert status(model, ["1"], (1, 5, 5)) == "cut"


class Tied(nn.Module):
    """Two parallel convolutions with one weight, so zeroing either zeroes both."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 2, 3)
        self.right = nn.Conv2d(1, 2, 3)
        self.right.weight = self.left.weight

    def forward(self, x):
        return self.left(x) + self.right(x)


def test_shared_weights_are_zeroed_together():
    assert status(Tied().eval(), ["left"]) == "cut"


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return nn.functional.conv2d(x, self.conv.weight)


def test_a_kernel_used_as_a_plain_tensor():
    assert status(Functional().eval(), ["conv"]) == "cut"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_of_the_registry_is_traced_not_probed(name, caplog):
    size = (48, 48) if NETWORKS[name].task == "segmentation" else (16, 16)
    Replay(build(name, None, 3, 1, size).eval(), (1, *size), {"baseline": []}, batch_size=2)
    assert "probing" not in caplog.text


@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar"])
def test_only_the_stem_cuts_a_resnet(name):
    model = build(name, None, 10, 3, (32, 32)).eval()
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    unit = ["layer2.0.conv1", "layer2.0.downsample.0"]
    found = statuses(model, {**{path: [path] for path in paths}, "unit": unit}, (3, 32, 32))
    assert found == {**dict.fromkeys(paths, "ok"), "conv1": "cut", "unit": "cut"}


def test_every_convolution_of_a_plain_network_cuts():
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert [status(model, [path]) for path in ("0", "2")] == ["cut", "cut"]


def test_a_pspnet_is_cut_by_stem_fusion_and_head():
    model = build("pspnet_resnet34", None, 2, 1, (48, 48)).eval()
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    found = statuses(model, {path: [path] for path in paths}, (1, 48, 48))
    cut = {path for path in paths if found[path] != "ok"}
    assert cut == {"encoder.conv1", "decoder.conv.0", "segmentation_head.0"}
