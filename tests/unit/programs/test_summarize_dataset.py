"""The summary of a prepared data set, for every kind of source."""

import dataclasses

import numpy as np
import pytest
import raw_examples as raw
from PIL import Image

import prepare_dataset as preparing
import summarize_dataset as program
from nontrivial.errors import UserError
from nontrivial.formats import preparation_file

PICTURES = {"source": "cifar10", "validation": 10, "split_seed": 0}


def prepare(folder, settings, write):
    write(folder / "raw")
    preparing.prepare_dataset("mine", settings, folder / "raw", folder / "data")
    return folder / "data"


def summarize(data, name="mine"):
    program.summarize_dataset(name, data, data / "summary.md", data / "summary.png")
    return (data / "summary.md").read_text()


def table(text, title):
    """Return the cells of a table by the first cell of each row."""
    lines = text.partition(f"## {title}")[2].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in [rows[0], *rows[2:]]}


def section(text, title):
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0].strip()


def write_subjects(folder):
    """Write 10 subjects; the last one has two sessions and the first no foreground."""
    lines = ["subject\timage\tlabel\tsplit"]
    splits = ["train"] * 2 + ["val"] * 2 + ["test"] * 6 + ["test"]
    for number, name in enumerate(raw.write_folders(folder, 11)):
        subject = f"s{min(number, 9)}"
        lines.append(f"{subject}\timages/{name}\tlabels/{name}\t{splits[number]}")
    raw.save_volume(folder / "labels" / "brain_00.nii.gz", np.zeros(raw.SHAPE, np.uint8))
    (folder / "t1.tsv").write_text("\n".join(lines) + "\n")


def volumes(folder, **changes):
    form = {"images": None, "labels": None, "table": "t1.tsv"}
    return prepare(folder, raw.volume_settings(**form, **changes), write_subjects)


def test_volumes(tmp_path):
    text = summarize(volumes(tmp_path))
    assert text.startswith("# Data set mine\n\nSegmentation of 2 classes. 154 samples of 16 x 16")
    assert section(text, "Warnings") == "None."
    assert table(text, "Splits") == {
        "split": [
            "subjects",
            "subjects with foreground",
            "volumes",
            "slices",
            "slices with foreground",
        ],
        "train": ["2", "1", "2", "28", "4 (14.3%)"],
        "val": ["2", "2", "2", "28", "8 (28.6%)"],
        "test": ["6", "6", "7", "98", "28 (28.6%)"],
    }
    assert "1 of 10 subjects have several volumes (sessions, runs or frames), at most 2." in text
    assert table(text, "Classes")["tissue"] == [
        "0.89%, 1 of 2",  # 64 of 28 * 256 pixels
        "1.8%, 2 of 2",
        "1.8%, 6 of 6",
        "0.064 (0.064 to 0.064)",
    ]
    assert table(text, "Volumes: 11")["rows, as read"] == ["10", "10"]
    assert "53% of all pixels are padding" in text
    assert table(text, "Label values")["1"] == ["tissue", "640", "3.5%", "10 of 11"]
    assert section(text, "Left out") == "Nothing."
    assert "![Samples with their labels](summary.png)" in text


def test_warnings_and_what_was_left_out(tmp_path):
    text = summarize(volumes(tmp_path, keep_empty=False))
    assert section(text, "Warnings").startswith("- 1 train subject(s) are left out, because none")
    assert section(text, "Left out").startswith("- 24 train slices without foreground")
    assert text.index("## Warnings") < text.index("## Splits")


def test_few_test_subjects_are_said_at_the_top(tmp_path):
    data = prepare(tmp_path, raw.volume_settings(), raw.write_folders)
    text = summarize(data)
    assert section(text, "Warnings").startswith("- The test split has 1 subject. With fewer than 6")


