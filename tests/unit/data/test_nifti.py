import json

import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import archives, hippocampus, nifti
from nontrivial.data.volumes.grid import Grid, on_grid
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.reading import Volume
from nontrivial.errors import UserError
from nontrivial.formats import samples
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.dataset import SPLITS, read_description

HIPPOCAMPUS = {
    key: value
    for key, value in raw.volume_settings(source="hippocampus").items()
    if key in hippocampus.KEYS
}


def prepare(tmp_path, **changes):
    nifti.prepare(raw.volume_settings(**changes), tmp_path, tmp_path / "out")
    return tmp_path / "out"


def refuse(tmp_path, problem, **changes):
    with pytest.raises(UserError, match=problem) as caught:
        prepare(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def rows(out, split):
    return samples.read(out / split / "samples.parquet").to_pylist()


def test_folders(tmp_path):
    raw.write_folders(tmp_path)
    out = prepare(tmp_path)
    description = read_description(out / "dataset.json")
    assert description.counts == {"train": 28, "val": 14, "test": 14}
    assert (description.size, description.channels, description.dtype) == ((16, 16), 1, "float32")
    assert not description.demonstration
    train = open_split(out, "train")[0].astype(float)
    assert description.mean == pytest.approx([train.mean()])
    assert description.std == pytest.approx([train.std()])
    for name, digest in description.sha256.items():
        assert file_digest(out / name) == digest
    subjects = [{row["subject"] for row in rows(out, split)} for split in SPLITS]
    assert [len(s) for s in subjects] == [2, 1, 1]
    assert len(set.union(*subjects)) == 4


def test_slices_keep_their_position_in_the_volume(tmp_path):
    raw.write_folders(tmp_path)
    out = prepare(tmp_path, intensity="minmax")
    images, masks = open_split(out, "test")
    table = rows(out, "test")
    volume = raw.image_voxels(int(table[0]["subject"][-2:]))
    volume = (volume - volume.min()) / (volume.max() - volume.min())
    for row in table:
        # 10 rows (superior first) and 12 columns (left first) padded to 16 x 16
        inner = images[row["sample"], 0, 3:13, 2:14]
        assert np.allclose(inner, volume[:, row["slice"], ::-1].T, atol=1e-6)
        expected = raw.label_voxels()[:, row["slice"], ::-1].T
        assert np.array_equal(masks[row["sample"], 3:13, 2:14], expected)
    assert images.min() == 0
    assert images[:, 0, :3].max() == 0


def test_preparing_twice_gives_equal_bytes(tmp_path):
    raw.write_folders(tmp_path)
    out = prepare(tmp_path)
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "mine.txt").write_text("kept")
    prepare(tmp_path)
    assert {path: path.read_bytes() for path in first} == first
    assert len(first) == 11
    assert (out / "mine.txt").read_text() == "kept"


def test_a_failure_keeps_the_earlier_data_set(tmp_path):
    names = raw.write_folders(tmp_path)
    out = prepare(tmp_path)
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "images" / names[-1]).write_bytes(b"damaged")
    with pytest.raises(UserError, match=names[-1]):
        prepare(tmp_path)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == first


def test_empty_slices_are_dropped_from_train_only(tmp_path):
    raw.write_folders(tmp_path)
    out = prepare(tmp_path, keep_empty=False)
    assert read_description(out / "dataset.json").counts == {"train": 8, "val": 14, "test": 14}
    assert {row["slice"] for row in rows(out, "train")} == {5, 6, 7, 8}


def test_resampling_keeps_the_proportion_of_foreground(tmp_path):
    raw.write_folders(tmp_path)
    out = prepare(tmp_path, spacing=0.5, size=[24, 24])
    _, masks = open_split(out, "val")
    assert masks.sum() == 4 * raw.label_voxels().sum()


def test_samples_have_the_volume_of_a_pixel(tmp_path):
    raw.write_folders(tmp_path)  # voxels of 1 mm
    out = prepare(tmp_path)
    assert {row["pixel_ml"] for row in rows(out, "test")} == {1e-3}
    out = prepare(tmp_path, spacing=0.5, size=[24, 24])
    assert {row["pixel_ml"] for row in rows(out, "test")} == {0.25e-3}


