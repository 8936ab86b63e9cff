"""How replay is called: batches, memory formats, names, and what it leaves unchanged."""

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
    state_digest,
)
from small_networks import (
    PASSES,
    SHAPE,
    Forward,
    SegNet,
    UNet,
    branching_on_values,
    images_for,
    small_vgg,
    warnings_of,
)
from torch import nn

from nontrivial.networks.misread import SafeConvolutions
from nontrivial.replay import Replay

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export


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


class Misread(nn.Module):
    """Convolves grey images as torch 2.14 cannot in channels-last memory."""

    def __init__(self, forward, first=None):
        super().__init__()
        torch.manual_seed(0)
        self.first = first
        self.weight = nn.Parameter(torch.randn(4, 1, 3, 6))
        self.second = nn.Conv2d(4, 3, (3, 1))
        self.pass_ = forward

    def forward(self, x):
        return self.second(self.pass_(self, x).relu()).mean((2, 3))


def by_a_module(m, x):
    return m.first(x)


def by_a_function(m, x):
    return F.conv2d(x, m.weight, None, (1, 3))


def by_a_computed_kernel(m, x):
    return F.conv2d(x, 2 * m.weight, None, (1, 3))


def in_three_dimensions(m, x):
    return m.first(x.unsqueeze(2)).squeeze(2)


MISREAD = {
    "a module": (by_a_module, nn.Conv2d(1, 4, (3, 6), (1, 3))),
    "a function": (by_a_function, None),
    "a computed kernel": (by_a_computed_kernel, None),
    "one column in 3-D": (in_three_dimensions, nn.Conv3d(1, 4, (1, 3, 6), (1, 1, 3))),
    "one padded depth": (in_three_dimensions, nn.Conv3d(1, 4, 3, padding=1)),
}


def layout_of(weight):
    return torch.channels_last if weight.ndim == 4 else torch.channels_last_3d


def misread_network(kind, branching):
    """Return (network in channels-last memory, images, outputs in float64, by target)."""
    forward, first = MISREAD[kind]
    model = Misread(branching_on_values(forward) if branching else forward, first).eval()
    images = torch.randn(2, 1, 9, 7)
    expected = naive_loop(model.double(), every_kernel(model), images.double(), 2)
    model.float()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.clone(memory_format=layout_of(parameter))
    return model, images.clone(memory_format=torch.channels_last), expected


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("branching", [False, True], ids=["traced", "full passes"])
@pytest.mark.parametrize("kind", MISREAD)
def test_what_torch_misreads(kind, branching, reference, precision, tolerance):
    model, images, expected = misread_network(kind, branching)
    options = {"batch_size": 2, "reference": reference, "precision": precision}
    replay = Replay(model, (1, 9, 7), every_kernel(model), **options)
    assert replay.method == ("full passes" if branching else "torch.fx")
    scale = expected["baseline"].abs().max().item()
    for names, output in replay(images):
        assert all(close(output, expected[name], scale, tolerance) for name in names)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("misread", [False, True])
def test_only_what_torch_misreads_is_guarded(misread, reference, monkeypatch):
    model, images, _ = misread_network("a function", branching=False)
    if not misread:
        model, images = small_vgg().eval(), digits(2)
    shape = tuple(images.shape[1:])
    replay = Replay(model, shape, every_kernel(model), batch_size=2, reference=reference)
    guarded = []
    monkeypatch.setattr(SafeConvolutions, "__enter__", lambda self: guarded.append(self) or self)
    monkeypatch.setattr(SafeConvolutions, "__exit__", lambda *_: None)
    list(replay(images))
    assert bool(guarded) == misread


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


def test_no_warning_without_a_reason(caplog):
    caplog.set_level(logging.WARNING)
    model = UNet()
    check(model, images_for(model))
    assert warnings_of(caplog) == ""
