"""Numbers of live weights, against the gradients that torch computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nontrivial.networks.building import build
from nontrivial.networks.convolutions import forward_calls, forward_order
from nontrivial.networks.live_weights import count_weights

sides = st.integers(1, 7)


def by_gradient(module, calls):
    """Return the number of weights of a convolution with a gradient, from images of ones."""
    module.weight.grad = None
    for call in calls:
        module(torch.ones(1, module.in_channels, *call.input_size)).sum().backward()
    return int((module.weight.grad != 0).sum())


@st.composite
def convolution(draw):
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    groups = draw(st.integers(1, 2))
    dilation, kernel = draw(pairs), draw(pairs)
    transposed = draw(st.booleans())
    options = {"groups": groups, "dilation": dilation, "bias": False}
    if transposed:
        stride, padding = draw(pairs), draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        return nn.ConvTranspose2d(2, 4, kernel, stride, padding, **options)
    if draw(st.booleans()):
        return nn.Conv2d(2, 4, kernel, padding=draw(st.sampled_from(["same", "valid"])), **options)
    padding = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    mode = draw(st.sampled_from(["zeros", "zeros", "replicate"]))
    return nn.Conv2d(2, 4, kernel, draw(pairs), padding, padding_mode=mode, **options)


@settings(deadline=None, max_examples=100)
@given(module=convolution(), height=sides, width=sides)
def test_live_weights_are_those_that_get_a_gradient(module, height, width):
    with torch.no_grad():
        module.weight.fill_(1.0)
    model = nn.Sequential(module)
    try:
        output = module(torch.zeros(1, 2, height, width))
    except RuntimeError:  # the kernel is larger than the padded image
        return
    if output.numel() == 0:
        return
    calls = forward_calls(model, 2, (height, width))
    assert count_weights(calls, ["0"]) == (by_gradient(module, calls), module.weight.numel())


@pytest.mark.parametrize(
    ("name", "dead"),
    [("resnet34", 0.52), ("resnet34-cifar", 0.0)],
)
def test_half_of_resnet34_is_dead_at_32_pixels_but_nothing_with_the_cifar_stem(name, dead):
    calls = forward_calls(build(name, None, 10, 3, (32, 32)), 3, (32, 32))
    live, total = count_weights(calls, forward_order(calls))
    assert total in (21267648, 21259968)
    assert round(1 - live / total, 2) == dead


def test_on_one_pixel_only_the_center_tap_is_live():
    calls = forward_calls(build("resnet18", None, 10, 3, (32, 32)), 3, (32, 32))
    assert count_weights(calls, ["layer4.1.conv2"]) == (512 * 512, 512 * 512 * 9)


class Twice(nn.Module):
    """Uses one convolution on a map of one pixel and on a larger one, and shares a weight."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.tied = nn.Conv2d(2, 2, 3, padding=1)
        self.tied.weight = self.conv.weight

    def forward(self, x):
        return self.tied(self.conv(x.mean((2, 3), keepdim=True)) + self.conv(x))


def test_taps_are_live_in_any_call_and_shared_weights_count_once():
    calls = forward_calls(Twice(), 2, (2, 2))
    assert [call.path for call in calls] == ["conv", "conv", "tied"]
    assert count_weights(calls[:1], ["conv"]) == (4, 36)
    assert count_weights(calls, ["conv"]) == (36, 36)
    assert count_weights(calls, ["conv", "tied"]) == (36, 36)
