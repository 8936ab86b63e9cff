"""Replay against the naive loop, on small examples of every kind of network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from replay_networks import (
    check,
    close,
    digits,
    every_kernel,
    naive_loop,
    replayed,
    scrambled,
)
from small_networks import (
    PASSES,
    SHAPE,
    Forward,
    Grouped,
    SegNet,
    Several,
    UNet,
    images_for,
    small_vgg,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from nontrivial.errors import UserError
from nontrivial.replay import Replay, winograd

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export


# Architectures


@pytest.mark.parametrize("make", [small_vgg, UNet, SegNet, Grouped, Several])
def test_architecture(make):
    model = make()
    replay = check(model, images_for(model))
    assert replay.method == "torch.fx"
    assert replay.statuses["all"] == "cut"


@pytest.mark.parametrize("make", [small_vgg, UNet, SegNet, Grouped, Several])
@pytest.mark.parametrize("stack_bytes", [1, 1 << 30])
def test_architecture_with_targets_separate_and_stacked(make, stack_bytes):
    model = make()
    check(model, images_for(model, count=7), references=(False,), stack_bytes=stack_bytes)


def test_every_kernel_of_a_plain_network_is_a_cut():
    model = small_vgg()
    replay = check(model, images_for(model))
    del replay.statuses["baseline"]
    assert set(replay.statuses.values()) == {"cut"}


def test_a_unet_is_cut_at_its_ends_only():
    model = UNet()
    statuses = check(model, images_for(model)).statuses
    cut = {name for name, status in statuses.items() if status == "cut"}
    # The skip starts after the second kernel, so zeroing that one leaves nothing of the images.
    assert cut == {"down.0", "down.3", "merge.0", "merge.3", "head", "all"}


# Forward passes


@pytest.mark.parametrize("name", PASSES)
def test_forward_pass(name):
    model = Forward(PASSES[name])
    replay = check(model, images_for(model))
    assert replay.method in ("torch.fx", "torch.export")


@pytest.mark.parametrize("name", PASSES)
def test_forward_pass_with_stacked_targets_and_batches_of_one(name):
    model = Forward(PASSES[name])
    images = images_for(model)
    check(model, images, references=(False,), stack_bytes=1 << 30, batch_size=5)
    check(model, images[:2], batch_size=1)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("a module used twice", {"a": "cut", "b": "cut", "c": "no_effect"}),
        ("zeros like", {"a": "cut", "b": "no_effect"}),
        ("ones like, after a zeroed kernel", {"a": "cut", "b": "no_effect", "c": "ok"}),
        ("constant branch", {"a": "cut", "b": "ok"}),
        ("kernel read directly", {"a": "cut", "b": "cut"}),
        ("kernel read directly and by its module", {"a": "cut", "b": "cut"}),
        ("padding by name", {"a": "cut", "b": "cut"}),
        ("samples concatenated and cut", {"a": "cut", "b": "ok"}),
        ("frames of a video", {"a": "cut", "b": "cut", "c": "no_effect"}),
        ("frames of a video, zeroed in between", {"a": "cut", "b": "ok"}),
    ],
)
def test_status_follows_from_the_graph(name, statuses):
    model = Forward(PASSES[name])
    found = check(model, images_for(model), references=(False,)).statuses
    assert {path: found[path] for path in statuses} == statuses


def test_a_samplewise_function_with_samples_as_weights():
    model = Forward(lambda m, x: F.linear(f := m.answer(m.b(y := m.a(x)) + y), f).softmax(1) @ f)
    check(model, images_for(model))


# In place


def relu_read_before_and_after(m, x):
    y = m.a(x)
    before = y * 2
    F.relu(y, inplace=True)
    return m.answer(m.b(before) + y)


def sum_that_changes_a_skip(m, x):
    skip = m.a(x)
    y = m.b(skip)
    skip.add_(y)
    return m.answer(m.c(y) + skip)


def through_dropout(m, x):
    y = m.a(x)
    same = F.dropout(y, training=False)
    same += m.b(y)
    return m.answer(m.c(y))


def through_identity_and_relu(m, x):
    y = m.a(x)
    same = nn.Identity()(F.dropout2d(y, training=False))
    same.relu_()
    return m.answer(m.b(y) - y)


def through_a_view(m, x):
    y = m.a(x)
    flat = y.view(x.size(0), -1)
    flat.mul_(0.5).sub_(0.1)
    return m.fc(flat.view(-1, 4, 64).mean(2)) + 0 * m.answer(m.b(x + flat.view(-1, 4, 8, 8)))


def part_of_a_map(m, x):
    y = m.a(x)
    y[:, :2].relu_()
    return m.answer(m.b(y) + y)


def part_of_a_map_through_chunk(m, x):
    y = m.a(x)
    first, last = y.chunk(2, 1)
    first.add_(last)
    return m.answer(m.b(y))


def assigned(m, x):
    y = m.a(x)
    y[:, 0] = 0.5
    return m.answer(m.b(y))


def into_another(m, x):
    y, z = m.a(x), m.b(m.a(x))
    torch.add(y, z, out=z)
    return m.answer(m.c(z) + y)


def a_little_under_two_names(m, x):
    # torch.fx traces += as a sum with a new name.
    y = other = m.a(x)
    y += 1e-5 * m.b(y)
    return m.answer(m.c(other) + y)


def clamped_and_filled(m, x):
    y = m.a(x)
    z = m.b(y).clamp_(min=0)
    y.clamp_(-0.5, 0.5)
    z.masked_fill_(z > 1, 0.25)
    return m.answer(y + m.c(z))


def twice_in_place(m, x):
    y = m.a(x)
    z = m.b(y)
    y.add_(z)
    w = m.c(y)
    y.add_(w)
    z.add_(y)
    return m.answer(y * z)


def augmented_operators(m, x):
    y = m.a(x)
    z = m.b(y)
    y *= 2
    y -= z
    y /= 3
    z **= 2
    return m.answer(m.c(y) + z)


IN_PLACE = [
    relu_read_before_and_after,
    sum_that_changes_a_skip,
    through_dropout,
    through_identity_and_relu,
    through_a_view,
    part_of_a_map,
    part_of_a_map_through_chunk,
    assigned,
    into_another,
    a_little_under_two_names,
    clamped_and_filled,
    twice_in_place,
    augmented_operators,
]


@pytest.mark.parametrize("forward", IN_PLACE)
def test_tensors_changed_in_place(forward):
    model = Forward(forward)
    check(model, images_for(model))


class InPlaceModules(nn.Module):
    """In-place modules as in ResNets, with modules between that return their own input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout2d(0.3)
        self.same = nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.leaky = nn.LeakyReLU(0.1, inplace=True)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.a(x)
        y = self.same(self.drop(x))
        z = self.b(y)
        self.relu(y)
        z += x
        self.leaky(z)
        return self.head(z + y)


