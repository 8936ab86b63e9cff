import copy
import pickle
from contextlib import contextmanager
from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from nontrivial.errors import UserError
from nontrivial.networks.building import build
from nontrivial.networks.convolutions import forward_calls
from nontrivial.networks.live_convolutions import without_dead_taps
from nontrivial.networks.live_weights import live_mask

LAYER4 = [f"layer4.{block}.conv{number}" for block in range(3) for number in (1, 2)]


@contextmanager
def numbers(dtype):
    """Make torch's default numbers these: the pass that finds dead taps takes images of them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with numbers(torch.float64):
        yield


def types(model):
    return [type(module) for module in model.modules()]


def results(model, images):
    """Return the output and the gradients of the images and of every parameter."""
    images = images.detach().requires_grad_()
    model.zero_grad()
    output = model(images)
    factors = torch.linspace(1, 2, output.numel(), dtype=output.dtype).view_as(output)
    (output * factors).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {"output": output.detach(), "images": images.grad, **gradients}


def assert_close(found, expected, tolerance):
    """Compare in units of the largest value of each tensor."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = tensor.abs().max().item() or 1.0
        assert (found[name] - tensor).abs().max().item() <= tolerance * scale, name


@st.composite
def convolutions(draw):
    """Draw (convolution, images that it takes), positive: no sum cancels."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    groups = draw(st.sampled_from([1, 1, 2]))
    small = st.tuples(st.integers(1, 4), st.integers(1, 4))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(
        st.one_of(
            st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from(["same", "valid"])
        )
    )
    module = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        1 if padding == "same" else draw(small),
        padding,
        # Of a tap alone torch 2.14 may read past its memory, see live_part.
        tuple(1 if taps == 1 else draw(st.integers(1, 4)) for taps in kernel),
        groups,
        bias=draw(st.booleans()),
    )
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    images = torch.rand(draw(st.integers(1, 3)), module.in_channels, *size)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    if padding != "same":
        before = (0, 0) if padding == "valid" else padding
        for length, taps, zeros, step in zip(size, kernel, before, module.dilation, strict=True):
            assume(length + 2 * zeros > step * (taps - 1))
    return module, images


@settings(deadline=None, max_examples=300)
@given(drawn=convolutions())
def test_outputs_and_gradients_are_those_of_the_plain_convolution(drawn):
    module, images = drawn
    model = nn.Sequential(module)
    expected = results(model, images)
    (call,) = forward_calls(model, images.shape[1], images.shape[2:])
    dead = ~torch.from_numpy(live_mask(call))
    with without_dead_taps(model, images.shape[1], images.shape[2:]) as paths:
        found = results(model, images)
    assert_close(found, expected, 1e-12)
    assert not found["0.weight"][:, :, dead].any()
    assert dead.any() or not paths


@settings(deadline=None, max_examples=150)
@given(drawn=convolutions(), innermost=st.booleans())
def test_in_the_numbers_and_orders_of_training(drawn, innermost):
    module, images = drawn
    size = tuple(images.shape[2:])
    model = nn.Sequential(module)
    (call,) = forward_calls(model, images.shape[1], size)
    live = live_mask(call)
    # Of a kernel that only meets padding torch 2.14 may read past its memory, too.
    assume(live.any())
    expected = results(model, images)
    model, images = model.float(), images.float()
    if innermost:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    with numbers(torch.float32), without_dead_taps(model, images.shape[1], size) as paths:
        assert_close(results(model, images), expected, 1e-5)
        parts = model[0].live_parts[size] if paths else ()
        taps = prod(part.count for part in parts) if parts else live.size
        # The gradient of a dead tap that stays torch 2.14 may leave unwritten in bf16.
        if taps == live.sum():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert_close(results(model, images), expected, 0.02)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_in_bf16_a_dead_tap_has_no_gradient(order):
    # torch 2.14 leaves that of the whole kernel unwritten: memory full of ones shows through.
    model = nn.Sequential(nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False))
    model = model.float().to(memory_format=order)
    images = torch.rand(16, 64, 1, 1, dtype=torch.float32).contiguous(memory_format=order)
    with numbers(torch.float32), without_dead_taps(model, 64, (1, 1)):
        for _ in range(10):
            held = [torch.ones(64 * 64 * 9, dtype=torch.bfloat16) for _ in range(4)]
            del held
            with torch.autocast("cpu", dtype=torch.bfloat16):
                gradient = results(model, images)["0.weight"]
            assert gradient[:, :, 1, 1].all()
            gradient[:, :, 1, 1] = 0
            assert not gradient.any()


def test_in_resnet34_at_32_pixels_the_last_block_is_changed_and_computes_the_same():
    torch.manual_seed(0)
    model = build("resnet34", None, 10, 3, (32, 32))
    plain = copy.deepcopy(model)
    images = torch.randn(4, 3, 32, 32)
    state = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    before = types(model)
    with without_dead_taps(model, 3, (32, 32)) as paths:
        assert paths == LAYER4
        found = results(model, images)
        assert {n: id(t) for n, t in model.state_dict(keep_vars=True).items()} == state
    assert types(model) == before
    assert_close(found, results(plain, images), 1e-9)
    assert_close(model.state_dict(), plain.state_dict(), 1e-12)  # running statistics
    for path in LAYER4[2:]:
        gradient = found[f"{path}.weight"].clone()
        assert gradient[:, :, 1, 1].all()
        gradient[:, :, 1, 1] = 0
        assert not gradient.any()


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("resnet34-cifar", 3, (32, 32)), ("pspnet_resnet34", 1, (48, 48)), ("resnet18", 3, (64, 64))],
)
def test_a_network_without_dead_taps_is_left_alone(name, channels, size):
    model = build(name, None, 2, channels, size)
    before = types(model)
    with without_dead_taps(model, channels, size) as paths:
        assert paths == []
        assert types(model) == before


class Small(nn.Module):
    """Reads images at their size and at one pixel, the latter with a kernel that is shared."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(2, 2, 3, padding=1)
        self.tied = nn.Conv2d(2, 2, 3, padding=1)
        self.tied.weight = self.wide.weight
        self.last = nn.Conv2d(2, 3, (1, 3), padding=(0, 1))

    def forward(self, x):
        pixel = self.tied(x.mean((-2, -1), keepdim=True))
        return self.last(self.wide(pixel) + self.wide(x))


