"""Every way in which replay computes a convolution, against torch's own."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from nontrivial.replay import fast_convolution as ways
from nontrivial.replay.fast_convolution import Place, Scratch, prepare
from nontrivial.replay.folding import weight_and_bias
from nontrivial.replay.graph import Kind
from nontrivial.replay.minimal_filtering import axis
from nontrivial.replay.trace import trace

CPU = torch.device("cpu")
FLOAT32 = Place(CPU, torch.float32)
TOLERANCE = 1e-5  # of the largest result, in float32


@pytest.fixture(scope="module", autouse=True)
def _no_dilation_of_a_single_tap():
    """Refuse what torch 2.14 may answer by reading past its memory.

    With channels innermost, strides and a kernel of one tap along an axis of dilation, it
    ends the whole process, now and then. In the order of the plain loop it does not.
    """

    def guarded(function):
        def call(images, weight, bias, stride, padding, dilation, groups):
            for taps, rate in zip(weight.shape[2:], dilation, strict=True):
                assert taps > 1 or rate == 1, (tuple(weight.shape), stride, dilation)
            return function(images, weight, bias, stride, padding, dilation, groups)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "_DIRECT", {n: guarded(f) for n, f in ways._DIRECT.items()})
        yield


# Minimal filtering


def by_hand(taps, data, dilation):
    """Return the sum over three taps, the middle one on the place itself, zeros around."""
    out = np.zeros_like(data)
    for place in range(len(data)):
        for tap, weight in enumerate(taps):
            read = place + (tap - 1) * dilation
            if 0 <= read < len(data):
                out[place] += weight * data[read]
    return out


@settings(deadline=None, max_examples=300)
@given(length=st.integers(1, 20), dilation=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_three_taps_along_an_axis(length, dilation, seed):
    random = np.random.default_rng(seed)
    taps, data = random.standard_normal(3), random.standard_normal(length)
    how = axis(length, dilation)
    factors = np.repeat(how.kernel @ taps, how.tiles)  # kernel row first
    found = how.output @ (factors * (how.data @ data))
    np.testing.assert_allclose(found, by_hand(taps, data, dilation), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dilation", range(1, 6))
@pytest.mark.parametrize("length", range(1, 21))
def test_matrices_of_an_axis(length, dilation):
    how = axis(length, dilation)
    assert how.data.shape == (how.products, length)
    assert how.output.shape == (length, how.products)
    assert how.products == len(how.kernel) * how.tiles
    coefficients = np.unique([*how.data.ravel(), *how.kernel.ravel(), *how.output.ravel()])
    assert set(coefficients) <= {-1, -0.5, 0, 0.5, 1}
    assert how.exact == (0.5 not in coefficients)
    # Never more products than one per tap that meets data.
    live = sum(
        0 <= place + step < length for place in range(length) for step in (-dilation, 0, dilation)
    )
    assert how.products <= max(live, 4 * how.tiles)


def test_products_that_are_saved():
    assert axis(1, 1).products == 1  # of 3
    assert axis(2, 1).products == 3  # of 4 that meet data
    assert axis(4, 1).products == 8  # of 10
    assert axis(8, 2).products == 16


# Whole convolutions


def prepared(module, images, place=FLOAT32, scratch=None):
    """Return a convolution as replay prepares it for images of a size."""
    graph = trace(nn.Sequential(module).eval(), tuple(images.shape[1:]))
    (operation,) = (o for o in graph.operations if o.kind is Kind.CONVOLUTION)
    weight, bias = weight_and_bias(operation, module.weight, module.bias, place.dtype)
    inputs = graph.operations[operation.inputs[0]].shape
    return prepare(operation, weight, bias, inputs, place, scratch or Scratch())


def layouts(images):
    """Return the images in every order in memory that replay makes."""
    every = [images, images.contiguous(memory_format=torch.channels_last)]
    every.append(torch.cat([images, images])[len(images) :])
    if images.shape[1] > 1:
        # Of one channel of stride 1 torch 2.14 gives unwritten memory back, unpadded and with
        # unequal strides; its plain loop does, too.
        every.append(images.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1))
    return every


def difference(found, expected, terms=None):
    """Return the largest difference in units of the largest value, or of the largest sum of terms.

    Terms that cancel leave a value far smaller than they are, but not a smaller error.
    """
    assert found.shape == expected.shape
    scale = (expected if terms is None else terms).abs().max().item()
    return (found.double() - expected).abs().max().item() / (scale or 1.0)


@torch.no_grad()
def compare(module, images, tolerance=TOLERANCE, place=FLOAT32):
    expected = module.double()(images.double())
    terms = magnitudes(module)(images.double().abs())
    module.float()
    convolve = prepared(module, images, place)
    for given_ in layouts(images):
        assert difference(convolve(given_.to(place.dtype)), expected, terms) <= tolerance


def magnitudes(module):
    """Return the convolution whose weights are the absolute values."""
    positive = copy.deepcopy(module)
    for parameter in positive.parameters():
        parameter.abs_()
    return positive


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
def test_any_convolution_where_filtering_always_pays(drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "_filters", lambda *_: True)
        compare(*drawn)


@st.composite
def same_sized(draw):
    """Draw (convolution of three by three taps that keeps the size, images)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    dilation = draw(st.integers(1, 4))
    module = nn.Conv2d(draw(st.integers(1, 6)), draw(st.integers(1, 6)), 3, 1, dilation, dilation)
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return module, torch.randn(draw(st.integers(1, 5)), module.in_channels, *size)