def test_in_place_modules_through_aliases():
    model = InPlaceModules()
    assert check(model, images_for(model)).method == "torch.fx"


# Convolutions


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_modes(mode):
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=(1, 2), padding_mode=mode, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 5, padding=2, stride=2, padding_mode=mode),
        nn.ReLU(),
        nn.Conv2d(4, 2, (3, 1), padding="same", padding_mode=mode),
    )
    replay = check(model, images_for(model))
    assert {replay.statuses[path] for path in ("0", "3", "5")} == {"cut"}


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (16, 16), (2, 3), (1, 1)])
def test_padding_same_on_odd_and_even_kernels(size):
    torch.manual_seed(8)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same"),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (4, 3), padding="same", dilation=(1, 2), groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 2, padding="same"),
        nn.ReLU(),
        nn.Conv2d(8, 2, 1, padding="valid"),
    )
    replay = check(model, images_for(model, (1, *size)))
    assert {replay.statuses[path] for path in ("0", "3", "5", "7")} == {"cut"}


class OwnConvolution(nn.Conv2d):
    """A user's subclass, which torch.fx traces into."""


class Exported(nn.Module):
    """A network that only torch.export can trace."""

    def __init__(self, layer):
        super().__init__()
        torch.manual_seed(8)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.layer = layer
        self.odd = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.layer(F.relu(self.first(x))))
        return self.odd(x) if x.shape[2] % 2 else x.mean((2, 3))


