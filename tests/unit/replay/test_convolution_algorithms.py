"""Every algorithm by which replay computes a convolution, against torch's own."""

import platform

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from replay_convolutions import CPU, FLOAT32, TOLERANCE, compare, difference, prepared
from torch import nn

from nontrivial.replay import convolution_algorithms as algorithms
from nontrivial.replay import winograd
from nontrivial.replay.winograd import TensorOptions


@pytest.fixture(scope="module", autouse=True)
def _no_dilation_of_a_single_tap():
    """Refuse what may make torch 2.14 read beyond its memory.

    With channels-last tensors, strides and a kernel of one tap along an axis with dilation, it
    now and then crashes the whole process. With contiguous tensors it does not.
    """

    def guarded(function):
        def call(images, weight, bias, stride, padding, dilation, groups):
            for taps, rate in zip(weight.shape[2:], dilation, strict=True):
                assert taps > 1 or rate == 1, (tuple(weight.shape), stride, dilation)
            return function(images, weight, bias, stride, padding, dilation, groups)

        return call

    functions = algorithms._FUNCTIONS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(algorithms, "_FUNCTIONS", {n: guarded(f) for n, f in functions.items()})
        yield


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def convolutions(draw):
    """Draw (convolution, images that it takes)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    module = nn.Conv2d(
        groups * draw(st.integers(1, 5)),
        groups * draw(st.integers(1, 5)),
        draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 5), (7, 1), (4, 4)])),
        draw(st.sampled_from([1, 1, 2, (1, 3)])),
        draw(st.sampled_from([0, 1, 2, 3, (0, 2)])),
        draw(st.sampled_from([1, 1, 2, 3, (2, 1)])),
        groups,
        bias=draw(st.booleans()),
    )
    images = torch.randn(draw(st.integers(1, 4)), module.in_channels, *draw(pairs))
    if draw(st.booleans()):
        images = nn.functional.interpolate(images, scale_factor=3)
        images = images + torch.randn(images.shape)
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    rows, columns = images.shape[2:]
    assume(reach[0] <= rows + 2 * module.padding[0])
    assume(reach[1] <= columns + 2 * module.padding[1])
    return module, images


@settings(deadline=None, max_examples=150)
@given(convolutions())
def test_any_convolution(drawn):
    compare(*drawn)


@settings(deadline=None, max_examples=60)
@given(convolutions())
def test_any_convolution_where_winograds_is_always_faster(drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "is_faster", lambda *_: True)
        compare(*drawn)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unwritten_memory_is_large_in_these_tests(dtype):
    assert (torch.empty(1000, dtype=dtype) > 1e38).all()


BFLOAT16 = TensorOptions(CPU, torch.bfloat16)


@pytest.mark.parametrize("options", [FLOAT32, BFLOAT16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("groups", "kernel", "stride", "padding", "size"),
    [
        (1, (5, 5), (1, 3), 1, (4, 4)),  # a dead column, so that the kernel is copied
        (1, (2, 7), (1, 2), 0, (14, 8)),
        (2, (2, 4), (1, 3), (1, 0), (6, 4)),
        (3, (5, 5), (1, 2), (0, 2), (7, 2)),
    ],
)
def test_one_column_of_one_channel_per_group(groups, kernel, stride, padding, size, options):
    torch.manual_seed(0)
    module = nn.Conv2d(groups, 2 * groups, kernel, stride, padding, groups=groups)
    tolerance = TOLERANCE if options is FLOAT32 else 0.02
    compare(module, torch.randn(2, groups, *size), tolerance, options)


ALGORITHMS = ("_dense", "_pointwise", "WinogradConvolution", "_direct", "_as_called")


def chosen(module, size, monkeypatch):
    """Return the algorithms chosen for a convolution, if Winograd's is always faster."""
    taken = []
    for name in ALGORITHMS:
        original = getattr(algorithms, name)
        monkeypatch.setattr(
            algorithms, name, lambda *given_, n=name, o=original: taken.append(n) or o(*given_)
        )
    monkeypatch.setattr(winograd, "is_faster", lambda *_: True)
    compare(module, torch.randn(2, module.in_channels, *size))
    return taken


