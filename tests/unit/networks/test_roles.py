from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nontrivial.networks.convolutions import forward_calls, forward_order
from nontrivial.networks.residual_units import residual_units
from nontrivial.networks.roles import describe


def convolutions(*rows):
    """Return convolutions by path from (path, input channels, output channels)."""
    return {path: nn.Conv2d(inputs, outputs, 3) for path, inputs, outputs in rows}


def labels(order):
    return [(k.path, k.block, k.unit, k.role) for k in describe(order)]


def test_a_residual_network():
    order = convolutions(
        ("conv1", 3, 8),
        ("layer1.0.conv1", 8, 8),
        ("layer1.0.conv2", 8, 8),
        ("layer1.1.conv1", 8, 8),
        ("layer1.1.conv2", 8, 8),
        ("layer2.0.conv1", 8, 16),
        ("layer2.0.conv2", 16, 16),
        ("layer2.0.downsample.0", 8, 16),
        ("head", 16, 2),
    )
    assert labels(order) == [
        ("conv1", None, None, "stem"),
        ("layer1.0.conv1", 1, 0, "adjacent"),
        ("layer1.0.conv2", 1, 0, "adjacent"),
        ("layer1.1.conv1", 1, 1, "residual"),
        ("layer1.1.conv2", 1, 1, "residual"),
        ("layer2.0.conv1", 2, 0, "decomposition"),
        ("layer2.0.conv2", 2, 0, "adjacent"),
        ("layer2.0.downsample.0", 2, 0, "shortcut"),
        ("head", None, None, "head"),
    ]


def test_a_prefix_of_the_module_names_is_ignored():
    order = convolutions(("net.conv1", 3, 8), ("net.layer3.12.conv1", 8, 8))
    assert labels(order)[1] == ("net.layer3.12.conv1", 3, 12, "residual")


def test_names_tell_shortcuts_where_the_units_are_not_known():
    order = convolutions(
        ("layer1.0.conv1", 4, 8),
        ("layer1.0.shortcut.0", 4, 8),
        ("layer1.0.shortcuts_gate", 8, 8),
    )
    assert [role for *_, role in labels(order)] == ["decomposition", "shortcut", "adjacent"]


def test_a_bottleneck_decomposes_in_the_kernel_that_puts_out_the_new_width():
    order = convolutions(
        ("layer2.0.conv1", 8, 4),
        ("layer2.0.conv2", 4, 4),
        ("layer2.0.conv3", 4, 16),
        ("layer2.0.downsample.0", 8, 16),
        ("layer2.1.conv1", 16, 4),
        ("layer2.1.conv2", 4, 4),
        ("layer2.1.conv3", 4, 16),
    )
    assert [role for *_, role in labels(order)] == [
        *("adjacent", "adjacent", "decomposition", "shortcut"),
        *("residual", "residual", "residual"),
    ]


def test_a_unit_that_widens_in_the_middle_of_a_block_has_adjacent_kernels():
    order = convolutions(("layer1.0.a", 8, 8), ("layer1.1.a", 8, 16), ("layer1.1.b", 16, 16))
    assert [role for *_, role in labels(order)] == ["adjacent", "decomposition", "adjacent"]


def test_a_plain_network_has_a_block_per_number_of_channels():
    order = convolutions(("0", 1, 8), ("1", 8, 8), ("2", 8, 8), ("3", 8, 16), ("4", 16, 16))
    assert labels(order) == [
        ("0", None, None, "stem"),
        ("1", 1, 0, "plain"),
        ("2", 1, 1, "plain"),
        ("3", 2, 0, "decomposition"),
        ("4", 2, 1, "plain"),
    ]


def test_names_make_no_shortcut_in_a_plain_network():
    order = convolutions(("0", 1, 8), ("downsample.0", 8, 8), ("shortcut", 8, 8))
    assert [role for *_, role in labels(order)] == ["stem", "plain", "plain"]