@pytest.mark.parametrize(
    ("axis", "spacing", "ml"),
    [("axial", None, 6e-3), ("axial", 1.0, 3e-3), ("coronal", 1.0, 2e-3), ("sagittal", 2.0, 4e-3)],
)
def test_a_pixel_is_as_thick_as_its_slice(axis, spacing, ml):
    voxels = raw.image_voxels(0)
    volume = Volume(voxels, np.zeros(voxels.shape, np.uint8), (1.0, 2.0, 3.0))  # X, Y, Z in mm
    grid = Grid(axis, spacing, (16, 16), "zscore")
    assert on_grid(volume, volume.label, grid, "scan").pixel_ml == pytest.approx(ml)


def test_all_sessions_of_a_subject_are_in_one_split(tmp_path):
    for number in range(12):
        name = f"sub-{number // 2:02d}_ses-{number % 2}.nii.gz"
        raw.save_volume(tmp_path / "images" / name, raw.image_voxels(number))
        raw.save_volume(tmp_path / "labels" / name, raw.label_voxels())
    refuse(tmp_path, r"are scans of one subject, sub-00 .* subject_pattern: '\^\(sub-")
    pattern = "sub-{subject}_ses-{session}.nii.gz"
    out = prepare(tmp_path, images=f"images/{pattern}", labels=f"labels/{pattern}")
    found = [row for split in SPLITS for row in rows(out, split)]
    by_split = [{row["subject"] for row in rows(out, split)} for split in SPLITS]
    assert sum(map(len, by_split)) == len(set.union(*by_split)) == 6
    sources = {(row["subject"], row["source"]) for row in found}
    assert ("03", "images/sub-03_ses-1.nii.gz") in sources
    assert len(sources) == 12
    assert samples.read(out / "test" / "samples.parquet").column_names == samples.SCHEMA.names


def test_a_pattern_in_place_of_folders_prepares_the_same_data(tmp_path):
    raw.write_folders(tmp_path, 5)
    out = prepare(tmp_path)
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    prepare(tmp_path, images="images/{subject}.nii.gz", labels="labels/{subject}.nii.gz")
    assert {path: path.read_bytes() for path in first} == first


def test_warnings_of_subjects_are_in_the_summary(tmp_path):
    names = [f"P{s:02d}_v{v}_x" for s in (1, 2, 3, 4) for v in (1, 2)]
    for number, name in enumerate(names):
        raw.save_volume(tmp_path / "images" / f"{name}.nii", raw.image_voxels(number))
        raw.save_volume(tmp_path / "labels" / f"{name}.nii", raw.label_voxels())
    out = prepare(tmp_path, subject_pattern="^(.*)_x")
    assert "P01_v1, P01_v2 different subjects" in (out / "preparation.json").read_text()


def test_subjects_by_pattern_and_by_table(tmp_path):
    names = raw.write_folders(tmp_path, 6)
    out = prepare(tmp_path, subject_pattern=r"brain_0([0-9])")
    assert {row["subject"] for s in SPLITS for row in rows(out, s)} == set("012345")
    lines = [f"{name}\tperson{number // 2}" for number, name in enumerate(names)]
    (tmp_path / "who.tsv").write_text("\n".join(["image\tsubject", *lines]) + "\n")
    out = prepare(tmp_path, subject_table="who.tsv")
    of = {s: {row["subject"] for row in rows(out, s)} for s in SPLITS}
    assert sorted(p for subjects in of.values() for p in subjects) == [
        "person0",
        "person1",
        "person2",
    ]
    assert all(len(rows(out, s)) == 28 for s in SPLITS)


def pad_volumes(tmp_path, names, width):
    for kind in ("images", "labels"):
        for name in names:
            path = tmp_path / kind / name
            volume = nib.load(path)
            affine = volume.affine.copy()
            affine[:3, 3] -= width  # the field of view grows about the same head
            raw.save_volume(path, np.pad(np.asarray(volume.dataobj), width), affine)


@pytest.mark.parametrize("method", ["zscore", "percentile", "minmax"])
def test_with_a_mask_the_field_of_view_changes_no_pixel(tmp_path, method):
    names = raw.write_folders(tmp_path)
    settings = {"intensity": method, "intensity_mask": "nonzero", "keep_empty": False}
    before, _ = open_split(prepare(tmp_path, **settings), "train")
    before = np.array(before)
    pad_volumes(tmp_path, names, 4)
    after, _ = open_split(prepare(tmp_path, **settings), "train")
    assert np.array_equal(after[..., 3:13, 2:14], before[..., 3:13, 2:14])


