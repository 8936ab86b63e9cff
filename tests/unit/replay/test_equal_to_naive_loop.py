"""Replay against the naive loop, on small examples of every kind of network."""

import copy
import logging

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
    state_digest,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from nontrivial.errors import UserError
from nontrivial.replay import Replay, winograd

SHAPE = (1, 8, 8)

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export


def images_for(model, shape=SHAPE, count=5):
    """Return real images, and give the network random biases and normalization."""
    torch.manual_seed(0)
    scrambled(model, 3)
    return digits(count, shape)


class Forward(nn.Module):
    """Three convolutions and a linear layer, with the forward pass of a test."""

    def __init__(self, forward, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(1, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.c = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, 3)
        self.pass_ = forward

    def forward(self, x):
        return self.pass_(self, x)

    def answer(self, x):
        return self.fc(x.mean((2, 3)))


# Architectures


def small_vgg():
    torch.manual_seed(1)
    layers = []
    channels = 1
    for width in (6, 6, "pool", 8, 8, "pool", 12):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    head = [nn.Flatten(), nn.Linear(12 * 4, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 4)]
    return nn.Sequential(*layers, *head)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.down = self.twice(1, 4)
        self.bottom = self.twice(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.merge = self.twice(8, 4)
        self.head = nn.Conv2d(4, 2, 1)

    @staticmethod
    def twice(before, after):
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        skip = self.down(x)
        x = self.up(self.bottom(F.max_pool2d(skip, 2)))
        return self.head(self.merge(torch.cat([skip, x], dim=1)))


class SegNet(nn.Module):
    """Unpools by the indices of its poolings, as a module and as a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.beside = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 4, 3, padding=1)
        self.unpool = nn.MaxUnpool2d(2)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + self.beside(x)
        x, places = self.pool(x)
        x = F.relu(self.second(x))
        size = x.size()
        x, deeper = F.max_pool2d(x, 2, return_indices=True)
        x = F.max_unpool2d(x, deeper, 2, output_size=size)
        x = F.relu(self.third(x))
        return self.last(self.unpool(x, places))


class Grouped(nn.Module):
    """A separable unit with a gate, and convolutions with strides, dilation and groups."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(1, 6, 5, stride=2, padding=2)
        self.depth = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.squeeze = nn.Conv2d(6, 2, 1)
        self.excite = nn.Conv2d(2, 6, 1)
        self.point = nn.Conv2d(6, 8, 1)
        self.wide = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), stride=(1, 2), groups=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.silu(self.stem(x))
        y = F.hardswish(self.norm(self.depth(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = F.gelu(self.point(x + y * gate))
        return self.fc(self.wide(x).flatten(2).amax(-1))


class Several(nn.Module):
    """Nodes with several inputs: a sum of three, and lists that are concatenated and stacked."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.branches = nn.ModuleList(nn.Conv2d(1, 4, k, padding=k // 2) for k in (1, 3, 5))
        self.joined = nn.Conv2d(12, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        found = [branch(x) for branch in self.branches]
        total = sum(found)
        y = self.joined(torch.cat(found, 1))
        y = torch.where(y > 0, y, 0.1 * total)
        y = torch.maximum(y, torch.stack(found).mean(0))
        return self.fc(y.mean((2, 3)))


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

PASSES = {
    "a module used twice": lambda m, x: m.answer(m.b(F.relu(m.b(F.relu(m.a(x)))))),
    "a module used twice on two sizes": lambda m, x: m.answer(
        F.avg_pool2d(m.b(y := m.a(x)), 2) + m.b(F.max_pool2d(y, 2))
    ),
    "view with the batch from size": lambda m, x: m.fc(
        F.adaptive_avg_pool2d(m.b(m.a(x)), 1).view(x.size(0), -1)
    ),
    "reshape with the batch from shape": lambda m, x: m.fc(
        F.adaptive_max_pool2d(m.b(m.a(x)), (1, 1)).reshape(x.shape[0], x.shape[1] * 4)
    ),
    "view with the batch unnamed": lambda m, x: m.fc(m.a(x).mean((2, 3)).view(-1, 4)),
    "view with sizes in one tuple": lambda m, x: m.fc(
        m.a(x).mean((2, 3)).reshape((x.size(0), 4)) + m.b(m.a(x)).sum((-1, -2))
    ),
    "channel shuffle": lambda m, x: m.answer(
        m.b(m.a(x).view(x.size(0), 2, 2, 8, 8).transpose(1, 2).reshape(x.size(0), -1, 8, 8))
    ),
    "samples mixed by a view": lambda m, x: m.answer(
        m.b(m.a(x).view(4, x.size(0), 8, 8).transpose(0, 1).flip(0))
    ),
    "chunk": lambda m, x: m.answer(
        torch.cat([(p := (m.a(x) + m.b(m.a(x))).chunk(2, 1))[1], p[0]], 1)
    ),
    "split": lambda m, x: m.answer(
        m.c(torch.cat(list(torch.split(m.b(m.a(x)) + m.a(x), [1, 3], dim=1))[::-1], 1))
    ),
    "unbind": lambda m, x: m.fc(
        torch.stack((m.b(m.a(x)) + m.a(x)).unbind(1)[::-1], 1).mean((2, 3))
    ),
    "largest and its place": lambda m, x: m.fc(torch.max((m.b(m.a(x)) + m.a(x)).flatten(2), 2)[0]),
    "interpolation to another tensor's size": lambda m, x: m.answer(
        F.interpolate(m.b(F.avg_pool2d(m.a(x), 2)), size=m.a(x).shape[2:]) + m.c(m.a(x))
    ),
    "interpolation by a factor": lambda m, x: m.answer(
        F.interpolate(m.b(m.a(x)), scale_factor=2, mode="bicubic", align_corners=True)
    ),
    "softmax over samples": lambda m, x: m.answer(
        torch.softmax(m.b(m.a(x)), dim=0) + m.c(x + m.a(x))
    ),
    "softmax over channels": lambda m, x: m.answer(torch.softmax(m.b(m.a(x)), dim=1) * m.a(x)),
    "mean over samples subtracted": lambda m, x: m.answer(
        F.relu((y := m.b(F.relu(m.a(x)))) - y.mean(0)) + m.c(m.a(x))
    ),
    "mean over samples with its dimension": lambda m, x: m.answer(
        m.c(F.relu((y := m.b(F.relu(m.a(x)))) - y.mean(0, keepdim=True)))
    ),
    "products of samples": lambda m, x: (f := m.answer(m.b(m.a(x)))) @ f.t() @ f,
    "normalized by the batch": lambda m, x: m.answer(
        F.batch_norm(m.a(x), None, None, training=True)
        + F.relu(F.batch_norm(m.c(m.b(x + m.a(x))), None, None, training=True))
    ),
    "normalized by each sample": lambda m, x: m.answer(
        F.relu(F.instance_norm(m.b(y := m.a(x)))) + F.group_norm(m.c(y), 2)
    ),
    "samples reversed": lambda m, x: m.answer(m.c(m.b(m.a(x)).flip(0) + m.a(x))),
    "first sample for all": lambda m, x: m.answer(m.a(x) - m.b(m.a(x))[:1]),
    "samples rolled": lambda m, x: m.answer(torch.roll(m.b(m.a(x)), 1, 0) + m.a(x)),
    "samples concatenated and cut": lambda m, x: m.answer(
        torch.cat([m.a(x), m.b(m.a(x))], 0)[x.shape[0] :] + m.a(x)
    ),
    "zeros like": lambda m, x: m.answer(m.a(x) + torch.zeros_like(m.b(m.a(x)))),
    "ones like, after a zeroed kernel": lambda m, x: m.answer(
        m.c(torch.ones_like(m.b(m.a(x)))) + m.a(x)
    ),
    "new zeros": lambda m, x: m.answer(
        torch.cat([m.b(m.a(x))[:, 1:], x.new_zeros(x.size(0), 1, 8, 8)], 1)
    ),
    "constant branch": lambda m, x: m.answer(m.b(torch.zeros_like(m.a(x))) + m.a(x)),
    "scalars": lambda m, x: m.answer(
        2 - 0.5 * m.b(m.a(x) / 3 + 1) ** 2 + m.a(x) * (1 / x.shape[2])
    ),
    "a sum divided by the batch": lambda m, x: m.answer(
        m.b(m.a(x)) - m.a(x).sum(0, keepdim=True) / x.shape[0]
    ),
    "indexing": lambda m, x: m.answer(
        m.b(m.a(x)[:, [3, 2, 1, 0]])[:, :, ::2, 1:] + m.a(x)[..., ::2, 1:]
    ),
    "padding": lambda m, x: m.answer(
        F.pad(m.b(F.pad(m.a(x), (1, 0, 2, 1))), (-1, 0), value=1.0) + 1
    ),
    "norm and attention": lambda m, x: m.fc(
        F.scaled_dot_product_attention(
            t := F.layer_norm(m.b(m.a(x)).flatten(2).transpose(1, 2), (4,)), t, t
        ).mean(1)
    ),
    "kernel read directly": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight, m.b.bias, padding=1)
    ),
    "kernel read directly and by its module": lambda m, x: m.answer(
        m.b(m.a(x)) + F.conv2d(m.a(x), m.b.weight, padding=2, dilation=2)
    ),
    "kernel in a sum": lambda m, x: m.answer(m.a(x) * m.b.weight.abs().mean() + m.c(m.a(x))),
    "kernel changed before use": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight - m.b.weight.mean((1, 2, 3), keepdim=True), padding=1)
    ),
    "transposed with a parameter": lambda m, x: m.answer(
        F.conv_transpose2d(m.a(x), m.b.weight, stride=2, padding=1, output_padding=1)
    ),
    "padding by name": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight, None, 1, "same", dilation=2)
    ),
    "frames of a video": lambda m, x: m.answer(
        m.b(F.relu(m.a(x.reshape(-1, 1, 4, 8)))).view(x.shape[0], 2, 4, 4, 8).mean(1)
    ),
    "frames of a video, zeroed in between": lambda m, x: m.answer(
        (m.b(y := m.a(x.reshape(x.shape[0] * 2, 1, 4, 8))) + y).view(-1, 2, 4, 4, 8).sum(1)
    ),
}


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


# Networks that cannot be traced, and networks that must be refused


def warnings_of(caplog):
    return " ".join(
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    )


def test_a_network_that_only_torch_export_can_trace(caplog):
    def forward(m, x):
        if x.shape[2] % 2:
            x = F.pad(x, (0, 0, 0, 1))
        return m.answer(m.b(F.relu(m.a(x))))

    for shape in ((1, 8, 8), (1, 7, 8)):
        model = Forward(forward)
        assert check(model, images_for(model, shape)).method == "torch.export"
    assert warnings_of(caplog) == ""


def branching_on_values(forward):
    def branching(m, x):
        return forward(m, x) if x.abs().sum() >= 0 else x

    return branching


def test_a_network_that_branches_on_values_takes_full_passes_with_a_warning(caplog):
    model = Forward(branching_on_values(lambda m, x: m.answer(m.b(F.relu(m.a(x))) + m.a(x))))
    replay = check(model, images_for(model))
    assert replay.method == "full passes"
    assert replay.cost is None
    assert replay.statuses == {
        "baseline": "ok",
        "a": "cut",
        "b": "ok",
        "c": "no_effect",
        "all": "cut",
    }
    said = warnings_of(caplog)
    assert "torch.fx: symbolically traced variables cannot be used as inputs to control" in said
    assert "torch.export: " in said
    assert "each of the 5 targets takes a full pass" in said


@pytest.mark.parametrize("branches", [False, True], ids=["traced", "full passes"])
@pytest.mark.parametrize("name", ["kernel read directly and by its module", "a module used twice"])
def test_kernels_that_are_read_in_several_ways(name, branches):
    model = Forward(branching_on_values(PASSES[name]) if branches else PASSES[name])
    check(model, images_for(model))


@pytest.mark.parametrize("branches", [False, True], ids=["traced", "full passes"])
@pytest.mark.parametrize("before", [False, True], ids=["hook", "hook before"])
def test_a_users_hooks_on_a_convolution_are_called(branches, before):
    def forward(m, x):
        return m.answer(F.relu(m.b(F.relu(m.a(x)))) + m.a(x))

    model = Forward(branching_on_values(forward) if branches else forward)
    images = images_for(model)
    if before:
        model.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3,))
    else:
        model.b.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    hooks = len(model.b._forward_hooks), len(model.b._forward_pre_hooks)
    assert (check(model, images).method == "full passes") == branches
    assert (len(model.b._forward_hooks), len(model.b._forward_pre_hooks)) == hooks


def test_hooks_on_the_whole_network_are_called():
    model = Forward(lambda m, x: m.answer(m.b(F.relu(m.a(x)))))
    images = images_for(model)
    model.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    check(model, images)


def test_a_network_that_behaves_differently_on_a_batch_of_one():
    def forward(m, x):
        y = m.answer(m.b(F.relu(m.a(x))))
        return y - y.mean(0) if x.shape[0] > 1 else y

    model = Forward(forward)
    check(model, images_for(model), batch_size=2)


class Counting(Forward):
    """Changes its own buffer, also in evaluation mode."""

    def __init__(self, change, forward=lambda m, x: m.answer(m.b(F.relu(m.a(x))))):
        super().__init__(forward)
        self.change = change
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.change(self, x)
        return super().forward(x)


def reassigned(m, x):
    m.seen = m.seen + x.mean()


def counted(m, x):
    m.seen += 1


def trained_normalization():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    model[1].train()
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: Counting(lambda m, x: m.seen.add_(x.mean())),
        lambda: Counting(counted),
        lambda: Counting(reassigned),
        lambda: Counting(lambda m, x: m.seen.copy_(x[0, 0, 0, :1])),
        lambda: Counting(
            lambda m, x: m.seen.add_(x.mean()),
            branching_on_values(lambda m, x: m.answer(m.b(m.a(x)))),
        ),
        lambda: Counting(counted, branching_on_values(lambda m, x: m.answer(m.b(m.a(x))))),
        lambda: Counting(lambda m, x: m.fc.bias.data.mul_(0.9)),
    ],
    ids=[
        "mean",
        "count",
        "reassigned",
        "copied",
        "mean, full passes",
        "count, full passes",
        "parameter",
    ],
)
def test_a_network_that_changes_its_own_state_is_refused_and_restored(make):
    model = make()
    images_for(model)
    before = state_digest(model)
    with pytest.raises(UserError, match="changes its own"):
        Replay(model, SHAPE, {"b": ["b"]}, batch_size=2)
    assert isinstance(model.seen, torch.Tensor)
    assert state_digest(model) == before


def test_normalization_in_training_mode_is_refused_and_restored():
    model = trained_normalization()
    before = state_digest(model)
    with pytest.raises(UserError, match="changes its own"):
        Replay(model, SHAPE, {"0": ["0"]}, batch_size=2)
    assert state_digest(model) == before


def test_unknown_paths_and_precisions_are_refused():
    model = small_vgg().eval()
    with pytest.raises(UserError, match="is not a convolution"):
        Replay(model, SHAPE, {"x": ["nowhere"]}, batch_size=2)
    with pytest.raises(UserError, match="precision"):
        Replay(model, SHAPE, {"x": ["0"]}, batch_size=2, precision="fp8")


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


# Interface


def test_the_network_is_not_changed():
    for model in (small_vgg(), UNet(), Forward(branching_on_values(PASSES["a module used twice"]))):
        images = images_for(model)
        before = state_digest(model), {k: sorted(vars(m)) for k, m in model.named_modules()}
        grads = {name: p.requires_grad for name, p in model.named_parameters()}
        check(model, images)
        assert before == (
            state_digest(model),
            {k: sorted(vars(m)) for k, m in model.named_modules()},
        )
        assert grads == {name: p.requires_grad for name, p in model.named_parameters()}
        assert not any(module.training for module in model.modules())
        assert all(p.grad is None for p in model.parameters())


def test_two_interleaved_batches_and_an_abandoned_one():
    model = UNet()
    images = images_for(model, count=6)
    targets = every_kernel(model)
    replay = Replay(model, SHAPE, targets, batch_size=3)
    expected = [replayed(replay, part, 3) for part in images.split(3)]
    next(replay(images[:3]))  # abandoned
    pairs = zip(replay(images[:3]), replay(images[3:]), strict=True)
    for (names, first), (others, second) in pairs:
        assert names == others
        assert torch.equal(first, expected[0][names[0]])
        assert torch.equal(second, expected[1][names[0]])


def test_the_callers_gradient_mode_is_kept():
    model = UNet()
    images = images_for(model)
    replay = Replay(model, SHAPE, every_kernel(model), batch_size=5)
    for _ in replay(images):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
    with torch.inference_mode():
        within = replayed(Replay(model, SHAPE, every_kernel(model), batch_size=5), images, 5)
    without = replayed(replay, images, 5)
    assert all(torch.equal(within[name], without[name]) for name in within)


@pytest.mark.parametrize("make", [small_vgg, UNet, SegNet])
def test_channels_last_networks(make):
    model = make()
    images = images_for(model).contiguous(memory_format=torch.channels_last)
    check(model.to(memory_format=torch.channels_last), images)


def test_images_in_any_memory_format():
    model = UNet()
    images = images_for(model, (1, 8, 12))
    strange = images.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert not strange.is_contiguous()
    check(model, strange, references=(False,))


def test_no_targets():
    replay = Replay(small_vgg().eval(), SHAPE, {}, batch_size=2)
    assert list(replay(digits(2))) == []
    assert replay.statuses == {}


def test_kernels_may_be_named_twice_and_in_any_order():
    model = UNet()
    images = images_for(model)
    targets = {"one": ["down.0", "up", "down.0"], "two": ("up", "down.0"), "three": {"up"}}
    replay = check(model, images, targets)
    together = [set(names) for names, _ in replay(images)]
    assert {"one", "two"} in together


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


def test_no_warning_without_a_reason(caplog):
    caplog.set_level(logging.WARNING)
    model = UNet()
    check(model, images_for(model))
    assert warnings_of(caplog) == ""
