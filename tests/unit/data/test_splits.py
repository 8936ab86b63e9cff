from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data import splits
from nontrivial.errors import UserError

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
names = st.lists(st.text("abc0123", min_size=1), min_size=3, unique=True)


@given(names, st.integers(0, 1000))
def test_every_subject_is_in_one_split_and_no_split_is_empty(subjects, seed):
    of = splits.by_subject(subjects, FRACTIONS, seed)
    assert set(of) == set(subjects)
    assert set(of.values()) == {"train", "val", "test"}


@given(names, st.integers(0, 1000))
def test_order_and_repetition_of_subjects_do_not_matter(subjects, seed):
    once = splits.by_subject(subjects, FRACTIONS, seed)
    assert splits.by_subject([*reversed(subjects), *subjects], FRACTIONS, seed) == once


def test_the_split_never_changes():
    of = splits.by_subject([f"person-{k:03d}" for k in range(130)], FRACTIONS, seed=0)
    assert Counter(of.values()) == {"train": 91, "val": 13, "test": 26}
    assert sorted(s for s, split in of.items() if split == "val")[:3] == VAL_OF_SEED_0
    assert of != splits.by_subject([f"person-{k:03d}" for k in range(130)], FRACTIONS, seed=1)


VAL_OF_SEED_0 = [
    "person-009",
    "person-012",
    "person-030",
]  # a change would move subjects between splits


@pytest.mark.parametrize("subjects", [[], ["a"], ["a", "b"]])
def test_too_few_subjects(subjects):
    with pytest.raises(UserError, match="subjects are too few to split"):
        splits.by_subject(subjects, FRACTIONS, 0)


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.7, "val": 0.1},
        {"train": 0.9, "val": 0.1, "test": 0.0},
        {"train": 0.7, "val": 0.2, "test": 0.2},
    ],
)
def test_invalid_fractions(fractions):
    with pytest.raises(UserError, match="fractions"):
        splits.check_fractions(fractions)


def test_one_subject_in_two_splits():
    splits.check_disjoint([("a", "train"), ("a", "train"), ("b", "val")])
    with pytest.raises(UserError, match=r"subject a is in two splits \(train and test\)"):
        splits.check_disjoint([("a", "train"), ("b", "val"), ("a", "test")])


@given(st.integers(0, 60), st.integers(0, 100))
def test_balanced_takes_the_same_number_of_every_class(number, seed):
    labels = [row % 10 for row in range(100)]
    chosen = splits.balanced(labels, number, 10, seed)
    taken = Counter(labels[row] for row in chosen)
    assert len(chosen) == number
    assert max(taken.values(), default=0) - min((taken[c] for c in range(10)), default=0) <= 1


def test_balanced_leaves_images_in_every_class():
    with pytest.raises(UserError, match="class 0 has 2 image"):
        splits.balanced([0, 0, 1, 1, 1], 4, 2, 0)


def test_by_class_divides_every_class():
    split = splits.by_class([0] * 10 + [1] * 20, FRACTIONS, 2, seed=3)
    assert Counter(split[:10]) == {"train": 7, "val": 1, "test": 2}
    assert Counter(split[10:]) == {"train": 14, "val": 2, "test": 4}
