"""What volumes lose on their way to slices: refused or said, with counts and the worst example."""

import logging
import math

import numpy as np
import pytest
import raw_examples as raw
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import nifti
from nontrivial.data.volumes import slices
from nontrivial.data.volumes.grid import Grid, on_grid
from nontrivial.data.volumes.reading import Volume
from nontrivial.errors import UserError
from nontrivial.formats import preparation_file
from nontrivial.formats.dataset import read_description

SPLITS = ["train", "train", "val", "test"]  # of brain_00 to brain_03
CLASSES = ["background", "tissue", "lesion"]


def write_table(folder, splits=SPLITS, subjects=None):
    """Write volumes with a box of tissue and a table of their splits; return its settings."""
    names = raw.write_folders(folder, len(splits))
    subjects = subjects or [f"s{number}" for number in range(len(splits))]
    lines = ["subject\timage\tlabel\tsplit"] + [
        f"{subject}\timages/{name}\tlabels/{name}\t{split}"
        for subject, name, split in zip(subjects, names, splits, strict=True)
    ]
    (folder / "t1.tsv").write_text("\n".join(lines) + "\n")
    return {"images": None, "labels": None, "table": "t1.tsv"}


def add_label(folder, number, places, value=1):
    """Set voxels of a volume's label."""
    voxels = raw.label_voxels()
    for place in places:
        voxels[place] = value
    raw.save_volume(folder / "labels" / f"brain_{number:02d}.nii.gz", voxels)


def prepare(folder, **changes):
    nifti.prepare(raw.volume_settings(**changes), folder, folder / "out")
    return preparation_file.read(folder / "out" / "preparation.json")


def refusal(folder, **changes):
    """Return the message of a refused preparation, which leaves no file."""
    with pytest.raises(UserError) as caught:
        prepare(folder, **changes)
    assert "\n" not in str(caught.value)
    assert not [path for path in (folder / "out").rglob("*") if path.is_file()]
    return str(caught.value)


def warning(found, start):
    """Return the only warning that starts with a text."""
    (one,) = [text for text in found.warnings if text.startswith(start)]
    return one


def few_subjects(found):
    return [text for text in found.warnings if "fewer than 6" in text]


# Classes


def test_a_lesion_that_vanishes_by_resampling_is_refused(tmp_path):
    settings = write_table(tmp_path)
    for number in range(4):
        voxels = np.zeros(raw.SHAPE, np.uint8)
        voxels[:9, :9, :9] = 1
        voxels[11, :2, 9] = voxels[11, 0, 8] = 2
        raw.save_volume(tmp_path / "labels" / f"brain_{number:02d}.nii.gz", voxels)
    message = refusal(tmp_path, spacing=6.0, classes=CLASSES, **settings)
    assert message == (
        "class lesion vanishes (train: 6 voxel(s), in s0, s1, and none after resampling to 6 mm;"
        " val: 3 voxel(s), in s2, and none after resampling to 6 mm;"
        " test: 3 voxel(s), in s3, and none after resampling to 6 mm). Decrease spacing or increase"
        " size, so that the class keeps pixels, or merge or remove it in label_map and classes"
    )


def test_a_class_that_vanishes_from_val_alone_is_refused(tmp_path):
    settings = write_table(tmp_path)
    for number in range(4):
        box = [(slice(4, 10), slice(4, 10), slice(3, 9))]
        add_label(tmp_path, number, [(0, 0, 0)] if number == 2 else box, 2)
    message = refusal(tmp_path, spacing=2.5, classes=CLASSES, **settings)
    assert "class lesion vanishes (val: 1 voxel(s), in s2, and none after resampling" in message
    assert "train" not in message


def test_a_class_that_cropping_removes_from_train_is_refused(tmp_path):
    settings = write_table(tmp_path)
    add_label(tmp_path, 0, [(0, 6, 0)], 2)
    message = refusal(tmp_path, size=[8, 8], classes=CLASSES, **settings)
    assert "train: 1 voxel(s), in s0, and none after cropping to 8 x 8" in message


def test_a_class_without_a_pixel_in_train_is_refused(tmp_path):
    settings = write_table(tmp_path)
    add_label(tmp_path, 3, [(5, 5, 5)], 2)
    message = refusal(tmp_path, classes=CLASSES, **settings)
    assert "the train split has no pixel of class lesion" in message


def test_a_class_missing_in_test_is_said(tmp_path, caplog):
    settings = write_table(tmp_path)
    for number in (0, 2):
        add_label(tmp_path, number, [(5, 5, 5)], 2)
    with caplog.at_level(logging.WARNING, "nontrivial"):
        found = prepare(tmp_path, classes=CLASSES, **settings)
    assert "class lesion" in warning(found, "The test split has no pixel")
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: {text}" for text in found.warnings
    ]