def small():
    torch.manual_seed(0)
    return Small(), torch.randn(3, 2, 4, 1)


def test_a_module_at_two_sizes_and_a_weight_that_is_shared():
    model, images = small()
    expected = results(model, images)
    with without_dead_taps(model, 2, (4, 1)) as paths:
        assert paths == ["tied", "wide", "last"]
        assert model.wide.live_parts.keys() == {(1, 1), (4, 1)}
        assert model.tied.live_parts.keys() == {(1, 1)}
        assert_close(results(model, images), expected, 1e-12)
        one = images[0]
        assert torch.equal(model(one[None])[0], model(one))  # images without a batch


def test_at_another_size_the_plain_convolution_is_computed():
    model, images = small()
    wide = torch.randn(2, 2, 5, 6)
    expected = results(model, wide)
    with without_dead_taps(model, 2, (4, 1)):
        assert_close(results(model, wide), expected, 1e-12)
        model(images)
        assert_close(results(model, wide), expected, 1e-12)


def test_everything_is_undone_after_an_error():
    model, images = small()
    before = [dict(vars(module)) for module in model.modules()]
    expected = model(images)
    with pytest.raises(RuntimeError, match="interrupted"), without_dead_taps(model, 2, (4, 1)):
        raise RuntimeError("interrupted")
    assert types(model) == [Small, nn.Conv2d, nn.Conv2d, nn.Conv2d]
    assert [vars(module).keys() for module in model.modules()] == [b.keys() for b in before]
    assert torch.equal(model(images), expected)
    with (
        pytest.raises(UserError, match="does not take one image"),
        without_dead_taps(model, 5, (4, 1)),
    ):
        pass
    assert types(model) == [Small, nn.Conv2d, nn.Conv2d, nn.Conv2d]


def test_blocks_inside_each_other():
    model, images = small()
    expected = results(model, images)
    with without_dead_taps(model, 2, (4, 1)) as outer:
        with without_dead_taps(model, 2, (1, 1)) as inner:
            assert inner == []  # they are changed already
            assert_close(results(model, images), expected, 1e-12)
        assert len(outer) == 3
        assert nn.Conv2d not in types(model)
    assert types(model) == [Small, nn.Conv2d, nn.Conv2d, nn.Conv2d]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_a_plain_network_of_its_own(duplicate):
    model, images = small()
    expected = model(images)
    with without_dead_taps(model, 2, (4, 1)):
        copied = duplicate(model)
    assert types(copied) == [Small, nn.Conv2d, nn.Conv2d, nn.Conv2d]
    assert copied.tied.weight is copied.wide.weight is not model.wide.weight
    assert [vars(a).keys() for a in copied.modules()] == [vars(b).keys() for b in model.modules()]
    assert torch.equal(copied(images), expected)


def test_hooks_are_called_as_before():
    model, images = small()
    seen = []
    model.last.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model.last.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    model.last.register_full_backward_hook(lambda module, inputs, outputs: seen.append("backward"))
    expected = results(model, images)
    called = list(seen)
    with without_dead_taps(model, 2, (4, 1)):
        del seen[:]  # the tracing pass calls them, too
        assert_close(results(model, images), expected, 1e-12)
    assert seen == called


class OwnConvolution(nn.Conv2d):
    """A user's subclass."""


@pytest.mark.parametrize(
    "module",
    [
        OwnConvolution(2, 2, 3, padding=1),
        parametrizations.weight_norm(nn.Conv2d(2, 2, 3, padding=1)),
        prune.identity(nn.Conv2d(2, 2, 3, padding=1), "weight"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, 4, padding="same"),  # one more zero behind than in front
        nn.ConvTranspose2d(2, 2, 3, padding=1),
    ],
    ids=["subclass", "parametrized", "pruned", "circular", "uneven", "transposed"],
)
def test_what_is_no_plain_convolution_is_left_alone(module):
    model = nn.Sequential(module.double())
    before = types(model)
    with without_dead_taps(model, 2, (1, 1)) as paths:
        assert paths == []
        assert types(model) == before


def test_compiled_before_the_block_and_called_at_two_sizes():
    model, images = small()
    wide = torch.randn(2, 2, 5, 6)
    expected, expected_wide = results(model, images), results(model, wide)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    try:
        compiled(images)
        with without_dead_taps(model, 2, (4, 1)):
            found, found_wide = results(compiled, images), results(compiled, wide)
        after = results(compiled, images)
    finally:
        torch._dynamo.reset()
    for one, other in [(found, expected), (found_wide, expected_wide), (after, expected)]:
        assert_close({n.removeprefix("_orig_mod."): t for n, t in one.items()}, other, 1e-12)
