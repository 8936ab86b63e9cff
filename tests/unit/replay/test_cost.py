"""Multiply-accumulates as replay counts them, against torch and by hand."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from replay_networks import every_kernel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nontrivial.networks.building import build
from nontrivial.networks.convolutions import convolutions, forward_calls
from nontrivial.networks.kernel_table import read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.replay import Replay
from nontrivial.targets.enumeration import enumerate_targets

TABLES = Path(__file__).parents[3] / "resources" / "kernels"


def workflow_targets(name):
    """Return the workflow's targets of a network, with the baseline."""
    kernels = read_table(TABLES / NETWORKS[name].table)
    sets = ["layer", "block", "shortcut"]
    targets = enumerate_targets(kernels, sets, ["first-unit"], {}, "set")
    return {target.name: target.kernels for target in targets}


def cost_of(model, shape, targets):
    return Replay(model.eval(), shape, targets, batch_size=2).cost


def counted_by_torch(model, shape):
    """Return the multiply-accumulates of one sample."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(2, *shape))
    return counter.get_total_flops() // 2 // 2


@pytest.mark.parametrize(
    ("name", "count", "ratio"),
    [("resnet34", 44, "2.40"), ("resnet34-cifar", 44, "2.33"), ("pspnet_resnet34", 50, "1.70")],
)
def test_published_ratios(name, count, ratio):
    channels, size = (1, (64, 64)) if name.startswith("pspnet") else (3, (32, 32))
    targets = workflow_targets(name)
    assert len(targets) == count
    cost = cost_of(build(name, None, 10, channels, size), (channels, *size), targets)
    assert f"{cost.passes / (cost.clean + cost.recomputed):.2f}" == ratio
    if name == "resnet34":
        assert f"{cost.live_passes / (cost.live_clean + cost.live_recomputed):.2f}" == "3.27"


@pytest.mark.parametrize("name", ["resnet34", "resnet34-cifar", "resnet50", "pspnet_resnet34"])
def test_a_pass_costs_what_torch_counts(name):
    size = (64, 64) if name.startswith("pspnet") else (32, 32)
    model = build(name, None, 7, 3, size)
    cost = cost_of(model, (3, *size), {"baseline": []})
    assert cost.passes == cost.clean == counted_by_torch(model, (3, *size))
    assert cost.recomputed == cost.live_recomputed == 0
    # With ones for data and taps, the sum of the output counts the live products.
    live = sum(
        int(
            F.conv2d(
                torch.ones(1, call.module.in_channels, *call.input_size),
                torch.ones_like(call.module.weight),
                None,
                call.module.stride,
                call.module.padding,
                call.module.dilation,
                call.module.groups,
            )
            .double()
            .sum()
        )
        for call in forward_calls(model, 3, size)
    )
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    assert cost.live_passes == cost.live_clean == live + linear


CONVOLUTIONS = [
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(3, 1), dilation=(1, 3)),
    nn.Conv2d(4, 8, 3, padding=2, groups=4, padding_mode="reflect"),
    nn.Conv2d(4, 6, 5, padding="same", groups=2),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, (3, 4), stride=(1, 3), padding=2, groups=2, dilation=(2, 1)),
]


@pytest.mark.parametrize("module", CONVOLUTIONS, ids=str)
def test_any_convolution_costs_what_torch_counts(module):
    model = nn.Sequential(module)
    cost = cost_of(model, (4, 5, 6), {"baseline": []})
    assert cost.clean == counted_by_torch(model, (4, 5, 6))
    with torch.no_grad():
        ones = type(module)(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            module.padding,
            dilation=module.dilation,
            groups=module.groups,
            padding_mode=module.padding_mode,
            bias=False,
            **({"output_padding": module.output_padding} if module.transposed else {}),
        )
        ones.weight.fill_(1.0)
        live = ones(torch.ones(1, 4, 5, 6)).double().sum()
    assert cost.live_clean == int(live)


class Unit(nn.Module):
    """One residual unit with a linear head, small enough to count by hand."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 3, padding=1)
        self.unused = nn.Conv2d(2, 2, 1)
        self.fc = nn.Linear(2, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        self.unused(x)
        x = x + self.second(F.relu(self.first(x)))
        return self.fc(x.mean((2, 3)))


STEM, FIRST, SECOND, FC = 9 * 2 * 16, 9 * 8 * 16, 9 * 8 * 16, 10


@pytest.mark.parametrize(
    ("targets", "clean", "recomputed"),
    [
        (["baseline"], STEM + FIRST + SECOND + FC, 0),
        (["stem"], 0, 0),
        (["first"], STEM, FC),
        (["second"], STEM, FC),
        (["unused"], STEM + FIRST + SECOND + FC, 0),
        (["first", "second"], STEM, 2 * FC),
        (["first", "second", "baseline"], STEM + FIRST + SECOND + FC, 2 * FC),
        (["all", "stem"], 0, 0),
        ([], 0, 0),
    ],
)
def test_by_hand(targets, clean, recomputed):
    model = Unit()
    chosen = {name: every_kernel(model)[name] for name in targets}
    cost = cost_of(model, (1, 4, 4), chosen)
    assert (cost.clean, cost.recomputed) == (clean, recomputed)
    assert cost.passes == len(targets) * (STEM + FIRST + SECOND + FC)
    # Along an axis of 4, three taps meet data in 10 of 12 products.
    live = 2 * 100 + 2 * 8 * 100 + FC
    assert cost.live_passes == len(targets) * live


def test_the_cost_does_not_depend_on_batches():
    model = build("resnet18", None, 10, 3, (32, 32)).eval()
    targets = {path: [path] for path in convolutions(model)}
    few, reference, many = (
        Replay(model, (3, 32, 32), targets, batch_size=n, reference=r, stack_bytes=b).cost
        for n, r, b in [(1, False, None), (100, True, None), (7, False, 1)]
    )
    assert few == many
    assert reference.passes == few.passes
    # The reference also computes constants for every sample.
    assert few.clean + few.recomputed < reference.clean + reference.recomputed < few.passes