@pytest.mark.parametrize("make", [OwnConvolution, nn.Conv2d])
@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": (1, 0), "stride": 2}])
def test_a_convolution_is_recognized_by_both_tracers(make, options):
    torch.manual_seed(9)
    model = Exported(make(4, 4, 3, **options))
    replay = check(model, images_for(model))
    assert replay.method == "torch.export"
    assert replay.statuses["layer"] == "cut"
    assert replay.statuses["odd"] == "no_effect"
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), make(4, 4, 3, **options), nn.ReLU())
    replay = check(model, images_for(model))
    assert replay.method == "torch.fx"
    assert replay.statuses["2"] == "cut"


@pytest.mark.parametrize(
    "layers",
    [
        [
            nn.Conv1d(2, 6, 5, padding=2, bias=False),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=3),
            nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1),
            nn.BatchNorm1d(4),
            nn.MaxPool1d(2),
            nn.Flatten(),
            nn.Linear(4 * 16, 3),
        ],
        [
            nn.Conv3d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm3d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(2),
            nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1)),
            nn.ConvTranspose3d(4, 2, 2, stride=2, groups=2),
            nn.BatchNorm3d(2),
        ],
    ],
    ids=["1d", "3d"],
)
def test_one_and_three_dimensions(layers):
    torch.manual_seed(10)
    model = copy.deepcopy(nn.Sequential(*layers))
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    scrambled(model, 4)
    shape = (2, 16) if isinstance(model[0], nn.Conv1d) else (1, 4, 4, 4)
    images = digits(5).view(5, 64)[:, : shape[0] * 16 if len(shape) == 2 else 64]
    replay = check(model, images.reshape(5, *shape))
    assert replay.method == "torch.fx"
    assert {replay.statuses[path] for path in every_kernel(model) if path != "baseline"} == {"cut"}


def test_normalizations_in_unusual_positions():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(11)
            self.before = nn.BatchNorm2d(1)
            self.a = nn.Conv2d(1, 4, 3, padding=1)
            self.b = nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)  # after two convolutions
            self.plain = nn.BatchNorm2d(4, affine=False)

        def forward(self, x):
            x = self.a(self.before(x))
            x = F.relu(self.norm(x)) + x  # two operations read the convolution
            x = F.relu(self.norm(self.b(x)))  # one module for two convolutions
            return self.plain(self.norm(self.b(x))).flatten(1)

    model = Odd()
    check(model, images_for(model))


def test_tied_weights_are_zero_together():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(12)
            self.a = nn.Conv2d(1, 4, 3, padding=1)
            self.b = nn.Conv2d(4, 4, 3, padding=1)
            self.c = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
            self.c.weight = self.b.weight
            self.up = nn.ConvTranspose2d(4, 4, 3, padding=1)
            self.up.weight = self.b.weight

        def forward(self, x):
            x = F.relu(self.a(x))
            return self.up(self.b(x)) + self.c(x)

    model = Tied()
    replay = check(model, images_for(model))
    assert replay.statuses["b"] == replay.statuses["c"] == replay.statuses["up"] == "cut"


def test_weights_that_share_memory_are_zero_together():
    # Assigning to .data ties two parameters that remain two objects.
    model = Forward(lambda m, x: m.answer(m.c(F.relu(m.b(F.relu(y := m.a(x))))) + y))
    images = images_for(model)
    model.c.weight.data = model.b.weight.data
    check(model, images)


