import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data.volumes.intensity import background, background_warning, normalize
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


def padded(share: float) -> np.ndarray:
    """Return the volume with so many zeros around it that they have this share."""
    zeros = np.zeros(round(VOLUME.size * share / (1 - share)), np.float32)
    return np.concatenate([VOLUME.ravel(), zeros])


@given(share=st.floats(0.05, 0.95), method=st.sampled_from(["zscore", "minmax", "percentile"]))
def test_with_a_mask_padding_changes_no_other_voxel(share, method):
    alone = normalize(VOLUME.ravel(), method, "v", "nonzero")
    assert np.array_equal(alone, normalize(VOLUME.ravel(), method, "v"))
    together = normalize(padded(share), method, "v", "nonzero")
    assert np.array_equal(together[: VOLUME.size], alone)
    zero = together[VOLUME.size :]
    assert (zero == zero[0]).all()
    assert zero[0] <= alone.min()
    if method != "zscore":
        assert (together.min(), together.max()) == pytest.approx((0, 1), abs=1e-6)


def test_a_mask_over_values_of_both_signs():
    image = np.array([-1000, 0, 0, 500, 1000], np.float32)
    assert normalize(image, "minmax", "v", "nonzero").tolist() == [0, 0.5, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros(9, np.float32), "brain_7: all its voxels are 0"),
        (np.array([0, 0, 5, 5], np.float32), "brain_7: all its voxels that are not 0 are equal"),
    ],
)
def test_a_mask_without_contrast(image, problem):
    with pytest.raises(UserError, match=problem):
        normalize(image, "minmax", "brain_7", "nonzero")


def test_an_unknown_mask():
    with pytest.raises(UserError, match="intensity_mask: 'otsu' is not nonzero or null"):
        normalize(VOLUME, "zscore", "v", "otsu")


@pytest.mark.parametrize("share", [0.6, 0.78, 0.95])
def test_how_far_zeros_move_percentile(share):
    image = padded(share)
    found = background(image, "percentile")
    assert found.share == pytest.approx(share, abs=1e-3)
    normalized = normalize(image, "percentile", "v")
    assert found.clipped == (normalized[: VOLUME.size] == normalized.max()).mean()
    assert found.clipped == pytest.approx(0.01 / (1 - share), rel=0.1)


@pytest.mark.parametrize("share", [0.6, 0.95])
def test_how_far_zeros_move_zscore(share):
    image = padded(share)
    found = background(image, "zscore")
    others = normalize(image, "zscore", "v")[: VOLUME.size].astype(float)
    assert (found.mean, found.sd) == pytest.approx((others.mean(), others.std()), rel=1e-4)


@pytest.mark.parametrize(
    ("image", "method"),
    [
        (padded(0.4), "percentile"),
        (padded(0.4), "zscore"),
        (padded(0.9), "minmax"),
        (np.zeros(9, np.float32), "zscore"),
        # half of the voxels at the limit itself, none above it
        (np.repeat(np.array([0, 7], np.float32), [60, 40]), "percentile"),
    ],
)
def test_backgrounds_that_do_not_matter(image, method):
    assert background(image, method) is None


def test_one_warning_names_the_worst_volume_and_the_number():
    found = {
        name: background(padded(share), "percentile")
        for name, share in (("a", 0.6), ("b", 0.9), ("c", 0.7))
    }
    text = background_warning(found, 8)
    assert "In 3 of 8 volume(s), more than half of the voxels are 0. In b, 90% are 0, so" in text
    assert "clips 10.0% of its other voxels at the upper limit (1% without background)" in text
    assert "`intensity_mask: nonzero`" in text
    scored = background_warning({"a": background(padded(0.6), "zscore")}, 1)
    assert "a standard deviation of 1.05 (0 and 1 without background)" in scored
    assert background_warning({}, 8) is None
    assert "subtract" not in text + scored


@pytest.mark.parametrize("value", [-1, -1024, 0.1, 3000])
@pytest.mark.parametrize("mask", [None, "nonzero"])
def test_a_background_that_is_not_0(value, mask):
    """A constant -1 put the mean of tissue at 0.73 without a word."""
    image = padded(0.7)
    image[VOLUME.size :] = value
    found = background(image, "zscore", mask)
    others = normalize(image, "zscore", "v", mask)[: VOLUME.size].astype(float)
    assert (found.mean, found.sd) == pytest.approx((others.mean(), others.std()), rel=1e-3)
    assert (found.share, found.value) == pytest.approx((0.7, value), abs=1e-3)
    text = background_warning({"a": found, "b": background(padded(0.6), "zscore")}, 9)
    assert "In 2 of 9 volume(s), more than half of the voxels are equal. In a, 70% are" in text
    assert f"in the 1 volume(s) where it is not 0 ({found.value:g} in a)." in text


def test_a_background_that_resampling_rounds():
    image = padded(0.7)
    image[VOLUME.size :] = -1024
    image[VOLUME.size :: 3] = np.nextafter(np.float32(-1024), np.float32(0))
    assert background(image, "zscore").share == pytest.approx(0.7, abs=1e-3)


def test_with_a_mask_zeros_do_not_count():
    assert background(padded(0.9), "zscore", "nonzero") is None
    assert background(np.zeros(9, np.float32), "zscore", "nonzero") is None
