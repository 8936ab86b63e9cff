"""Winograd's transforms, and convolutions by them, against sums element by element and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_convolutions import CPU, FLOAT32, TOLERANCE, compare, difference, prepared
from torch import nn

from nontrivial.replay import winograd
from nontrivial.replay.winograd import TensorOptions, WinogradConvolution, Workspace, is_faster
from nontrivial.replay.winograd_transforms import axis_transform


def convolve(taps, data, dilation):
    """Return a convolution of three taps with padding equal to the dilation."""
    out = np.zeros_like(data)
    for position in range(len(data)):
        for tap, weight in enumerate(taps):
            read = position + (tap - 1) * dilation
            if 0 <= read < len(data):
                out[position] += weight * data[read]
    return out


@settings(deadline=None, max_examples=300)
@given(length=st.integers(1, 20), dilation=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_three_taps_along_an_axis(length, dilation, seed):
    random = np.random.default_rng(seed)
    taps, data = random.standard_normal(3), random.standard_normal(length)
    transform = axis_transform(length, dilation)
    factors = np.repeat(transform.kernel @ taps, transform.tiles)
    found = transform.output @ (factors * (transform.data @ data))
    np.testing.assert_allclose(found, convolve(taps, data, dilation), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dilation", range(1, 6))
def test_matrices_of_an_axis(dilation):
    for length in range(1, 21):
        transform = axis_transform(length, dilation)
        assert transform.data.shape == (transform.products, length)
        assert transform.output.shape == (length, transform.products)
        assert transform.products == len(transform.kernel) * transform.tiles
        matrices = (transform.data, transform.kernel, transform.output)
        coefficients = np.unique(np.concatenate([matrix.ravel() for matrix in matrices]))
        assert set(coefficients) <= {-1, -0.5, 0, 0.5, 1}
        assert transform.exact == (0.5 not in coefficients)
        # Never more products than one per tap and position that meet data.
        live = sum(
            0 <= position + step < length
            for position in range(length)
            for step in (-dilation, 0, dilation)
        )
        assert transform.products <= max(live, 4 * transform.tiles)


def test_number_of_products():
    assert axis_transform(1, 1).products == 1  # of 3
    assert axis_transform(2, 1).products == 3  # of 4 that meet data
    assert axis_transform(4, 1).products == 8  # of 10
    assert axis_transform(8, 2).products == 16


@st.composite
def same_sized(draw):
    """Draw (convolution of 3x3 taps that keeps the size, images)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    dilation = draw(st.integers(1, 4))
    module = nn.Conv2d(draw(st.integers(1, 6)), draw(st.integers(1, 6)), 3, 1, dilation, dilation)
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return module, torch.randn(draw(st.integers(1, 5)), module.in_channels, *size)


@pytest.mark.parametrize("chunk", [1, 2000, 16 << 20])
@pytest.mark.parametrize("joint", [0, 16, 1 << 20], ids=["by axis", "either", "jointly"])
def test_both_ways_in_chunks_of_any_size(chunk, joint, monkeypatch):
    monkeypatch.setattr(winograd, "is_faster", lambda *_: True)
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", chunk)
    monkeypatch.setattr(winograd, "_JOINT_POSITIONS", joint)
    used = []
    call = WinogradConvolution.__call__
    monkeypatch.setattr(
        WinogradConvolution, "__call__", lambda self, x: used.append(x.shape) or call(self, x)
    )

    @settings(deadline=None, max_examples=40)
    @given(same_sized())
    def law(drawn):
        before = len(used)
        compare(*drawn)
        # A map of one position takes a simpler algorithm.
        assert len(used) > before or drawn[1].shape[2:] == (1, 1)

    law()


def test_one_workspace_serves_convolutions_of_different_sizes(monkeypatch):
    monkeypatch.setattr(winograd, "is_faster", lambda *_: True)
    torch.manual_seed(0)
    workspace = Workspace()
    sizes = [(2, 4, 4), (6, 2, 2), (3, 8, 8), (6, 2, 2), (2, 4, 4)]
    modules = [nn.Conv2d(channels, 4, 3, padding=1) for channels, *_ in sizes]
    batches = [torch.randn(3, *size) for size in sizes]
    convolve = [prepared(m, x, workspace=workspace) for m, x in zip(modules, batches, strict=True)]
    with torch.no_grad():
        found = [one(images) for one, images in zip(convolve, batches, strict=True)]
        for module, images, result in zip(modules, batches, found, strict=True):
            assert difference(result, module(images).double()) <= TOLERANCE


def test_bfloat16_by_exact_transforms(monkeypatch):
    torch.manual_seed(0)
    options = TensorOptions(CPU, torch.bfloat16)
    monkeypatch.setattr(
        winograd,
        "is_faster",
        lambda inputs, _, dilation, __: all(axis_transform(n, dilation).exact for n in inputs[1:]),
    )
    for dilation, size in [(1, (2, 2)), (2, (3, 4)), (1, (1, 2)), (1, (4, 4))]:
        module = nn.Conv2d(8, 8, 3, padding=dilation, dilation=dilation)
        compare(module, torch.randn(4, 8, *size), 0.02, options)


def test_only_on_the_cpu_and_in_float32_or_where_its_transforms_are_exact():
    small, large = (512, 2, 2), (64, 4, 4)
    assert is_faster(small, small, 1, FLOAT32)
    assert is_faster(small, small, 1, TensorOptions(CPU, torch.bfloat16))
    assert not is_faster(small, small, 1, TensorOptions(torch.device("cuda"), torch.float32))
    assert not is_faster(large, large, 1, TensorOptions(CPU, torch.bfloat16))