def test_a_kernel_without_a_live_tap_has_no_effect():
    class Dead(nn.Module):
        """All taps of one kernel meet the padding around a map of one pixel."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(13)
            self.stem = nn.Conv2d(1, 4, 8)
            self.dead = nn.Conv2d(4, 4, 2, padding=4, dilation=8)
            self.norm = nn.BatchNorm2d(4)
            self.tied = nn.Conv2d(4, 4, 2, padding=4, dilation=8)
            self.alive = nn.Conv2d(4, 4, 2, padding=1)
            self.tied.weight = self.alive.weight
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = x + self.norm(self.dead(x)) + self.tied(x)
            x = x + self.alive(x)[:, :, :1, 1:]
            return self.head(x + self.tied(x))

    model = Dead()
    statuses = check(model, images_for(model)).statuses
    assert statuses["dead"] == "no_effect"
    assert statuses["tied"] == statuses["alive"] == "ok"
    assert statuses["stem"] == statuses["head"] == "cut"


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        nn.utils.weight_norm,
        parametrizations.spectral_norm,
        lambda module: prune.l1_unstructured(module, "weight", amount=0.5),
        lambda module: parametrize.register_parametrization(module, "weight", nn.Tanh()),
    ],
    ids=["weight norm", "weight norm by hook", "spectral norm", "pruned", "tanh"],
)
def test_a_computed_weight_is_refused_as_a_target_and_correct_otherwise(wrap):
    model = Forward(lambda m, x: m.answer(m.c(F.relu(m.b(F.relu(m.a(x))))) + m.a(x)))
    images = images_for(model)
    wrap(model.b)
    model.eval()
    with pytest.raises(UserError, match="computed from other parameters"):
        Replay(model, SHAPE, {"b": ["b"]}, batch_size=2)
    replay = check(model, images, {"baseline": [], "a": ["a"], "c": ["c"], "ac": ["a", "c"]})
    assert replay.statuses == {"baseline": "ok", "a": "cut", "c": "ok", "ac": "cut"}


def test_a_computed_bias():
    model = Forward(lambda m, x: m.answer(m.b(F.relu(m.a(x))) + m.a(x)))
    images = images_for(model)
    parametrize.register_parametrization(model.b, "bias", nn.Tanh())
    check(model, images)


# Users' modules and functions with names of torch


class ReLU(nn.Module):
    """Mixes all samples."""

    def forward(self, x):
        return x - x.amax(0)


class Flatten(nn.Flatten):
    """Also reverses the samples."""

    def forward(self, x):
        return super().forward(x).flip(0)


class Conv2d(nn.Conv2d):
    """Doubles its result and adds the mean over samples."""

    def forward(self, x):
        y = super().forward(x)
        return 2 * y + y.mean(0)


class BatchNorm2d(nn.BatchNorm2d):
    """Normalizes by the batch also in evaluation mode, without running statistics."""

    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


def test_a_users_modules_named_like_torchs():
    torch.manual_seed(14)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        ReLU(),
        Conv2d(4, 4, 3, padding=1),
        BatchNorm2d(4),
        nn.Conv2d(4, 2, 3),
        Flatten(),
        nn.Linear(72, 3),
    )
    check(model, images_for(model))


def relu(x):
    return x - x.mean(0)


torch.fx.wrap("relu")


def test_a_users_function_named_like_torchs():
    model = Forward(lambda m, x: m.answer(relu(m.b(relu(m.a(x)))) + m.a(x)))
    check(model, images_for(model))


def test_an_unused_convolution_has_no_effect():
    model = Forward(lambda m, x: m.answer(m.a(x)) + 0 * m.b(m.a(x)).sum())
    replay = check(model, images_for(model))
    assert replay.statuses["c"] == "no_effect"


# Reduced precision


@pytest.mark.parametrize("make", [small_vgg, UNet, SegNet, Grouped, Several])
def test_bfloat16(make):
    model = make()
    images = images_for(model)
    targets = every_kernel(model)
    expected = naive_loop(model, targets, images, 5, "bf16")
    scale = max(output.abs().max().item() for output in expected.values())
    found = replayed(Replay(model, SHAPE, targets, batch_size=5, precision="bf16"), images, 5)
    for name, output in expected.items():
        assert close(found[name], output, scale, 0.05), name


def test_bfloat16_where_a_parameter_promotes_to_float32(monkeypatch):
    class Scaled(nn.Module):
        """A scale per channel, in float32, between convolutions on a map of two pixels a side."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(15)
            self.stem = nn.Conv2d(1, 32, 4, stride=4)
            self.a = nn.Conv2d(32, 32, 3, padding=1)
            self.b = nn.Conv2d(32, 32, 3, padding=1)
            self.scale = nn.Parameter(torch.rand(1, 32, 1, 1))
            self.fc = nn.Linear(32, 3)

        def forward(self, x):
            x = F.relu(self.stem(x)) * self.scale
            x = x + self.a(x) * self.scale
            return self.fc((x + self.b(x)).mean((2, 3)))

    model = Scaled()
    images = images_for(model)
    targets = every_kernel(model)
    expected = naive_loop(model, targets, images, 5, "bf16")
    scale = max(output.abs().max().item() for output in expected.values())
    for choose in (winograd.is_faster, lambda *_: True):
        monkeypatch.setattr(winograd, "is_faster", choose)
        replay = Replay(model, SHAPE, targets, batch_size=5, precision="bf16")
        found = replayed(replay, images, 5)
        for name, output in expected.items():
            assert close(found[name], output, scale, 0.05), name
