import pytest
import torch
from torch import nn

from nontrivial.experiment.dependence import Dependence
from nontrivial.experiment.zeroing import zeroed
from nontrivial.network.networks import build
from nontrivial.network.registry import NETWORKS

SIZE = (16, 16)


class Branches(nn.Module):
    """Every case in one: a used-twice module, an in-place addition, a shape, an ignored branch."""

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


class Wild(Branches):
    """The same network, branching on a value so that it cannot be traced."""

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


def constant(model, paths):
    torch.manual_seed(1)
    with zeroed(model, paths), torch.inference_mode():
        return torch.equal(model(torch.randn(1, 1, *SIZE)), model(torch.randn(1, 1, *SIZE)))


@pytest.mark.parametrize("kind", [Branches, Wild])
@pytest.mark.parametrize(("paths", "status"), CASES)
def test_status(kind, paths, status):
    torch.manual_seed(0)
    model = kind().eval()
    assert Dependence(model, 1, SIZE).status(paths, 1) == status
    assert constant(model, paths) == (status == "cut")


def test_a_network_that_cannot_be_traced_is_probed_with_a_warning(caplog):
    Dependence(Branches().eval(), 1, SIZE)
    assert "probing" not in caplog.text
    Dependence(Wild().eval(), 1, SIZE)
    assert "probing" in caplog.text


def test_a_kernel_without_live_weights_has_no_effect():
    assert Dependence(Branches().eval(), 1, SIZE).status(["stem"], 0) == "no_effect"


class Tied(nn.Module):
    """Two parallel convolutions with one weight: zeroing either zeroes both."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 2, 3)
        self.right = nn.Conv2d(1, 2, 3)
        self.right.weight = self.left.weight

    def forward(self, x):
        return self.left(x) + self.right(x)


def test_shared_weights_are_zeroed_together():
    assert Dependence(Tied().eval(), 1, SIZE).status(["left"], 1) == "cut"


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return nn.functional.conv2d(x, self.conv.weight)


def test_a_kernel_used_as_a_plain_tensor_is_probed():
    assert Dependence(Functional().eval(), 1, SIZE).status(["conv"], 1) == "cut"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_of_the_registry_is_traced_not_probed(name, caplog):
    Dependence(build(name, None, 3, 1, (64, 64)).eval(), 1, (64, 64))
    assert "probing" not in caplog.text


@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar"])
def test_only_the_stem_cuts_a_resnet(name):
    model = build(name, None, 10, 3, (32, 32)).eval()
    dependence = Dependence(model, 3, (32, 32))
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert {path for path in paths if dependence.status([path], 1) == "cut"} == {"conv1"}
    assert "no_effect" not in {dependence.status([path], 1) for path in paths}
    unit = ["layer2.0.conv1", "layer2.0.downsample.0"]
    assert dependence.status(unit, 1) == "cut"


def test_every_convolution_of_a_plain_network_cuts():
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    dependence = Dependence(model, 1, SIZE)
    assert [dependence.status([path], 1) for path in ("0", "2")] == ["cut", "cut"]


def test_a_pspnet_is_cut_by_stem_fusion_and_head():
    model = build("pspnet_resnet34", None, 2, 1, (64, 64)).eval()
    dependence = Dependence(model, 1, (64, 64))
    cut = {
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and dependence.status([path], 1) != "ok"
    }
    assert cut == {"encoder.conv1", "decoder.conv.0", "segmentation_head.0"}
