import numpy as np
import pytest

from nontrivial.data.volumes.intensity import normalize
from nontrivial.errors import UserError

VOLUME = np.random.default_rng(0).gamma(2, 300, (8, 9, 10)).astype(np.float32)


@pytest.mark.parametrize("method", ["zscore", "minmax", "percentile"])
def test_scale_and_offset_of_intensities_do_not_matter(method):
    once = normalize(VOLUME, method, "v")
    assert once.dtype == np.float32
    assert np.allclose(normalize(7 * VOLUME + 1000, method, "v"), once, atol=1e-4)


def test_the_range_of_each_method():
    scored = normalize(VOLUME, "zscore", "v")
    assert (scored.mean(), scored.std()) == pytest.approx((0, 1), abs=1e-5)
    ranged = normalize(VOLUME, "minmax", "v")
    assert (ranged.min(), ranged.max()) == (0, 1)
    clipped = normalize(VOLUME, "percentile", "v")
    assert (clipped.min(), clipped.max()) == pytest.approx((0, 1), abs=1e-6)
    assert 0.005 < (clipped == clipped.max()).mean() < 0.02


def test_the_volume_itself_is_not_changed():
    before = VOLUME.copy()
    normalize(VOLUME, "percentile", "v")
    assert np.array_equal(VOLUME, before)


@pytest.mark.parametrize("method", ["zscore", "minmax", "percentile"])
def test_a_constant_volume(method):
    with pytest.raises(UserError, match="brain_7: all its voxels are equal"):
        normalize(np.ones((3, 3, 3), np.float32), method, "brain_7")


def test_unknown_method():
    with pytest.raises(UserError, match="intensity"):
        normalize(VOLUME, "median", "v")