def test_pictures(tmp_path):
    data = prepare(
        tmp_path, PICTURES, lambda folder: raw.write_class_folders(folder / "cifar10", 3, 2)
    )
    text = summarize(data)
    assert table(text, "Splits") == {
        "split": ["images"],
        "train": ["20"],
        "val": ["10"],
        "test": ["20"],
    }
    assert table(text, "Classes")["cat"] == ["2 (10.0%)", "1 (10.0%)", "2 (10.0%)"]
    assert "Volumes" not in text


def test_digits(tmp_path):
    fractions = {"train": 0.6, "val": 0.1, "test": 0.3}
    settings = {"source": "digits", "fractions": fractions, "split_seed": 0}
    text = summarize(prepare(tmp_path, settings, lambda folder: None))
    assert table(text, "Splits")["test"] == ["539"]


def test_cardiac_images(tmp_path):
    keys = preparing.SOURCES["fahmy2019"].KEYS
    settings = {key: value for key, value in raw.volume_settings().items() if key in keys}
    settings |= {"source": "fahmy2019", "file": "T1.mat", "axis": "axial", "size": [24, 24]}
    data = prepare(
        tmp_path, settings, lambda folder: raw.write_matlab(folder / "T1.mat", 4, cells=False)
    )
    text = summarize(data)
    assert "4 of 4 subjects have several volumes" in text
    assert "- Pixel sizes are not read from the file" in section(text, "Notes")


def test_a_demonstration_is_marked(tmp_path):
    settings = {
        "source": "mni152",
        "axis": "coronal",
        "spacing": 4.0,
        "size": [48, 48],
        "intensity": "minmax",
        "fractions": {"train": 0.6, "val": 0.2, "test": 0.2},
        "gap": 4,
    }
    settings |= dict.fromkeys(preparing.SOURCES["mni152"].KEYS - settings.keys())
    text = summarize(prepare(tmp_path, settings, lambda folder: None))
    assert "**Demonstration data" in text.split("## Warnings")[0]
    assert "in the gaps of 4 slices" in section(text, "Left out")
    assert "With fewer than 6" in section(text, "Warnings")


def test_equal_data_give_equal_bytes_without_a_date(tmp_path):
    data = volumes(tmp_path)
    summarize(data)
    first = [(data / name).read_bytes() for name in ("summary.md", "summary.png")]
    summarize(data)
    assert [(data / name).read_bytes() for name in ("summary.md", "summary.png")] == first
    with Image.open(data / "summary.png") as picture:
        assert set(picture.info) <= {"dpi"}


def test_a_changed_mask_shows_in_the_picture(tmp_path):
    first = volumes(tmp_path / "a")
    summarize(first)

    def write(folder):
        write_subjects(folder)
        label = raw.label_voxels()
        label[9, 5, 5] = 1
        raw.save_volume(folder / "labels" / "brain_02.nii.gz", label)

    form = {"images": None, "labels": None, "table": "t1.tsv"}
    second = prepare(tmp_path / "b", raw.volume_settings(**form), write)
    summarize(second)
    assert (first / "summary.png").read_bytes() != (second / "summary.png").read_bytes()


def test_a_damaged_array_is_refused_and_leaves_no_summary(tmp_path):
    data = volumes(tmp_path)
    path = data / "val" / "labels.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"labels.npy: damaged"):
        summarize(data)
    assert not (data / "summary.md").exists()
    assert not (data / "summary.png").exists()


def test_a_table_of_samples_that_lost_rows_is_refused(tmp_path):
    data = volumes(tmp_path)
    (data / "test" / "samples.parquet").write_bytes((data / "val" / "samples.parquet").read_bytes())
    with pytest.raises(UserError, match="has 28 rows for 98 samples"):
        summarize(data)


def test_a_label_that_is_not_a_class_is_refused(tmp_path):
    data = volumes(tmp_path)
    path = data / "preparation.json"
    found = preparation_file.read(path)
    found.volumes.labels[0] = dataclasses.replace(found.volumes.labels[0], number=9)
    preparation_file.write(path, found)
    with pytest.raises(UserError, match=r"preparation.json: .* class 9"):
        summarize(data)
