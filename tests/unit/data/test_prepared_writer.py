"""What every source's data must have, and what is said about them."""

import numpy as np
import pytest

from nontrivial.data.class_counts import class_counts
from nontrivial.data.prepared_writer import FEWEST_SUBJECTS, Form, writing
from nontrivial.errors import UserError
from nontrivial.formats import preparation_file
from nontrivial.formats.samples import Sample
from nontrivial.inference import comparison

PICTURES = Form("classification", ["cat", "dog", "eel"], 1, (2, 2), "uint8")
SLICES = Form("segmentation", ["background", "organ"], 1, (2, 2), "float32")


def write(folder, form, labels, subjects=None):
    """Write samples without content; labels and subjects by split."""
    with writing(folder, form) as writer:
        for split, values in labels.items():
            rows = [
                Sample(f"{split}{row}", (subjects or {}).get(split, [None] * len(values))[row])
                for row in range(len(values))
            ]
            images = np.zeros((len(values), 1, 2, 2), form.dtype)
            array = np.array(values, dtype=form.label_dtype)
            if form.task == "segmentation":
                array = np.broadcast_to(array[:, None, None], (len(values), 2, 2))
            writer.append(split, images, array, rows)
    return preparation_file.read(folder / "preparation.json")


def test_a_class_without_image_in_train_is_refused(tmp_path):
    labels = {"train": [0, 0], "val": [0, 1], "test": [0, 1, 2]}
    with pytest.raises(UserError, match="train split has no image of class dog, eel, so no"):
        write(tmp_path / "out", PICTURES, labels)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_class_without_image_in_val_or_test_is_said(tmp_path):
    found = write(tmp_path, PICTURES, {"train": [0, 1, 2], "val": [0, 1], "test": [2]})
    assert [text.partition(".")[0] for text in found.warnings] == [
        "The val split has no image of class eel",
        "The test split has no image of class cat, dog",
    ]


def test_a_segmentation_needs_no_background(tmp_path):
    subjects = {"test": list("abcdef")}
    labels = {"train": [1], "val": [1], "test": [1] * 6}
    assert write(tmp_path, SLICES, labels, subjects).warnings == []


@pytest.mark.parametrize(("number", "said"), [(1, True), (5, True), (6, False)])
def test_few_test_subjects_are_said(tmp_path, number, said):
    subjects = {"test": [f"s{row % number}" for row in range(8)]}
    found = write(tmp_path, SLICES, {"train": [1], "val": [1], "test": [1] * 8}, subjects)
    assert any(f"has {number} subject" in text for text in found.warnings) is said


def test_subjects_without_foreground_do_not_count(tmp_path):
    labels = {"train": [1], "val": [1], "test": [1, 1, 1, 1, 1, 0, 0]}
    found = write(tmp_path, SLICES, labels, {"test": list("abcdefa")})
    (text,) = found.warnings
    assert text.startswith("The test split has 5 subjects with foreground (of 6). With fewer than")


def test_the_smallest_number_of_subjects_is_that_of_the_inference():
    assert FEWEST_SUBJECTS == comparison.FEWEST_SUBJECTS


def test_a_failure_keeps_an_earlier_record(tmp_path):
    labels = {"train": [0, 1, 2], "val": [0, 1, 2], "test": [0, 1]}
    write(tmp_path, PICTURES, labels)
    before = (tmp_path / "preparation.json").read_bytes()
    with pytest.raises(UserError):
        write(tmp_path, PICTURES, labels | {"train": [0]})
    assert (tmp_path / "preparation.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"warnings": []}', '{"volumes": {"count": 1}}'])
def test_a_damaged_record(tmp_path, text):
    path = tmp_path / "preparation.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"preparation.json: not a record of a preparation"):
        preparation_file.read(path)


def test_a_record_with_one_byte_changed_is_equal_or_refused(tmp_path):
    original = write(tmp_path, PICTURES, {"train": [0, 1, 2], "val": [0], "test": [1]})
    path = tmp_path / "preparation.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= (0x01, 0x04, 0xFF)[position % 3]
        path.write_bytes(content)
        try:
            assert preparation_file.read(path) == original, position
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_a_missing_record(tmp_path):
    with pytest.raises(UserError, match=r"preparation.json: cannot be read \(No such file"):
        preparation_file.read(tmp_path / "preparation.json")


def test_classes_are_counted_per_sample():
    assert class_counts(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    masks = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    counts = class_counts(masks, 4)
    assert np.array_equal(counts, np.stack([(masks == k).sum(axis=(1, 2)) for k in range(4)], 1))
    with pytest.raises(ValueError):  # noqa: PT011  (numpy's own message)
        class_counts(np.array([3]), 3)