def test_rows_have_the_structure_of_the_convolutions():
    order = {
        "a": nn.Conv2d(4, 8, (3, 5), stride=2, dilation=(1, 2), groups=2),
        "b": nn.ConvTranspose2d(8, 2, 2, bias=False),
    }
    first, second = describe(order)
    assert (first.order, second.order) == (0, 1)
    assert (first.in_channels, first.out_channels, first.groups) == (4, 8, 2)
    assert (first.kernel_size, first.stride, first.dilation) == ("3x5", "2x2", "1x2")
    assert first.weights == order["a"].weight.numel()
    assert not first.transposed
    assert second.transposed
    assert second.weights == torch.Size([8, 2, 2, 2]).numel()


# Roles of real networks, whose units a forward pass tells


class Unit(nn.Module):
    """A residual unit of convolutions by name; one named ``around`` is its shortcut."""

    def __init__(self, widths, around=None, before_activation=False):
        super().__init__()
        pairs = list(pairwise(widths))
        self.names = [f"conv{i}" for i in range(1, len(pairs) + 1)]
        for name, (inputs, outputs) in zip(self.names, pairs, strict=True):
            self.add_module(name, nn.Conv2d(inputs, outputs, 3, padding=1))
        self.around = around
        self.before_activation = before_activation
        if around:
            around_path = nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(widths[0], widths[-1], 1))
            self.add_module(around, around_path)

    def forward(self, x):
        x = F.relu(x) if self.before_activation else x
        y = getattr(self, self.around)(x) if self.around else x
        for name in self.names:
            x = F.relu(getattr(self, name)(x))
        y += x
        return y if self.before_activation else F.relu(y, inplace=True)