def test_background_is_warned_about_once(tmp_path, caplog):
    names = raw.write_folders(tmp_path)
    prepare(tmp_path)
    assert "intensity_mask" not in caplog.text
    pad_volumes(tmp_path, names, 4)
    prepare(tmp_path)
    assert caplog.text.count("intensity_mask: nonzero") == 1
    assert "In 4 of 4 volume(s), more than half of the voxels are 0" in caplog.text
    caplog.clear()
    prepare(tmp_path, intensity_mask="nonzero")
    assert "intensity_mask" not in caplog.text


def test_fill(tmp_path):
    names = raw.write_folders(tmp_path)
    image = raw.image_voxels(1)
    image[:, :, 0] = np.nan
    raw.save_volume(tmp_path / "images" / names[1], image)
    refuse(tmp_path, rf"{names[1]}: 168 voxel\(s\) are NaN .* `fill: 0`")
    filled = prepare(tmp_path, fill=0.0)
    first = {s: np.array(open_split(filled, s)[0]) for s in SPLITS}
    image[:, :, 0] = 0
    raw.save_volume(tmp_path / "images" / names[1], image)
    for split, images in first.items():
        assert np.array_equal(open_split(prepare(tmp_path), split)[0], images)


def test_affine_tolerance(tmp_path):
    names = raw.write_folders(tmp_path)
    moved = np.eye(4)
    moved[0, 3] = 0.25
    raw.save_volume(tmp_path / "labels" / names[0], raw.label_voxels(), moved)
    refuse(tmp_path, rf"labels/{names[0]}: its affine differs .* by 0.25 mm")
    prepare(tmp_path, affine_tolerance=0.25)


@pytest.mark.parametrize("suffix", [".img", ".img.gz", ".hdr", ".mgh"])
def test_folders_of_other_formats(tmp_path, suffix):
    raw.write_folders(tmp_path / "plain", suffix=".nii")
    expected = prepare(tmp_path / "plain")
    raw.write_folders(tmp_path / "other", suffix=suffix)
    out = prepare(tmp_path / "other")
    for split in SPLITS:
        for one, other in zip(open_split(out, split), open_split(expected, split), strict=True):
            assert np.array_equal(one, other)


def test_half_a_pair_is_named(tmp_path):
    raw.write_folders(tmp_path, suffix=".img")
    (tmp_path / "labels" / "brain_02.hdr").unlink()
    refuse(tmp_path, r"labels/brain_02.hdr: does not exist, but brain_02.img needs it")
    raw.write_folders(tmp_path, suffix=".img")
    (tmp_path / "images" / "brain_01.img").unlink()
    refuse(tmp_path, r"images/brain_01.img: does not exist, but brain_01.hdr needs it")


def table(tmp_path, splits=None, subjects="abcd"):
    names = raw.write_folders(tmp_path)
    head = ["subject", "image", "label"] + (["split"] if splits else [])
    lines = ["\t".join(head)]
    for number, name in enumerate(names):
        row = [subjects[number], f"images/{name}", f"labels/{name}"]
        lines.append("\t".join(row + ([splits[number]] if splits else [])))
    (tmp_path / "t1.tsv").write_text("\n".join(lines) + "\n")
    return {"images": None, "labels": None, "table": "t1.tsv"}


def test_table(tmp_path):
    out = prepare(tmp_path, **table(tmp_path))
    assert {row["subject"] for s in SPLITS for row in rows(out, s)} == set("abcd")


def test_table_with_splits(tmp_path):
    out = prepare(tmp_path, **table(tmp_path, ["test", "train", "val", "train"]))
    assert {row["subject"] for row in rows(out, "train")} == {"b", "d"}


def test_one_subject_in_two_splits(tmp_path):
    settings = table(tmp_path, ["test", "train", "val", "train"], subjects="abba")
    refuse(tmp_path, r"subject b is in two splits \(train and val\)", **settings)


