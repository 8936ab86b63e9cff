import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nontrivial.networks.live_taps import LivePart, live_part, live_taps


def convolve(data, weights, stride, padding, dilation):
    """Return a convolution along one axis, by hand."""
    padded = np.pad(data, padding)
    reach = dilation * (len(weights) - 1)
    starts = range(0, len(padded) - reach, stride)
    return [sum(w * padded[s + t * dilation] for t, w in enumerate(weights)) for s in starts]


@st.composite
def axes(draw):
    """Draw (length, taps, stride, padding, dilation) of which there is an output."""
    length, taps = draw(st.integers(1, 8)), draw(st.integers(1, 7))
    stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    padding = draw(st.integers(0, 9))
    assume(length + 2 * padding > dilation * (taps - 1))
    return length, taps, stride, padding, dilation


@settings(deadline=None, max_examples=500)
@given(axis=axes())
def test_a_tap_lives_where_changing_it_changes_the_output(axis):
    length, taps, *rest = axis
    outputs = [convolve(np.ones(length), tap, *rest) for tap in np.eye(taps)]
    stride, padding, dilation = rest
    found = live_taps(length, len(outputs[0]), taps, stride, padding, dilation)
    assert found.tolist() == [any(output) for output in outputs]


@settings(deadline=None, max_examples=500)
@given(axis=axes(), seed=st.integers(0, 2**32 - 1))
def test_the_live_part_computes_the_same(axis, seed):
    length, taps, stride, padding, dilation = axis
    random = np.random.default_rng(seed)
    data, weights = random.integers(-9, 10, length), random.integers(-9, 10, taps)
    part = live_part(*axis)
    kept = weights[part.first : part.first + part.count]
    assert len(kept) == part.count >= 1
    assert part.padding >= 0
    found = convolve(data, kept, stride, part.padding, part.dilation)
    assert found == convolve(data, weights, stride, padding, dilation)


@settings(deadline=None, max_examples=500)
@given(axis=axes())
def test_both_ends_of_the_live_part_live_or_nothing_is_cut(axis):
    length, taps, stride, padding, dilation = axis
    part = live_part(*axis)
    assert part.dilation == (dilation if part.count > 1 else 1)
    if part.count < taps:
        outputs = len(convolve(np.ones(length), np.ones(taps), stride, padding, dilation))
        live = np.flatnonzero(live_taps(length, outputs, taps, stride, padding, dilation))
        assert [part.first, part.first + part.count - 1] == [live[0], live[-1]]
    else:
        assert (part.first, part.padding) == (0, padding)


def test_where_the_maps_of_resnets_and_dilated_networks_are_cut():
    assert live_part(1, 3, 1, 1, 1) == LivePart(1, 1, 0, 1)
    assert live_part(2, 3, 2, 1, 1) == LivePart(1, 2, 0, 1)
    assert live_part(2, 3, 1, 1, 1) == LivePart(0, 3, 1, 1)
    assert live_part(4, 3, 1, 4, 4) == LivePart(1, 1, 0, 1)
    assert live_part(2, 7, 1, 3, 1) == LivePart(2, 3, 1, 1)


def test_nothing_is_cut_where_no_padding_on_both_sides_leads_to_as_many_outputs():
    assert live_part(1, 2, 2, 2, 1) == LivePart(0, 2, 2, 1)  # no tap lives in the first output
    assert live_part(5, 3, 3, 2, 3) == LivePart(0, 3, 2, 3)
    assert live_part(1, 2, 3, 1, 3) == LivePart(0, 2, 1, 3)  # no tap lives at all
