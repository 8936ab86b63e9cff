"""Classes are compared with the names in a decathlon folder's index."""

import json

import pytest
from raw_examples import volume_settings, write_decathlon

from nontrivial.data.sources import hippocampus
from nontrivial.data.volumes import label_names
from nontrivial.data.volumes.selection import find_pairs
from nontrivial.errors import UserError

NAMES = {"0": "background", "1": "Anterior", "2": "Posterior"}


def write_index(folder, labels):
    path = folder / "dataset.json"
    path.write_text(json.dumps({"training": [], "labels": labels}))
    return path


def check(folder, classes, label_map=None, labels=NAMES):
    label_names.check_names(write_index(folder, labels), classes, label_map)


@pytest.mark.parametrize(
    ("classes", "label_map", "labels"),
    [
        (["background", "anterior", "posterior"], None, NAMES),
        (["other", "ANTERIOR", "posterior"], None, NAMES),
        (["b", "lung-tumour", "L V"], None, {"0": "B", "1": "lung_tumour", "2": "LV"}),
        (["background", "hippocampus"], {"0": 0, "1": 1, "2": 1}, NAMES),
        (["background", "hippocampus"], {"0": 0, "other": 1}, NAMES),
        (["background", "posterior", "anterior"], {"0": 0, "1": 2, "2": 1}, NAMES),
        (["background", "front", "back"], {"0": 0, "1": 1, "2": 2}, NAMES),
        (["background", "x"], None, {}),
        (["background", "Y"], None, {"background": 0, "y": 1}),  # as nnU-Net writes them
        (["background", "y", "z"], None, {"1": "y", "2": "z"}),
        (["background", "y"], {"0": 0, "1": 1}, {"1": "y"}),
        (["background", "y"], {"0": 0, "1": 1, "other": 0}, {"0": "b", "1": "y", "2": "z"}),
        (["background", "z"], {"2": 1, "other": 0}, {"0": "b", "1": "y", "2": "z"}),
        (["background", "y"], {"0": 0, "1": 1}, {"background": 0, "y": [1, 2]}),  # regions
    ],
)
def test_classes_that_fit(tmp_path, classes, label_map, labels):
    check(tmp_path, classes, label_map, labels)


@pytest.mark.parametrize(
    "classes",
    [
        ["background", "posterior", "anterior"],
        ["anterior", "posterior", "background"],
        ["background", "hippocampus"],
        ["background", "anterior"],
        ["background", "anterior", "posterior", "tail"],
    ],
)
def test_other_classes_are_refused_with_both_lists_and_what_to_write(tmp_path, classes):
    with pytest.raises(UserError, match=r"dataset\.json names the labels") as caught:
        check(tmp_path, classes)
    told = str(caught.value)
    assert "0 background, 1 Anterior, 2 Posterior" in told
    assert ", ".join(f"{number} {name}" for number, name in enumerate(classes)) in told
    assert "write classes: [background, Anterior, Posterior]" in told
    assert "label_map, such as {0: 0, 1: 1, 2: 2}" in told


def test_a_label_map_with_values_that_do_not_exist(tmp_path):
    label_map = {"0": 0, "1": 1, **{str(n): 1 for n in range(3, 9)}}
    with pytest.raises(UserError, match=r"has no label 3, 4, 5 \(and 3 more\)"):
        check(tmp_path, ["background", "anterior"], label_map)


def test_a_label_map_that_swaps_names(tmp_path):
    label_map = {"0": 0, "1": 1, "2": 2}
    with pytest.raises(UserError, match="1 'Anterior', which is mapped to class 'posterior'") as e:
        check(tmp_path, ["background", "posterior", "anterior"], label_map)
    assert "write 1: 2" in str(e.value)


@pytest.mark.parametrize(
    ("label_map", "mapped"),
    [({"0": 0, "1": 1, "other": 0}, "mapped to class 'bg'"), ({"0": 0, "1": 1}, "not mapped")],
)
def test_a_class_that_is_another_label(tmp_path, label_map, mapped):
    labels = {"0": "background", "1": "liver", "2": "cancer"}
    with pytest.raises(UserError, match=f"label 2 'cancer', which is {mapped}.* write 2: 1"):
        check(tmp_path, ["bg", "cancer"], label_map, labels)


@pytest.mark.parametrize("labels", [{"1": "liver", "2": "cancer"}, {"liver": 1, "cancer": 2}])
def test_the_advice_without_a_background_is_right(tmp_path, labels):
    with pytest.raises(UserError, match=r"write classes: \[background, liver, cancer\]"):
        check(tmp_path, ["background", "cancer", "liver"], None, labels)
    check(tmp_path, ["background", "liver", "cancer"], None, labels)


def test_values_with_a_gap_need_a_map(tmp_path):
    labels = {"0": "background", "1": "liver", "3": "cancer"}
    with pytest.raises(UserError, match=r"cancer\] and label_map: \{0: 0, 1: 1, 3: 2\}"):
        check(tmp_path, ["background", "liver", "cancer"], None, labels)
    label_map = {"0": 0, "1": 1, "3": 2}
    check(tmp_path, ["background", "liver", "cancer"], label_map, labels)


@pytest.mark.parametrize(
    "labels", [["background", "y"], {"background": 0, "y": [1, 2]}, {"a": 1, "b": 1}, "x"]
)
def test_names_that_cannot_be_compared_need_a_map(tmp_path, labels):
    with pytest.raises(UserError, match=r'"labels" cannot be compared .* set label_map'):
        check(tmp_path, ["background", "y"], None, labels)
    check(tmp_path, ["background", "y"], {"0": 0, "1": 1}, labels)


def add_names(folder):
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**index, "labels": NAMES}))


def test_a_decathlon_folder_in_both_sources(tmp_path):
    task = tmp_path / "Task04_Hippocampus"
    write_decathlon(task, [1, 3, 5, 7])
    add_names(task)
    own = tmp_path / "Task99_Own"
    write_decathlon(own, [1, 3, 5, 7], "own")
    add_names(own)
    swapped = ["background", "posterior", "anterior"]
    decathlon = {"images": None, "labels": None, "decathlon": own.name}
    with pytest.raises(UserError, match="names the labels"):
        find_pairs(volume_settings(**decathlon, classes=swapped), tmp_path)
    settings = {key: volume_settings().get(key) for key in hippocampus.KEYS}
    with pytest.raises(UserError, match="names the labels"):
        hippocampus.prepare({**settings, "classes": swapped}, tmp_path, tmp_path / "out")
    assert len(find_pairs(volume_settings(**decathlon, classes=[*NAMES.values()]), tmp_path)) == 4


def test_class_numbers_say_how_many_more_are_wrong():
    with pytest.raises(UserError, match=r"3 is mapped to 3, which is not a class of .* \(0 to 1\)"):
        label_names.class_numbers({"0": 0, "1": 1, "3": 3}, ["background", "tissue"])
    mapping = {str(n): n for n in range(10)}
    with pytest.raises(UserError, match=r"4 is mapped to 4 \(and 5 more\)"):
        label_names.class_numbers(mapping, ["background", "tissue"])
    with pytest.raises(UserError, match=r"no value is mapped to class b, c, d \(and 1 more\)"):
        label_names.class_numbers({"0": 0}, [*"abcde"])
    assert label_names.class_numbers(None, ["a", "b"]) == {0: 0, 1: 1}