def test_table_without_a_split(tmp_path):
    settings = table(tmp_path, ["test", "train", "train", "train"])
    refuse(tmp_path, "no volume is in the split val", **settings)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("subject,image,label\n", "column subject, image, label is missing"),
        ("subject\timage\n", "column label is missing"),
        ("subject\timage\tlabel\n", "lists no volume"),
        ("subject\timage\tlabel\na\t\tx.nii\n", "line 2: image is empty"),
        ("subject\timage\tlabel\na\tx.nii\ty.nii\n", "x.nii .and 1 more., which does not exist"),
        ("subject\timage\tlabel\na\tx.png\ty.nii\n", "must be .nii"),
        ("subject\timage\tlabel\tsplit\na\tx.nii\ty.nii\tdev\n", "split is 'dev'"),
        ("\udcff", "not a tab-separated table in UTF-8"),
    ],
)
def test_invalid_tables(tmp_path, text, problem):
    (tmp_path / "t1.tsv").write_bytes(text.encode("utf-8", "surrogateescape"))
    refuse(tmp_path, problem, images=None, labels=None, table="t1.tsv")


def test_spaces_around_cells_of_a_table(tmp_path):
    changes = table(tmp_path, subjects=["a", "a ", " b", "c"])
    out = prepare(tmp_path, **changes)
    assert {row["subject"] for s in SPLITS for row in rows(out, s)} == set("abc")


def test_an_image_under_two_spellings(tmp_path):
    changes = table(tmp_path)
    path = tmp_path / "t1.tsv"
    path.write_text(path.read_text().replace("images/brain_01", "labels/../images/brain_00"))
    refuse(tmp_path, r"lists the image .*images/brain_00.nii.gz twice", **changes)


def test_a_folder_instead_of_a_table(tmp_path):
    (tmp_path / "t1.tsv").mkdir()
    refuse(tmp_path, "t1.tsv: cannot be read", images=None, labels=None, table="t1.tsv")


def test_missing_data_folder(tmp_path):
    with pytest.raises(UserError, match="absent: no such folder; set data_dir"):
        nifti.prepare(raw.volume_settings(), tmp_path / "absent", tmp_path / "out")


def test_missing_images_folder(tmp_path):
    refuse(tmp_path, "images: no such folder")


def test_label_without_image_and_image_without_label(tmp_path):
    names = raw.write_folders(tmp_path)
    path = tmp_path / "images" / names[0]
    path.rename(tmp_path / "spare.nii.gz")
    refuse(tmp_path, f"labels/{names[0]}: has no image of the same name")
    (tmp_path / "spare.nii.gz").rename(path)
    (tmp_path / "labels" / names[1]).unlink()
    (tmp_path / "labels" / names[2]).unlink()
    refuse(tmp_path, rf"images/{names[1]} \(and 1 more\): has no label of the same name")


def test_an_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    refuse(tmp_path, "images: has no volume")


def test_a_damaged_volume_is_named(tmp_path):
    names = raw.write_folders(tmp_path)
    path = tmp_path / "labels" / names[2]
    path.write_bytes(path.read_bytes()[:-60])
    refuse(tmp_path, f"labels/{names[2]}: is damaged: its gzip stream has no end")


def test_labels_that_are_not_in_the_map(tmp_path):
    names = raw.write_folders(tmp_path)
    raw.save_volume(tmp_path / "labels" / names[3], raw.label_voxels() * 7)
    refuse(tmp_path, rf"{names[3]}: label value\(s\) 7 are not in label_map")


def test_no_foreground_anywhere(tmp_path):
    for name in raw.write_folders(tmp_path):
        raw.save_volume(tmp_path / "labels" / name, np.zeros(raw.SHAPE, np.uint8))
    refuse(tmp_path, "no label volume has foreground")


def test_no_foreground_in_val(tmp_path):
    settings = table(tmp_path, ["val", "train", "test", "train"])
    raw.save_volume(tmp_path / "labels" / "brain_00.nii.gz", np.zeros(raw.SHAPE, np.uint8))
    refuse(tmp_path, "no label volume of the split val", **settings)


def test_cropping_that_would_cut_foreground(tmp_path):
    settings = table(tmp_path, ["train", "train", "val", "test"])
    corner = raw.label_voxels()
    corner[0, 6, 0] = 1
    path = tmp_path / "labels" / "brain_03.nii.gz"
    raw.save_volume(path, corner)
    problem = (
        r"brain_03.nii.gz: cropping to 8 x 8 would remove 1 foreground pixel\(s\) of this test"
    )
    refuse(tmp_path, problem, size=[8, 8], **settings)