@pytest.mark.parametrize(
    ("options", "size", "algorithm"),
    [
        (((4, 4, 3), {"padding": 1}), (1, 1), "_dense"),
        (((4, 4, 3), {"padding": 1, "stride": 2}), (2, 2), "_dense"),
        (((4, 4, 7), {"padding": 3, "stride": 2}), (2, 1), "_dense"),
        (((4, 4, 5), {}), (5, 5), "_dense"),
        (((4, 4, 1), {}), (4, 4), "_pointwise"),
        (((4, 4, 1), {"stride": 2}), (5, 4), "_pointwise"),
        (((4, 4, 1), {"padding": 1}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 1}), (4, 4), "WinogradConvolution"),
        (((4, 4, 3), {"padding": 2, "dilation": 2}), (5, 4), "WinogradConvolution"),
        (((4, 4, 3), {"padding": 1, "stride": 2}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 2}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 1, "groups": 2}), (1, 1), "_direct"),
        (((4, 4, 3), {"padding": 1, "groups": 2}), (4, 4), "_direct"),
    ],
)
def test_which_algorithm(options, size, algorithm, monkeypatch):
    torch.manual_seed(0)
    assert chosen(nn.Conv2d(*options[0], **options[1]), size, monkeypatch) == [algorithm]


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (1, 3, 4, 5), (4, 1, 1, 1), (3,)])
def test_row_major_tensors_have_the_strides_of_new_ones(shape):
    values = torch.randn(shape)
    given = values
    if len(shape) == 4:
        given = values.clone(memory_format=torch.channels_last)
    found = algorithms.row_major(given)
    assert torch.equal(found, values)
    assert found.stride() == torch.empty(shape).stride()


def test_a_transposed_convolution_is_called_as_is(monkeypatch):
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2)
    assert chosen(module, (3, 4), monkeypatch) == ["_as_called"]


# Dead taps


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 1, "stride": 2, "dilation": 2}, (9, 9)),
        ({"kernel_size": (7, 1), "stride": 2, "padding": 3, "dilation": (1, 2)}, (12, 5)),
        ({"kernel_size": 3, "stride": 2, "padding": 4, "dilation": 4}, (4, 4)),
        ({"kernel_size": 3, "padding": 4, "dilation": 4}, (4, 4)),
    ],
)
def test_a_single_tap_has_no_dilation(options, size, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "is_faster", lambda *_: False)
    compare(nn.Conv2d(4, 6, **options), torch.randn(2, 4, *size))


def taps_computed(module, size, monkeypatch):
    """Return the (kernel size, padding) with which torch's convolution is called."""
    seen = []
    original = algorithms._FUNCTIONS[len(module.kernel_size)]

    def recording(images, weight, bias, stride, padding, *rest):
        seen.append((tuple(weight.shape[2:]), padding))
        return original(images, weight, bias, stride, padding, *rest)

    monkeypatch.setitem(algorithms._FUNCTIONS, len(module.kernel_size), recording)
    monkeypatch.setattr(winograd, "is_faster", lambda *_: False)
    images = torch.randn(3, module.in_channels, *size)
    with torch.no_grad():
        expected = module.double()(images.double())
        found = prepared(module.float(), images)(images)
    assert difference(found, expected) <= TOLERANCE
    return seen


@pytest.mark.parametrize(
    ("options", "size", "sides", "padding"),
    [
        # Dilation wider than the map: the middle tap alone.
        ({"kernel_size": 3, "padding": 4, "dilation": 4}, (4, 4), (1, 1), (0, 0)),
        ({"kernel_size": 3, "padding": 4, "dilation": 4}, (4, 8), (1, 3), (0, 4)),
        ({"kernel_size": 5, "padding": 2}, (2, 2), (3, 3), (1, 1)),
        ({"kernel_size": 5, "padding": 2}, (2, 6), (3, 5), (1, 2)),
        ({"kernel_size": 7, "padding": 3}, (2, 3), (3, 5), (1, 2)),
        ({"kernel_size": 7, "padding": 3, "stride": 2}, (4, 4), (6, 6), (2, 2)),
        ({"kernel_size": 3, "padding": 1}, (4, 4), (3, 3), (1, 1)),
        ({"kernel_size": 3, "padding": 1, "groups": 4}, (1, 1), (1, 1), (0, 0)),
        ({"kernel_size": 4, "padding": 2}, (1, 2), (2, 4), (1, 2)),
        # Without the outer taps no padding gives the same outputs, so nothing is cut.
        ({"kernel_size": 2, "padding": 2, "stride": 2}, (1, 1), (2, 2), (2, 2)),
        ({"kernel_size": 3, "padding": 2, "stride": 3, "dilation": 3}, (5, 6), (3, 3), (2, 2)),
    ],
)
def test_dead_outer_taps_are_cut_off(options, size, sides, padding, monkeypatch):
    torch.manual_seed(0)
    module = nn.Conv2d(4, 4, **options)
    assert taps_computed(module, size, monkeypatch) == [(sides, padding)]


def test_dead_taps_are_cut_off_in_one_and_three_dimensions(monkeypatch):
    torch.manual_seed(0)
    one = nn.Conv1d(2, 3, 5, padding=8, dilation=4)
    assert taps_computed(one, (4,), monkeypatch) == [((1,), (0,))]
    three = nn.Conv3d(2, 3, 3, padding=1)
    assert taps_computed(three, (1, 2, 1), monkeypatch) == [((1, 3, 1), (0, 1, 0))]