def test_subjects_that_lose_a_class_are_counted_with_the_largest(tmp_path):
    splits = ["train"] * 4 + ["val", "test"]
    settings = write_table(tmp_path, splits)
    for number in (0, 4, 5):
        add_label(tmp_path, number, [(slice(4, 10), slice(4, 10), slice(3, 9))], 2)
    for number in (1, 2):
        add_label(tmp_path, number, [(0, 0, z) for z in range(number)], 2)
    found = prepare(tmp_path, spacing=2.5, classes=CLASSES, **settings)
    text = warning(found, "Class lesion vanishes from 2 of the 5 subjects that have it")
    assert "largest in s2 (train, 2 voxels)" in text
    assert "resampled to 2.5 mm" in text


def test_subjects_that_lose_all_foreground_are_counted(tmp_path):
    settings = write_table(tmp_path, ["train"] * 3 + ["val", "test"])
    for number, size in ((1, 1), (2, 2)):
        voxels = np.zeros(raw.SHAPE, np.uint8)
        voxels[0, 0, :size] = 1
        raw.save_volume(tmp_path / "labels" / f"brain_{number:02d}.nii.gz", voxels)
    found = prepare(tmp_path, spacing=2.5, **settings)
    text = warning(found, "2 of 5 subjects lose all foreground")
    assert "s2 (train, 2 voxels)" in text


def test_subjects_without_a_slice_are_named(tmp_path):
    settings = write_table(tmp_path, ["train"] * 2 + ["val", "test"])
    empty = np.zeros(raw.SHAPE, np.uint8)
    raw.save_volume(tmp_path / "labels" / "brain_01.nii.gz", empty)
    found = prepare(tmp_path, keep_empty=False, **settings)
    assert warning(found, "1 train subject(s) are left out").endswith("is false: s1.")
    assert found.left_out == [
        f"{10 + 14} train slices without foreground, because keep_empty is false"
    ]


def test_nothing_is_said_where_nothing_is_lost(tmp_path):
    settings = write_table(tmp_path, ["train", "val"] + ["test"] * 6)
    found = prepare(tmp_path, spacing=0.5, size=[32, 32], **settings)
    assert found.warnings == []
    assert found.left_out == []


# Crops


def test_a_crop_names_the_size_that_fits_all_volumes(tmp_path):
    settings = write_table(tmp_path, ["train", "train", "val", "val", "test", "test", "test"])
    add_label(tmp_path, 1, [(11, 6, 5)])  # train: the rightmost column
    add_label(tmp_path, 2, [(0, 6, 5), (0, 7, 5)])
    add_label(tmp_path, 3, [(5, 6, 9)])
    for number in (4, 5, 6):
        add_label(tmp_path, number, [(0, 6, 5)])
    message = refusal(tmp_path, size=[6, 6], **settings)
    assert "brain_02.nii.gz: cropping to 6 x 6 would remove 2 foreground pixel(s)" in message
    assert "brain_03 (val, 1), brain_04 (test, 1), brain_05 (test, 1) (and 1 more)" in message
    size = [9, 12]
    assert f"Set size to {size}, which keeps the foreground of all volumes" in message
    assert len(few_subjects(prepare(tmp_path, size=size, **settings))) == 1


def test_a_crop_of_train_is_said_with_the_size(tmp_path):
    settings = write_table(tmp_path)
    add_label(tmp_path, 0, [(0, 6, 5)])
    add_label(tmp_path, 1, [(0, 6, 5), (0, 7, 5)])
    text = warning(prepare(tmp_path, size=[8, 8], **settings), "Cropping to 8 x 8 removes")
    assert "from 2 train volume(s), most from brain_01 (2 pixels)" in text
    assert "Set size to [8, 11]" in text


@given(st.data(), st.integers(1, 12), st.integers(1, 12))
def test_the_smallest_size_keeps_all_foreground_and_no_smaller_one_does(data, height, width):
    masks = np.zeros((2, height, width), np.uint8)
    for _ in range(data.draw(st.integers(1, 4))):
        row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        masks[data.draw(st.integers(0, 1)), row, column] = 1
    size = slices.smallest_size(masks)
    assert slices.fit(masks, size, 0).sum() == masks.sum()
    assert slices.fit(masks, (size[0] + 1, size[1] + 2), 0).sum() == masks.sum()
    for smaller in ((size[0] - 1, size[1]), (size[0], size[1] - 1)):
        if min(smaller) > 0:
            assert slices.fit(masks, smaller, 0).sum() < masks.sum()


def test_the_smallest_size_without_foreground():
    assert slices.smallest_size(np.zeros((3, 5, 7), np.uint8)) == (1, 1)


# Spacings


def scaled(folder, number, spacing):
    """Write a volume again with other voxel sizes (X, Y, Z) in mm."""
    for part, voxels in (("images", raw.image_voxels(number)), ("labels", raw.label_voxels())):
        path = folder / part / f"brain_{number:02d}.nii.gz"
        raw.save_volume(path, voxels, np.diag([*spacing, 1.0]))


