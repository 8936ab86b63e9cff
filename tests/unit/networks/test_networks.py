import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import list_kernels
from nontrivial.errors import UserError
from nontrivial.networks.building import build
from nontrivial.networks.checks import check_table
from nontrivial.networks.convolutions import convolutions, forward_calls, forward_order
from nontrivial.networks.kernel_table import Kernel, read_table
from nontrivial.networks.registry import NETWORKS, stem_of
from nontrivial.replay.zeroing import zeroed

TABLES = Path(__file__).parents[3] / "resources" / "kernels"
RESNETS = [name for name, entry in NETWORKS.items() if entry.task == "classification"]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_tables_are_what_list_kernels_finds_in_the_real_networks(name):
    assert read_table(TABLES / NETWORKS[name].table) == list_kernels.list_kernels(name, None)


def test_every_table_belongs_to_a_network():
    assert {path.name for path in TABLES.glob("*.tsv")} == {e.table for e in NETWORKS.values()}


def test_resnet34_has_36_kernels():
    roles = [kernel.role for kernel in read_table(TABLES / "resnet34.tsv")]
    assert len(roles) == 36
    assert roles.count("stem") == 1
    assert roles.count("shortcut") == 3
    assert roles.count("decomposition") == 3
    assert roles.count("adjacent") == 2 + 3


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet50-cifar"])
def test_a_bottleneck_decomposes_in_its_third_kernel(name):
    roles = {kernel.path: kernel.role for kernel in read_table(TABLES / f"{name}.tsv")}
    for block in (1, 2, 3, 4):
        assert roles[f"layer{block}.0.conv3"] == "decomposition"
        assert roles[f"layer{block}.0.conv1"] == roles[f"layer{block}.0.conv2"] == "adjacent"
        assert roles[f"layer{block}.1.conv1"] == roles[f"layer{block}.1.conv3"] == "residual"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar"])
def test_resnets_take_any_number_of_channels(name, channels):
    network = build(name, None, 7, channels, (32, 32)).eval()
    assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_loads_the_state_of_a_resnet(name):
    state = build(name, None, 10, 3, (32, 32)).state_dict()
    torchvision.models.get_model(name, weights=None, num_classes=10).load_state_dict(state)


def test_the_cifar_stem_keeps_the_resolution_and_torchvisions_names():
    network = build("resnet18-cifar", None, 10, 3, (32, 32))
    reference = torchvision.models.resnet18(weights=None, num_classes=10)
    assert list(network.state_dict()) == list(reference.state_dict())
    calls = {call.path: call for call in forward_calls(network, 3, (32, 32))}
    assert calls["conv1"].output_size == calls["layer1.0.conv1"].input_size == (32, 32)


def test_equal_seeds_give_equal_networks():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build("resnet18-cifar", None, 10, 3, (32, 32)).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_pspnet_answers_at_input_resolution(channels):
    network = build("pspnet_resnet34", None, 3, channels, (64, 48)).eval()
    assert network(torch.zeros(1, channels, 64, 48)).shape == (1, 3, 64, 48)


def test_pspnet_reaches_output_stride_8_by_dilating_the_last_two_blocks_whole():
    network = build("pspnet_resnet34", None, 2, 1, (64, 64))
    calls = {call.path: call for call in forward_calls(network, 1, (64, 64))}
    assert calls["encoder.layer4.2.conv2"].output_size == (8, 8)
    for path, module in convolutions(network.encoder).items():
        if module.kernel_size == (3, 3):
            rate = {"layer3": 2, "layer4": 4}.get(path.split(".")[0], 1)
            assert module.dilation == (rate, rate), path


def test_pspnet_trains_on_a_batch_of_one():
    network = build("pspnet_resnet34", None, 2, 1, (64, 64)).train()
    assert network(torch.randn(1, 1, 64, 64)).isfinite().all()


def test_pspnet_refuses_a_size_that_is_no_multiple_of_its_stride():
    with pytest.raises(UserError, match=r"60 x 64.*multiples of 8"):
        build("pspnet_resnet34", None, 2, 1, (60, 64))


def with_statistics(network):
    """Give batch normalization running statistics and parameters that are not the trivial ones."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in [
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.5),
            ]:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "channels", "kernels"),
    [("pspnet_resnet34", 1, 42), ("resnet18", 3, 20)],
)
def test_every_kernel_changes_the_output_when_zeroed(name, channels, kernels):
    torch.manual_seed(0)
    network = with_statistics(build(name, None, 3, channels, (64, 64)))
    images = torch.randn(1, channels, 64, 64)
    paths = list(forward_order(forward_calls(network, channels, (64, 64))))
    assert len(paths) == len(convolutions(network)) == kernels
    with torch.inference_mode():
        clean = network(images)
        unchanged = []
        for path in paths:
            with zeroed(network, [path]):
                if torch.equal(network(images), clean):
                    unchanged.append(path)
        assert torch.equal(network(images), clean)
    assert unchanged == []


# The user's own networks

OWN = """
import torch
from torch import nn