class Network(nn.Module):
    """Stem, named stages, and a head of convolutions."""

    def __init__(self, **stages):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.stages = list(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.head = nn.LazyConv2d(2, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.head(x).mean((2, 3))


def real_labels(model):
    model(torch.zeros(1, 1, 8, 8))  # initializes the head
    order = forward_order(forward_calls(model, 1, (8, 8)))
    return [
        (k.path, k.block, k.unit, k.role) for k in describe(order, residual_units(model, 1, (8, 8)))
    ]


def shortcuts_of(model):
    return [path for path, _, _, role in real_labels(model) if role == "shortcut"]


def test_a_resnet_whose_stages_are_called_downsample():
    model = Network(
        downsample1=nn.Sequential(Unit((4, 4, 4)), Unit((4, 4, 4))),
        downsample2=nn.Sequential(Unit((4, 8, 8), around="conv_res"), Unit((8, 8, 8))),
    )
    assert real_labels(model) == [
        ("stem", None, None, "stem"),
        ("downsample1.0.conv1", 1, 0, "adjacent"),
        ("downsample1.0.conv2", 1, 0, "adjacent"),
        ("downsample1.1.conv1", 1, 1, "residual"),
        ("downsample1.1.conv2", 1, 1, "residual"),
        ("downsample2.0.conv_res.1", 2, 0, "shortcut"),
        ("downsample2.0.conv1", 2, 0, "decomposition"),
        ("downsample2.0.conv2", 2, 0, "adjacent"),
        ("downsample2.1.conv1", 2, 1, "residual"),
        ("downsample2.1.conv2", 2, 1, "residual"),
        ("head", None, None, "head"),
    ]


@pytest.mark.parametrize("before_activation", [False, True])
@pytest.mark.parametrize("name", ["proj", "skip", "conv_res", "downsample", "shortcut"])
@pytest.mark.parametrize("stage", ["layer1", "downsample1", "features"])
def test_a_shortcut_is_found_whatever_it_is_called(stage, name, before_activation):
    unit = Unit((4, 2, 2, 8), name, before_activation)
    model = Network(**{stage: nn.Sequential(unit, Unit((8, 2, 8), None, before_activation))})
    assert shortcuts_of(model) == [f"{stage}.0.{name}.1"]
    roles = {path: role for path, _, _, role in real_labels(model)}
    assert roles[f"{stage}.0.conv3"] == "decomposition"


UNITS = st.tuples(
    st.sampled_from([(4, 4), (4, 4, 4), (4, 2, 2, 4)]),
    st.sampled_from([None, "proj", "skip", "downsample", "conv1x1"]),
    st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(
    stages=st.lists(st.lists(UNITS, min_size=1, max_size=3), min_size=1, max_size=3),
    names=st.permutations(["downsample", "shortcut", "stage3"]),
)
def test_shortcuts_of_any_chain_of_units_are_those_around_longer_branches(stages, names):
    modules = {
        name: nn.Sequential(*(Unit(*unit) for unit in stage))
        for name, stage in zip(names, stages, strict=False)
    }
    expected = [
        f"{name}.{number}.{around}.1"
        for name, stage in zip(names, stages, strict=False)
        for number, (widths, around, _) in enumerate(stage)
        if around and (len(widths) > 2 or around == "downsample")
    ]
    assert sorted(shortcuts_of(Network(**modules))) == sorted(expected)


class Sum(nn.Module):
    """The sum of some modules' outputs."""

    def __init__(self, *terms, **named):
        super().__init__()
        self.terms = nn.ModuleList(terms)
        for name, module in named.items():
            self.add_module(name, module)
        self.named = list(named)

    def forward(self, x):
        modules = [*self.terms, *(getattr(self, name) for name in self.named)]
        return sum(module(x) for module in modules)


def conv(inputs=4, outputs=4, side=3):
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


NO_SHORTCUTS = {
    "in a sequence": nn.Sequential(conv(), nn.Sequential(conv(4, 8)), conv(8, 4)),
    "beside an identity": Sum(nn.Identity(), shortcut=conv()),
    "as long as the branch": Sum(conv(), conv(side=1)),
    "in a sum of three": Sum(nn.Sequential(conv(), conv()), conv(), nn.Identity()),
    "after global pooling": Sum(
        nn.Sequential(conv(), conv()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(side=1), nn.Upsample((8, 8))),
    ),
    "parallel with an addition itself": Sum(
        nn.Sequential(conv(), conv(), conv(), nn.ReLU()), nn.Sequential(Unit((4, 4)), nn.ReLU())
    ),
}


@pytest.mark.parametrize("kind", NO_SHORTCUTS)
@pytest.mark.parametrize("stage", ["layer1", "downsample1"])
def test_no_other_kernel_is_called_a_shortcut(kind, stage):
    model = Network(**{stage: nn.Sequential(Unit((4, 4, 4)), NO_SHORTCUTS[kind])})
    assert shortcuts_of(model) == []


def test_a_name_tells_a_shortcut_as_long_as_the_branch():
    model = Network(layer1=nn.Sequential(Sum(conv(), shortcut=conv(side=1))))
    assert shortcuts_of(model) == ["layer1.0.shortcut"]


def test_a_lateral_convolution_from_outside_the_module_is_no_shortcut():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = conv(1), conv(), conv()
            self.lateral = conv(side=1)

        def forward(self, x):
            x = self.a(x)
            return (self.lateral(x) + self.c(self.b(x))).mean((2, 3))

    model = Pyramid()
    assert shortcuts_of(model) == []


def test_names_of_a_residual_network_without_additions_are_a_plain_one():
    model = Network(layer1=nn.Sequential(conv(), conv(4, 8)), layer2=nn.Sequential(conv(8, 8)))
    assert [role for *_, role in real_labels(model)] == [
        *("stem", "plain", "decomposition", "plain", "decomposition")
    ]


def test_a_kernel_between_units_is_a_unit_and_decomposes_only_where_the_width_changes():
    model = Network(
        features=nn.Sequential(
            Unit((4, 2, 4)), conv(4, 8), Unit((8, 4, 8)), Unit((8, 4, 8)), conv(8, 8), Unit((8, 8))
        )
    )  # as in Darknet; its units keep their width
    assert real_labels(model) == [
        ("stem", None, None, "stem"),
        ("features.0.conv1", 1, 0, "adjacent"),
        ("features.0.conv2", 1, 0, "adjacent"),
        ("features.1", 2, 0, "decomposition"),
        ("features.2.conv1", 2, 1, "adjacent"),
        ("features.2.conv2", 2, 1, "adjacent"),
        ("features.3.conv1", 2, 2, "residual"),
        ("features.3.conv2", 2, 2, "residual"),
        ("features.4", 2, 3, "plain"),
        ("features.5.conv1", 2, 4, "residual"),
        ("head", None, None, "head"),
    ]


def test_kernels_between_two_units_are_one_unit():
    inverted = nn.Sequential(conv(4, 16), conv(16, 16), conv(16, 8))  # MobileNetV2, stride 2
    model = Network(features=nn.Sequential(Unit((4, 16, 4)), inverted, Unit((8, 16, 8))))
    assert real_labels(model) == [
        ("stem", None, None, "stem"),
        ("features.0.conv1", 1, 0, "adjacent"),
        ("features.0.conv2", 1, 0, "adjacent"),
        ("features.1.0", 2, 0, "adjacent"),
        ("features.1.1", 2, 0, "adjacent"),
        ("features.1.2", 2, 0, "decomposition"),
        ("features.2.conv1", 2, 1, "residual"),
        ("features.2.conv2", 2, 1, "residual"),
        ("head", None, None, "head"),
    ]


def test_a_unit_between_kernels_keeps_its_shortcut():
    model = Network(
        features=nn.Sequential(Unit((4, 4, 4)), conv(4, 8), Unit((8, 8, 16), around="proj"))
    )
    found = {path: (block, role) for path, block, _, role in real_labels(model)}
    assert found["features.1"] == (2, "decomposition")
    assert found["features.2.proj.1"] == (3, "shortcut")
    assert found["features.2.conv2"] == (3, "decomposition")


@settings(deadline=None, max_examples=30)
@given(parts=st.lists(st.sampled_from(["unit", "bottleneck", "same", "wider"]), max_size=8))
def test_only_a_change_of_width_between_units_that_keep_theirs_is_a_decomposition(parts):
    width, modules, wider = 4, [Unit((4, 4))], []
    for part in parts:
        after = 2 * width if part == "wider" else width
        if part == "wider":
            wider.append(f"features.{len(modules)}")
        modules += {
            "unit": [Unit((width, width))],
            "bottleneck": [Unit((width, 2, width))],
            "same": [conv(width, width), Unit((width, width))],
            "wider": [conv(width, after), Unit((after, after))],
        }[part]
        width = after
    model = Network(features=nn.Sequential(*modules))
    found = real_labels(model)
    assert [path for path, _, _, role in found if role == "decomposition"] == wider
    assert [path for path, _, unit, role in found if role == "decomposition" and unit != 0] == []
    assert {block for _, block, _, _ in found if block} == set(range(1, len(wider) + 2))


def test_kernels_of_an_attention_do_not_make_a_unit_change_its_width():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.weigh = nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x):
            return x * self.weigh(x.mean((2, 3))[:, None])[:, 0, :, None, None].sigmoid()

    unit = Unit((4, 4, 4))
    unit.add_module("conv3", Attention())
    unit.names.append("conv3")
    roles = [role for *_, role in real_labels(Network(layer1=nn.Sequential(unit)))]
    assert roles == ["stem", "adjacent", "adjacent", "adjacent", "head"]


def test_units_are_not_known_where_values_are_computed_out_of_sight():
    class Hidden(Unit):
        def forward(self, x):
            return self.conv2(torch.from_numpy(self.conv1(x).numpy(force=True).clip(0))) + x

    model = Network(layer1=nn.Sequential(Hidden((4, 4, 4))))
    model(torch.zeros(1, 1, 8, 8))
    assert residual_units(model, 1, (8, 8)) is None
    assert [role for *_, role in real_labels(model)] == ["stem", "adjacent", "adjacent", "head"]


def test_looking_for_units_changes_no_model():
    model = Network(layer1=nn.Sequential(Unit((4, 4, 4)), nn.BatchNorm2d(4))).train()
    model(torch.zeros(1, 1, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    residual_units(model, 1, (8, 8))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
