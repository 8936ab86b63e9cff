from pathlib import Path

import numpy as np
import pytest

from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.errors import UserError

LABEL = np.array([[0, 2], [17, 53]])
PATH = Path("label.nii.gz")


def test_merge_and_drop():
    mapping = LabelMap({"0": 0, "2": 0, "17": 1, "53": 1}, ["background", "hippocampus"])
    assert mapping.apply(LABEL, PATH).tolist() == [[0, 0], [1, 1]]
    assert mapping.apply(LABEL, PATH).dtype == np.uint8


def test_select():
    mapping = LabelMap({"other": 0, "53": 1}, ["background", "right"])
    assert mapping.apply(LABEL, PATH).tolist() == [[0, 0], [0, 1]]


def test_values_missing_from_the_map_are_named():
    with pytest.raises(UserError, match=r"label.nii.gz: .* 2, 53 are not in label_map"):
        LabelMap({"0": 0, "17": 1}, ["background", "left"]).apply(LABEL, PATH)
    with pytest.raises(UserError, match="17, 53"):
        LabelMap(None, ["a", "b", "c"]).apply(LABEL, PATH)


def test_many_values_missing_from_the_map():
    with pytest.raises(UserError, match=r"label value\(s\) 3, 4, 5, .* 12 \(and 88 more\) are not"):
        LabelMap(None, ["a", "b", "c"]).apply(np.arange(101), PATH)


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"0": 0, "1": 2}, "1 is mapped to 2"),
        ({"0": 0, "one": 1}, "'one' is neither"),
        ({"0": 0}, "no value is mapped to class tissue"),
    ],
)
def test_invalid_maps(mapping, problem):
    with pytest.raises(UserError, match=problem):
        LabelMap(mapping, ["background", "tissue"])


def test_one_class_is_too_few():
    with pytest.raises(UserError, match="classes"):
        LabelMap(None, ["background"])