def plain(classes, channels, size):
    widths = [8, 8, 16, 16, 16]
    layers = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))

class Twice(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(self.last(self.last(self.first(x))).mean((2, 3)))

def twice(classes, channels, size):
    return Twice(classes, channels)

def no_convolution(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def no_module(classes, channels, size):
    return "network"

def broken(classes, channels, size):
    raise KeyError("width")

def stubborn(classes, channels, size):
    return nn.Conv2d(channels + 1, classes, 3)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def test_a_plain_network_is_read_as_runs_of_equal_width(own):
    kernels = list_kernels.list_kernels(None, f"{own}:plain", (16, 16))
    assert [(k.path, k.block, k.unit, k.role) for k in kernels] == [
        ("0", None, None, "stem"),
        ("2", 1, 0, "plain"),
        ("4", 2, 0, "decomposition"),
        ("6", 2, 1, "plain"),
        ("8", 2, 2, "plain"),
    ]


def test_kernels_stand_in_forward_order_once_and_unused_ones_are_named(own, caplog):
    kernels = list_kernels.list_kernels(None, f"{own}:twice", (16, 16))
    assert [kernel.path for kernel in kernels] == ["first", "last"]
    assert "unused" in caplog.text


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("plain", "write it as package.module:function"),
        ("own_networks:missing", "has no attribute 'missing'.*importable from"),
        ("no_such_package.networks:f", "No module named 'no_such_package'"),
        ("own_networks:no_module", "returned str, not a torch.nn.Module"),
        ("own_networks:broken", "KeyError: 'width'"),
        ("own_networks:stubborn", "does not take one image of 3 x 64 x 64"),
        ("own_networks:no_convolution", "no convolution module ran"),
    ],
)
def test_a_bad_factory_gets_one_clear_line(own, factory, message):
    with pytest.raises(UserError, match=message) as caught:
        list_kernels.list_kernels(None, factory)
    assert "\n" not in str(caught.value)


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="'resnet19' is unknown; choose one of resnet18"):
        build("resnet19", None, 10, 3, (32, 32))


def test_stems():
    assert [stem_of(n) for n in ("resnet34", "resnet34-cifar", "mine")] == [
        "torchvision",
        "cifar",
        "custom",
    ]


def changed(kernels, order, **values):
    return [Kernel(**{**vars(k), **values}) if k.order == order else k for k in kernels]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda k: k[:-1], "layer4.1.conv2 of the network is not in the table"),
        (lambda k: changed(k, 3, path="layer9"), "the network has no convolution layer9"),
        (lambda k: changed(k, 3, stride="2x2"), "layer1.1.conv1: stride is 2x2 in the table and"),
        (lambda k: changed(k, 0, out_channels=3), "conv1: out_channels is 3 in the table and 64"),
        (
            lambda k: changed(changed(k, 1, path=k[2].path), 2, path=k[1].path),
            re.escape("row 1 is layer1.0.conv2, but the network runs layer1.0.conv1"),
        ),
    ],
)
def test_a_table_of_another_network_is_refused(spoil, message):
    kernels = read_table(TABLES / "resnet18.tsv")
    network = build("resnet18", None, 10, 3, (32, 32))
    check_table(kernels, network, 3, (32, 32), "table.tsv")
    with pytest.raises(UserError, match=message):
        check_table(spoil(kernels), network, 3, (32, 32), "table.tsv")


@pytest.mark.parametrize(
    ("name", "classes", "channels", "size"),
    [("resnet18", 4, 1, (48, 48)), ("pspnet_resnet34", 5, 3, (72, 64))],
)
def test_a_table_fits_any_number_of_classes_and_channels(name, classes, channels, size):
    network = build(name, None, classes, channels, size)
    table = TABLES / NETWORKS[name].table
    check_table(read_table(table), network, channels, size, table)


def test_a_forward_for_listing_changes_nothing():
    network = build("resnet18", None, 10, 3, (32, 32)).train()
    network.layer1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    forward_calls(network, 3, (32, 32))
    assert network.training
    assert not network.layer1.training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert not network.conv1._forward_hooks