@pytest.mark.parametrize("chunk", [1, 2000, 16 << 20])
@pytest.mark.parametrize("kronecker", [0, 16, 1 << 20], ids=["one by one", "either", "together"])
def test_filtered_both_ways_in_chunks_of_any_size(chunk, kronecker, monkeypatch):
    monkeypatch.setattr(ways, "_filters", lambda *_: True)
    monkeypatch.setattr(ways, "_CHUNK", chunk)
    monkeypatch.setattr(ways, "_KRONECKER", kronecker)
    used = []
    filtered = ways._Filtered.__call__
    monkeypatch.setattr(
        ways._Filtered, "__call__", lambda self, x: used.append(x.shape) or filtered(self, x)
    )

    @settings(deadline=None, max_examples=40)
    @given(same_sized())
    def law(drawn):
        before = len(used)
        compare(*drawn)
        # A map of one place has a simpler way.
        assert len(used) > before or drawn[1].shape[2:] == (1, 1)

    law()


def test_memory_that_is_kept_serves_convolutions_of_other_sizes(monkeypatch):
    monkeypatch.setattr(ways, "_filters", lambda *_: True)
    torch.manual_seed(0)
    scratch = Scratch()
    sizes = [(2, 4, 4), (6, 2, 2), (3, 8, 8), (6, 2, 2), (2, 4, 4)]
    modules = [nn.Conv2d(c, 4, 3, padding=1) for c, *_ in sizes]
    batches = [torch.randn(3, *size) for size in sizes]
    convolve = [prepared(m, x, scratch=scratch) for m, x in zip(modules, batches, strict=True)]
    with torch.no_grad():
        found = [one(images) for one, images in zip(convolve, batches, strict=True)]
        for module, images, result in zip(modules, batches, found, strict=True):
            assert difference(result, module(images).double()) <= TOLERANCE


def test_bfloat16_by_exact_filtering(monkeypatch):
    torch.manual_seed(0)
    place = Place(CPU, torch.bfloat16)
    monkeypatch.setattr(
        ways, "_filters", lambda inputs, _, d, __: all(axis(n, d).exact for n in inputs[1:])
    )
    for dilation, size in [(1, (2, 2)), (2, (3, 4)), (1, (1, 2)), (1, (4, 4))]:
        module = nn.Conv2d(8, 8, 3, padding=dilation, dilation=dilation)
        compare(module, torch.randn(4, 8, *size), 0.02, place)


def test_filtering_is_taken_only_in_float32_or_where_its_factors_are_exact():
    few, many = (64, 4, 4), (64, 4, 4)
    assert not ways._filters(few, many, 1, Place(CPU, torch.bfloat16))
    assert not ways._filters(
        (512, 2, 2), (512, 2, 2), 1, Place(torch.device("cuda"), torch.float32)
    )
    assert ways._filters((512, 2, 2), (512, 2, 2), 1, Place(CPU, torch.bfloat16))


WAYS = ("_dense", "_pointwise", "_Filtered", "_direct", "_as_called")


def way_of(module, size, monkeypatch, filters):
    """Return which way a convolution of one row of a size is prepared."""
    taken = []
    for name in WAYS:
        original = getattr(ways, name)
        monkeypatch.setattr(
            ways, name, lambda *given_, n=name, o=original: taken.append(n) or o(*given_)
        )
    monkeypatch.setattr(ways, "_filters", lambda *_: filters)
    compare(module, torch.randn(2, module.in_channels, *size))
    return taken


