import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.channel_statistics import ChannelStatistics


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(-1e4, 1e4))
def test_chunks_do_not_matter(lengths, offset):
    images = np.random.default_rng(0).normal(offset, 3, (sum(lengths), 2, 5, 4)).astype("float32")
    statistics = ChannelStatistics(2)
    for part in np.split(images, np.cumsum(lengths)[:-1]):
        statistics.add(part)
    mean, std = statistics.result()
    assert mean == pytest.approx(images.mean(axis=(0, 2, 3), dtype=np.float64), rel=1e-7, abs=1e-7)
    assert std == pytest.approx(images.std(axis=(0, 2, 3), dtype=np.float64), rel=1e-7)


def test_a_constant_channel_has_deviation_one():
    statistics = ChannelStatistics(1)
    statistics.add(np.full((3, 1, 2, 2), 7, np.uint8))
    assert statistics.result() == ([7.0], [1.0])
