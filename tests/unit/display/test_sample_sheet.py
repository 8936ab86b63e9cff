import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from nontrivial.display import sample_sheet
from nontrivial.display.sample_sheet import Picture, choose_images, choose_slices


def counts(*foreground):
    """Return counts of a background and the given pixels of each foreground class."""
    return np.array([[100, *pixels] for pixels in foreground])


def test_each_subject_shows_the_class_whose_turn_it_is():
    subjects = ["b", "b", "a", "a", "c", "c"]
    found = choose_slices(
        subjects, [0, 1, 0, 1, 0, 1], counts((9, 0), (0, 5), (9, 0), (0, 5), (9, 0), (0, 5)), 3
    )
    assert found == [2, 1, 4]


def test_a_subject_without_the_class_shows_its_largest_foreground():
    found = choose_slices(["a", "b", "b"], [0, 0, 1], counts((1, 0), (2, 0), (7, 0)), 2)
    assert found == [0, 2]


def test_few_subjects_show_several_slices_in_order():
    foreground = counts(*[(int(2 <= place < 8),) for place in range(10)])
    assert choose_slices(["a"] * 10, range(10), foreground, 3) == [3, 5, 7]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(1, 6),
)
def test_never_more_than_the_columns_nor_a_slice_twice(rows, columns):
    subjects, foreground = zip(*rows, strict=True)
    pixels = counts(*[(pixels,) for pixels in foreground])
    found = choose_slices(subjects, range(len(rows)), pixels, columns)
    assert 1 <= len(found) == len(set(found)) <= columns
    names = sorted({subject for subject, pixels in rows if pixels})[:1] + sorted(set(subjects))
    assert {subjects[row] for row in found} == {*[*dict.fromkeys(names)][:columns]}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijk"), st.integers(0, 3), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    ),
    st.integers(2, 6),
)
def test_every_class_is_shown_if_a_subject_can_show_it(rows, columns):
    subjects, *pixels = zip(*rows, strict=True)
    foreground = counts(*zip(*pixels, strict=True))
    found = choose_slices(subjects, range(len(rows)), foreground, columns)
    having = [{s for s, p in zip(subjects, of, strict=True) if p} for of in pixels]
    separate = all(having) and len(having[0] | having[1]) > 1
    for number, several in enumerate(having, start=1):
        if several and (separate or not having[2 - number]):
            assert foreground[found, number].any()


def test_a_rare_class_is_shown_whatever_the_name_of_its_subject():
    """Only the first six names were drawn, so that a class of the last subject was not seen."""
    subjects = [f"s{n:02d}" for n in range(20)]
    foreground = counts(*[(9, 0, 0)] * 12, (9, 0, 4), *[(9, 0, 0)] * 6, (9, 2, 0))
    assert choose_slices(subjects, [0] * 20, foreground) == [0, 1, 2, 3, 12, 19]


def test_a_rare_class_of_few_subjects_is_shown():
    foreground = counts(*[(9, int(place == 4)) for place in range(12)], *[(9, 0)] * 12)
    found = choose_slices(["a"] * 12 + ["b"] * 12, [*range(12)] * 2, foreground)
    assert found == [4, 6, 10, 14, 18, 22]  # 4 in place of 2


def test_long_names_differ_after_they_are_cut():
    classes = ["b", *(f"the left part of the anterior hippocampus {n}" for n in (1, 2))]
    labels = [handle.get_label() for handle in sample_sheet._legend(classes)]
    assert labels[0] != labels[1]
    assert {len(label) for label in labels} == {sample_sheet.LEGEND_CHARACTERS}
    assert labels[1] == "the left part...ippocampus 2"
    assert sample_sheet._cut("short", 5) == "short"
    name = "sub-" + "0123456789" * 12
    lines = sample_sheet._wrapped(f"{name}\nslice 3", 20)
    assert len(lines) == 3
    assert (lines[0][:8], lines[1][-8:], lines[2]) == (name[:8], name[-8:], "slice 3")


def test_images_of_each_class_and_gaps_where_a_class_is_missing():
    assert choose_images(np.array([1, 0, 1, 0]), 5) == [1, 3, 0, 2, *[None] * 6]
    assert choose_images(np.arange(12)[::-1], 12) == list(range(11, 1, -1))


def luminance(colour):
    """Return the relative luminance of WCAG 2."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


def test_every_class_is_told_apart_from_white_tissue_below_it():
    for name in sample_sheet.CLASS_COLOURS:
        over_white = [
            (1 - sample_sheet.OPACITY) * sample_sheet.DIMMED + sample_sheet.OPACITY * part
            for part in to_rgb(name)
        ]
        assert max(over_white) - min(over_white) > 0.2, "looks grey"
    assert len(set(sample_sheet.CLASS_COLOURS)) == 7
    shades = [luminance(name) for name in sample_sheet.CLASS_COLOURS]
    assert all(abs(a - b) > 0.05 for a, b in itertools.pairwise(shades))


@pytest.mark.parametrize("size", [(8, 8), (16, 4), (3, 20)])
def test_the_picture_shows_the_mask_in_its_colours(tmp_path, size):
    image = np.full((1, *size), 5.0, np.float32)
    mask = np.zeros(size, np.uint8)
    mask[1:, : size[1] // 2], mask[1:, size[1] // 2 :] = 1, 2
    rows = {"train": [Picture("a\nslice 3", image, mask)], "val": [None], "test": []}
    sample_sheet.draw(tmp_path / "a.png", "x", ["b", "one", "two"], rows, size, "Note.", False)
    with Image.open(tmp_path / "a.png") as picture:
        seen = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    for number in (1, 2):
        colour = np.array(to_rgb(sample_sheet.colour(number))) * 255
        assert tuple(np.rint(colour).astype(int)) in seen  # border and legend
        filled = np.rint(colour * sample_sheet.OPACITY)  # the flat image is black
        assert any(np.abs(np.array(pixel) - filled).max() <= 1 for pixel in seen)


def test_classes_beyond_the_colours_share_one():
    classes = ["background", *(f"c{number}" for number in range(1, 11))]
    assert sample_sheet.colour(8) == sample_sheet.colour(10) == sample_sheet.OTHER_COLOUR
    labels = [handle.get_label() for handle in sample_sheet._legend(classes)]
    assert labels[-1] == "3 more class(es)"
    assert len(labels) == 8
