"""Tap geometry against brute force: convolutions computed element by element, and torch's own."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from nontrivial.networks.tap_geometry import (
    LiveRange,
    TapGeometry,
    front_padding,
    module_tap_geometry,
    tap_geometry,
)


def convolve(data, weights, stride, padding, dilation):
    """Return a convolution along one axis, element by element."""
    padded = np.pad(data, padding)
    reach = dilation * (len(weights) - 1)
    starts = range(0, len(padded) - reach, stride)
    return [sum(w * padded[s + t * dilation] for t, w in enumerate(weights)) for s in starts]


@st.composite
def axes(draw):
    """Draw a geometry with at least one position and equal padding on both sides."""
    length, taps = draw(st.integers(1, 8)), draw(st.integers(1, 7))
    stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    padding = draw(st.integers(0, 9))
    assume(length + 2 * padding > dilation * (taps - 1))
    positions = len(convolve(np.ones(length), np.ones(taps), stride, padding, dilation))
    return TapGeometry(length, positions, taps, stride, padding, dilation)


def outputs(axis, data, weights):
    return convolve(data, weights, axis.stride, axis.padding, axis.dilation)


@settings(deadline=None, max_examples=500)
@given(axis=axes())
def test_uses_count_the_outputs_that_each_tap_contributes_to(axis):
    found = [int(sum(outputs(axis, np.ones(axis.length), tap))) for tap in np.eye(axis.taps)]
    assert axis.uses().tolist() == found
    assert axis.live().tolist() == [count > 0 for count in found]


@settings(deadline=None, max_examples=500)
@given(axis=axes(), seed=st.integers(0, 2**32 - 1))
def test_the_live_range_computes_the_same(axis, seed):
    random = np.random.default_rng(seed)
    data, weights = random.integers(-9, 10, axis.length), random.integers(-9, 10, axis.taps)
    part = axis.live_range()
    kept = weights[part.first : part.first + part.count]
    assert len(kept) == part.count >= 1
    assert part.padding >= 0
    found = convolve(data, kept, axis.stride, part.padding, part.dilation)
    assert found == outputs(axis, data, weights)


@settings(deadline=None, max_examples=500)
@given(axis=axes())
def test_both_ends_of_the_live_range_are_live_or_nothing_is_cut(axis):
    part = axis.live_range()
    assert part.dilation == (axis.dilation if part.count > 1 else 1)
    if part.count < axis.taps:
        live = np.flatnonzero(axis.live())
        assert [part.first, part.first + part.count - 1] == [live[0], live[-1]]
    else:
        assert (part.first, part.padding) == (0, axis.padding)


@pytest.mark.parametrize(
    ("length", "taps", "stride", "padding", "dilation", "expected"),
    [
        # Maps of ResNets and of dilated networks.
        (1, 3, 1, 1, 1, LiveRange(1, 1, 0, 1)),
        (2, 3, 2, 1, 1, LiveRange(1, 2, 0, 1)),
        (2, 3, 1, 1, 1, LiveRange(0, 3, 1, 1)),
        (4, 3, 1, 4, 4, LiveRange(1, 1, 0, 1)),
        (2, 7, 1, 3, 1, LiveRange(2, 3, 1, 1)),
        # No equal padding gives as many positions, so nothing is cut.
        (1, 2, 2, 2, 1, LiveRange(0, 2, 2, 1)),  # no live tap at the first position
        (5, 3, 3, 2, 3, LiveRange(0, 3, 2, 3)),
        (1, 2, 3, 1, 3, LiveRange(0, 2, 1, 3)),  # no live tap at all
    ],
)
def test_live_range(length, taps, stride, padding, dilation, expected):
    positions = (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    axis = TapGeometry(length, positions, taps, stride, padding, dilation)
    assert axis.live_range() == expected


def test_a_transposed_convolution_swaps_input_and_output():
    options = {"kernel_size": [3], "stride": [2], "padding": [1], "dilation": [1]}
    (forward,) = tap_geometry(input_size=[7], output_size=[4], **options)
    (transposed,) = tap_geometry(input_size=[4], output_size=[7], transposed=True, **options)
    assert transposed == forward


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def modules(draw):
    """Draw a convolution module of every kind, with all weights one."""
    groups, kernel, dilation = draw(st.integers(1, 2)), draw(pairs), draw(pairs)
    options = {"groups": groups, "dilation": dilation, "bias": False}
    kind = draw(st.sampled_from(["padded", "named", "mode", "transposed"]))
    if kind == "transposed":
        padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        module = nn.ConvTranspose2d(2, 4, kernel, draw(pairs), padding, **options)
    elif kind == "named":
        padding = draw(st.sampled_from(["same", "valid"]))
        module = nn.Conv2d(2, 4, kernel, padding=padding, **options)
    elif kind == "mode":
        padding = draw(st.one_of(st.just("same"), st.tuples(st.integers(0, 2), st.integers(0, 2))))
        stride = 1 if padding == "same" else draw(pairs)
        options["padding_mode"] = draw(st.sampled_from(["replicate", "reflect", "circular"]))
        module = nn.Conv2d(2, 4, kernel, stride, padding, **options)
    else:
        padding = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
        module = nn.Conv2d(2, 4, kernel, draw(pairs), padding, **options)
    nn.init.ones_(module.weight)
    return module


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(deadline=None, max_examples=300)
@given(module=modules(), size=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_uses_of_a_module_are_the_gradients_of_its_taps(module, size):
    try:
        output = module(torch.ones(1, 2, *size))
    except RuntimeError:  # kernel or padding larger than the image
        return
    if output.numel() == 0:
        return
    output.sum().backward()
    rows, columns = module_tap_geometry(module, size, output.shape[2:])
    found = np.multiply.outer(rows.uses(), columns.uses())
    assert module.weight.grad[0, 0].tolist() == found.tolist()


def test_front_padding():
    assert front_padding(nn.Conv2d(1, 1, 3, padding=(2, 1))) == (2, 1)
    assert front_padding(nn.Conv2d(1, 1, 3, padding="valid")) == (0, 0)
    assert front_padding(nn.Conv2d(1, 1, (3, 4), padding="same", dilation=(2, 1))) == (2, 1)