def test_too_few_subjects(tmp_path):
    raw.write_folders(tmp_path, 4)
    refuse(tmp_path, "1 subjects are too few to split", subject_pattern="brain")


def test_images_without_a_subject(tmp_path):
    raw.write_folders(tmp_path)
    refuse(tmp_path, "does not match subject_pattern", subject_pattern=r"sub-(\d+)")
    refuse(tmp_path, "not a regular expression", subject_pattern="(")
    (tmp_path / "who.tsv").write_text("image\tsubject\nbrain_00\tx\n")
    refuse(tmp_path, "there is no row for image brain_01", subject_table="who.tsv")
    (tmp_path / "who.tsv").write_text("image\tsubject\nbrain_00\tx\nbrain_00.nii.gz\ty\n")
    refuse(tmp_path, "image brain_00 has two subjects", subject_table="who.tsv")


@pytest.mark.parametrize(
    "changes",
    [{"labels": None}, {"images": None, "labels": None}, {"table": "x.tsv"}, {"decathlon": "x"}],
)
def test_exactly_one_form(tmp_path, changes):
    refuse(tmp_path, "set exactly one of", **changes)


def test_one_source_of_subjects(tmp_path):
    raw.write_folders(tmp_path)
    refuse(tmp_path, "one source of subjects", subject_pattern="x", subject_table="y")


@pytest.mark.parametrize("text", ["", "{}", '{"training": [1]}', '{"training": []}'])
def test_a_damaged_decathlon_index(tmp_path, text):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "dataset.json").write_text(text)
    refuse(tmp_path, "dataset.json", images=None, labels=None, decathlon="task")


def test_decathlon_folder(tmp_path):
    raw.write_decathlon(tmp_path / "task", [1, 3, 4], "spleen")
    index = json.loads((tmp_path / "task" / "dataset.json").read_text())
    out = prepare(tmp_path, images=None, labels=None, decathlon="task")
    assert len(rows(out, "train")) == raw.SHAPE[1] * (len(index["training"]) - 2)


def test_every_form_of_hippocampus_gives_equal_data(tmp_path, monkeypatch):
    numbers = [1, 3, 4, 6, 7, 8, 11, 12]
    task = tmp_path / "a" / "Task04_Hippocampus"
    raw.write_decathlon(task, numbers)
    archive = tmp_path / "b" / "Task04_Hippocampus.tar"
    archive.parent.mkdir()
    raw.pack(task, archive)
    digest = archives.Archive(archive.name, "", file_digest(archive, "md5"))
    monkeypatch.setattr(archives, "HIPPOCAMPUS", digest)
    for form in "ab":
        hippocampus.prepare(HIPPOCAMPUS, tmp_path / form, tmp_path / f"out-{form}")
    first, second = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        for out in (tmp_path / "out-a", tmp_path / "out-b")
    )
    assert first == second
    folder = tmp_path / "c" / "hippocampus"
    folder.mkdir(parents=True)
    (task / "imagesTr").rename(folder / "images")
    (task / "labelsTr").rename(folder / "labels")
    hippocampus.prepare(HIPPOCAMPUS, tmp_path / "c", tmp_path / "out-c")
    for split in SPLITS:
        for name in ("images.npy", "labels.npy"):
            third = (tmp_path / "out-c" / split / name).read_bytes()
            assert third == first[type(folder)(split) / name]


def test_two_volumes_of_one_subject_stay_in_one_split(tmp_path):
    pairs = [
        Pair(f"hippocampus_{n:03d}", "", "", tmp_path, tmp_path) for n in (4, 3, 1, 6, 394, 393)
    ]
    found = {pair.name[-3:]: pair.subject for pair in hippocampus.with_subjects(pairs)}
    assert found == {
        "001": "person-001",
        "003": "person-002",
        "004": "person-002",
        "006": "person-003",
        "393": "person-197",
        "394": "person-197",
    }


def test_hippocampus_files_must_have_a_number(tmp_path):
    raw.write_folders(tmp_path / "hippocampus")
    with pytest.raises(UserError, match="its name must be hippocampus_<number>"):
        hippocampus.prepare(HIPPOCAMPUS, tmp_path, tmp_path / "out")
