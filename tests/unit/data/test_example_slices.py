import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.example_slices import choose, shades


def masks_with(*foreground):
    masks = np.zeros((len(foreground), 4, 4), dtype=np.uint8)
    for mask, pixels in zip(masks, foreground, strict=True):
        mask.flat[:pixels] = 2
    return masks


def test_the_slice_with_the_most_foreground_of_the_first_subjects_by_name():
    subjects = ["b", "b", "a", "c", "a", "b"]
    masks = masks_with(1, 5, 0, 16, 3, 4)
    assert choose(subjects, [0, 1, 0, 0, 1, 2], masks, 2) == [4, 1]


def test_ties_go_to_the_lowest_slice_whatever_the_order_of_rows():
    assert choose(["a", "a", "a"], [7, 3, 5], masks_with(4, 4, 4), 1) == [1]


def test_all_subjects_are_chosen_if_there_are_fewer():
    assert choose(["a", "b"], [0, 0], masks_with(0, 1), 5) == [0, 1]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 16)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_no_slice_of_a_chosen_subject_has_more_foreground(rows, count):
    subjects, foreground = zip(*rows, strict=True)
    chosen = choose(subjects, range(len(rows)), masks_with(*foreground), count)
    assert [subjects[row] for row in chosen] == sorted(set(subjects))[:count]
    for row in chosen:
        same = [f for s, f in rows if s == subjects[row]]
        assert foreground[row] == max(same)


def test_shades_span_black_to_white_and_a_flat_image_is_black():
    image = np.array([[[-2.0, 0.0], [1.0, 2.0]]], dtype=np.float32)
    assert shades(image).tolist() == [[0, 128], [191, 255]]
    assert not shades(np.full((3, 2, 2), 7, dtype=np.uint8)).any()