def test_different_spacings_are_said_with_their_range(tmp_path):
    settings = write_table(tmp_path)
    scaled(tmp_path, 1, (1.0, 3.0, 1.0))
    scaled(tmp_path, 2, (1.0, 1.0, 1.5))
    text = warning(prepare(tmp_path, **settings), "The volumes have different spacings")
    assert "(rows 1 to 1.5 mm apart, slices 1 to 3 mm apart)" in text
    assert "Set spacing" in text


@pytest.mark.parametrize("spacing", [None, 1.0])
def test_spacings_that_differ_by_rounding_or_are_resampled_are_not_said(tmp_path, spacing):
    settings = write_table(tmp_path)
    scaled(tmp_path, 1, (1.0001, 3.0, 1.0) if spacing is None else (1.3, 1.0, 2.0))
    found = prepare(tmp_path, spacing=spacing, size=[24, 24], **settings)
    assert not [text for text in found.warnings if "spacings" in text]


def test_a_spacing_that_leaves_one_pixel_is_refused(tmp_path):
    settings = write_table(tmp_path)
    message = refusal(tmp_path, spacing=100.0, **settings)
    assert "slices are 10 x 12 mm, so a spacing of 100 mm would leave 1 x 1 pixels" in message
    assert "units" in message


def test_a_volume_of_one_row_may_keep_it():
    voxels = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    volume = Volume(voxels, np.ones(voxels.shape, np.uint8), (1.0, 1.0, 4.0))
    grid = Grid("coronal", 4.0, (2, 4), "minmax")
    with pytest.raises(UserError, match="would leave 1 x 1"):  # three columns become one
        on_grid(volume, volume.label, grid, "scan")
    assert on_grid(volume, volume.label, Grid("coronal", 1.5, (3, 3), "minmax"), "scan").extent == (
        3,
        2,
    )


@pytest.mark.filterwarnings("error")
def test_intensities_that_overflow_when_resampled_are_refused_in_one_line():
    voxels = np.zeros((4, 2, 4), np.float32)
    voxels[::2], voxels[1::2] = 3.4e38, -3.4e38
    volume = Volume(voxels, np.zeros(voxels.shape, np.uint8), (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="exceeds float32"):
        on_grid(volume, volume.label, Grid("coronal", 0.7, (8, 8), "minmax"), "scan")


# What is recorded


def test_label_values_sizes_and_padding_are_recorded(tmp_path):
    settings = write_table(tmp_path)
    for number in range(4):
        add_label(tmp_path, number, [(5, 5, 5)], 17)
    label_map = {"0": 0, "1": 1, "17": 1, "53": 1}
    volumes = prepare(tmp_path, label_map=label_map, **settings).volumes
    total = math.prod(raw.SHAPE)
    found = {label.value: (label.number, label.voxels, label.volumes) for label in volumes.labels}
    assert found == {0: (0, 4 * (total - 64), 4), 1: (1, 4 * 63, 4), 17: (1, 4, 4)}
    assert (volumes.count, volumes.slices, volumes.rows, volumes.columns) == (
        4,
        (14, 14),
        (10, 10),
        (12, 12),
    )
    assert volumes.padding == pytest.approx(1 - 120 / 256)
    assert volumes.more_labels == 0


@pytest.mark.parametrize("far", [5000, 1 << 40])
def test_many_label_values_are_counted_and_the_most_frequent_listed(tmp_path, far):
    settings = write_table(tmp_path)
    voxels = np.full(raw.SHAPE, -3, np.int64)
    voxels[4:8, 5:9, 3:7] = 1
    voxels[0, :, :] = np.arange(140).reshape(14, 10) + 10
    voxels[0, 0, 0] = far
    for number in range(4):
        raw.save_volume(tmp_path / "labels" / f"brain_{number:02d}.nii.gz", voxels.astype(float))
    volumes = prepare(tmp_path, label_map={"1": 1, "other": 0}, **settings).volumes
    assert len(volumes.labels) + volumes.more_labels == 142
    assert [label.value for label in volumes.labels][:2] == [-3, 1]
    values = {label.value: label.voxels for label in volumes.labels}
    assert (values[-3], values[1]) == (4 * (11 * 140 - 64), 4 * 64)


def test_the_record_does_not_depend_on_the_folder(tmp_path):
    texts = []
    for name in ("a", "b"):
        settings = write_table(tmp_path / name)
        add_label(tmp_path / name, 0, [(0, 6, 5)])
        prepare(tmp_path / name, size=[8, 8], **settings)
        texts.append((tmp_path / name / "out" / "preparation.json").read_bytes())
    assert texts[0] == texts[1]


def test_the_description_is_the_same_with_and_without_warnings(tmp_path):
    settings = write_table(tmp_path)
    assert prepare(tmp_path, **settings).warnings
    description = read_description(tmp_path / "out" / "dataset.json")
    assert "preparation.json" not in description.sha256
    assert len(open_split(tmp_path / "out", "test")[0]) == description.counts["test"]