@pytest.mark.parametrize(
    ("options", "size", "way"),
    [
        (((4, 4, 3), {"padding": 1}), (1, 1), "_dense"),
        (((4, 4, 3), {"padding": 1, "stride": 2}), (2, 2), "_dense"),
        (((4, 4, 7), {"padding": 3, "stride": 2}), (2, 1), "_dense"),
        (((4, 4, 5), {}), (5, 5), "_dense"),
        (((4, 4, 1), {}), (4, 4), "_pointwise"),
        (((4, 4, 1), {"stride": 2}), (5, 4), "_pointwise"),
        (((4, 4, 1), {"padding": 1}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 1}), (4, 4), "_Filtered"),
        (((4, 4, 3), {"padding": 2, "dilation": 2}), (5, 4), "_Filtered"),
        (((4, 4, 3), {"padding": 1, "stride": 2}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 2}), (4, 4), "_direct"),
        (((4, 4, 3), {"padding": 1, "groups": 2}), (1, 1), "_direct"),
        (((4, 4, 3), {"padding": 1, "groups": 2}), (4, 4), "_direct"),
    ],
)
def test_which_way(options, size, way, monkeypatch):
    torch.manual_seed(0)
    assert way_of(nn.Conv2d(*options[0], **options[1]), size, monkeypatch, True) == [way]


def test_a_transposed_convolution_is_called_as_it_is(monkeypatch):
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2)
    assert way_of(module, (3, 4), monkeypatch, True) == ["_as_called"]


# Dead sides


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
    monkeypatch.setattr(ways, "_filters", lambda *_: False)
    compare(nn.Conv2d(4, 6, **options), torch.randn(2, 4, *size))


def taps_computed(module, size, monkeypatch):
    """Return the sides of the kernel that the convolution of a map really uses, and padding."""
    seen = []
    original = ways._DIRECT[len(module.kernel_size)]

    def recording(images, weight, bias, stride, padding, *rest):
        seen.append((tuple(weight.shape[2:]), padding))
        return original(images, weight, bias, stride, padding, *rest)

    monkeypatch.setitem(ways._DIRECT, len(module.kernel_size), recording)
    monkeypatch.setattr(ways, "_filters", lambda *_: False)
    images = torch.randn(3, module.in_channels, *size)
    with torch.no_grad():
        expected = module.double()(images.double())
        found = prepared(module.float(), images)(images)
    assert difference(found, expected) <= TOLERANCE
    return seen


@pytest.mark.parametrize(
    ("options", "size", "sides", "padding"),
    [
        # Rates wider than the map: the middle tap alone.
        ({"kernel_size": 3, "padding": 4, "dilation": 4}, (4, 4), (1, 1), (0, 0)),
        ({"kernel_size": 3, "padding": 4, "dilation": 4}, (4, 8), (1, 3), (0, 4)),
        ({"kernel_size": 5, "padding": 2}, (2, 2), (3, 3), (1, 1)),
        ({"kernel_size": 5, "padding": 2}, (2, 6), (3, 5), (1, 2)),
        ({"kernel_size": 7, "padding": 3}, (2, 3), (3, 5), (1, 2)),
        ({"kernel_size": 7, "padding": 3, "stride": 2}, (4, 4), (6, 6), (2, 2)),
        ({"kernel_size": 3, "padding": 1}, (4, 4), (3, 3), (1, 1)),
        ({"kernel_size": 3, "padding": 1, "groups": 4}, (1, 1), (1, 1), (0, 0)),
        ({"kernel_size": 4, "padding": 2}, (1, 2), (2, 4), (1, 2)),
        # Without the outer taps no padding leads to the same outputs: nothing is cut.
        ({"kernel_size": 2, "padding": 2, "stride": 2}, (1, 1), (2, 2), (2, 2)),
        ({"kernel_size": 3, "padding": 2, "stride": 3, "dilation": 3}, (5, 6), (3, 3), (2, 2)),
    ],
)
def test_outer_taps_that_only_meet_padding_are_cut_off(options, size, sides, padding, monkeypatch):
    torch.manual_seed(0)
    module = nn.Conv2d(4, 4, **options)
    assert taps_computed(module, size, monkeypatch) == [(sides, padding)]


def test_dead_sides_are_cut_in_one_and_three_dimensions(monkeypatch):
    torch.manual_seed(0)
    one = nn.Conv1d(2, 3, 5, padding=8, dilation=4)
    assert taps_computed(one, (4,), monkeypatch) == [((1,), (0,))]
    three = nn.Conv3d(2, 3, 3, padding=1)
    assert taps_computed(three, (1, 2, 1), monkeypatch) == [((1, 3, 1), (0, 1, 0))]
