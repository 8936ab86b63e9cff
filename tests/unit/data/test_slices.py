import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data.volumes import slices
from nontrivial.errors import UserError


def marked(x: int, y: int, z: int) -> np.ndarray:
    volume = np.zeros((4, 5, 6))
    volume[x, y, z] = 1
    return volume


@pytest.mark.parametrize(
    ("axis", "shape", "position"),
    [
        ("sagittal", (4, 6, 5), (1, 6 - 1 - 3, 2)),
        ("coronal", (5, 6, 4), (2, 6 - 1 - 3, 1)),
        ("axial", (6, 5, 4), (3, 5 - 1 - 2, 1)),
    ],
)
def test_superior_or_anterior_is_up_and_left_is_left(axis, shape, position):
    result = slices.cut(marked(1, 2, 3), axis)
    assert result.shape == shape
    assert result[position] == 1


def test_spacing_follows_the_axes():
    assert slices.in_plane((1.0, 2.0, 3.0), "sagittal") == (3.0, 2.0)
    assert slices.in_plane((1.0, 2.0, 3.0), "coronal") == (3.0, 1.0)
    assert slices.in_plane((1.0, 2.0, 3.0), "axial") == (2.0, 1.0)


def test_unknown_axis():
    with pytest.raises(UserError, match="axis"):
        slices.cut(np.zeros((2, 2, 2)), "diagonal")


def test_half_the_spacing_doubles_every_label():
    labels = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
    doubled = slices.resample(labels, (1.0, 1.0), 0.5, nearest=True)
    assert np.array_equal(doubled, labels.repeat(2, axis=1).repeat(2, axis=2))


def test_linear_resampling_agrees_with_scipy():
    from scipy.ndimage import map_coordinates

    image = np.random.default_rng(0).normal(size=(1, 7, 10))
    ours = slices.resample(image, (1.0, 1.5), 0.6, nearest=False)
    rows = (np.arange(ours.shape[1]) - (ours.shape[1] - 1) / 2) * 0.6 + 3
    columns = (np.arange(ours.shape[2]) - (ours.shape[2] - 1) / 2) * 0.4 + 4.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    assert ours.shape == (1, 12, 25)
    assert np.allclose(ours[0], map_coordinates(image[0], grid, order=1, mode="nearest"))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.3, 3))
def test_a_constant_stays_constant(height, width, target):
    image = np.full((1, height, width), 2.5, np.float32)
    result = slices.resample(image, (1.0, 1.0), target, nearest=False)
    assert result.dtype == np.float32
    assert np.all(result == 2.5)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_fitting_keeps_the_centre(height, width, tall, wide):
    image = np.arange(1, height * width + 1).reshape(1, height, width)
    fitted = slices.fit(image, (tall, wide), fill=0)
    assert fitted.shape == (1, tall, wide)
    assert np.count_nonzero(fitted) == min(height, tall) * min(width, wide)
    if tall >= height and wide >= width:  # padding loses nothing
        assert np.array_equal(np.sort(fitted[fitted > 0]), image.ravel())
