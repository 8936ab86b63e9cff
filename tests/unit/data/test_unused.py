"""Files and folders beside the volumes that no pair uses are counted and named."""

import pytest
import raw_examples as raw
from test_missing_files import SUBJECTS, write_subjects

from nontrivial.data.sources import hippocampus, nifti
from nontrivial.data.volumes import unused
from nontrivial.formats import preparation_file

FLAT = {"images": "images/{subject}.nii.gz", "labels": "labels/{subject}.nii.gz"}


def warnings(folder, **changes):
    return unused.warnings(raw.volume_settings(**changes), folder)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"voxels")


@pytest.mark.parametrize("changes", [{}, FLAT])
def test_nothing_is_said_about_files_that_belong_to_the_volumes(tmp_path, changes):
    touch(tmp_path, *(f"{kind}/s{n}.nii.gz" for kind in ("images", "labels") for n in range(3)))
    names = ("s1.json", "s1.bval", "s1.nii.gz.md5", ".DS_Store", "._s1.nii.gz", "README", "a.txt")
    touch(tmp_path, *(f"images/{name}" for name in names))
    assert warnings(tmp_path, **changes) == []


def test_entries_of_a_folder_that_are_no_volumes(tmp_path):
    ignored = ("b9.nii.gz.part", "b8.nrrd", "b6.nii.bz2", "sub/b7.nii.gz")
    for kind in ("images", "labels"):
        touch(tmp_path, *(f"{kind}/{name}" for name in ("b1.nii.gz", *ignored)))
    (told,) = warnings(tmp_path)
    assert told.startswith("8 file(s) or folder(s) beside the volumes are not used, because")
    assert ": images/b6.nii.bz2, images/b8.nrrd, images/b9.nii.gz.part (and 5 more). " in told


def test_subjects_without_a_file_that_matches(tmp_path):
    write_subjects(tmp_path, range(5))
    touch(tmp_path, "raw/sub-8/anat/sub-8_T1w.nii", "raw/sub-4/anat/sub-5_T1w.nii.gz")
    (tmp_path / "raw" / "sub-7").mkdir()
    (told,) = warnings(tmp_path, **SUBJECTS)
    assert told.startswith("2 folder(s) that the wildcards of images or labels match hold no file")
    assert ": raw/sub-7, raw/sub-8. " in told


def test_sessions_without_a_file_but_no_folder_above_the_subject(tmp_path):
    names = ("A/1/s1", "A/1/s2", "B/2/s1")
    touch(tmp_path, *(f"{name}/{kind}.nii" for name in names for kind in ("x", "y")))
    touch(tmp_path, "A/1/s3/z.nii", "B/3/s1/z.nii", "other/z.nii")
    patterns = {key: f"{{site}}/{{subject}}/{{session}}/{key}.nii" for key in "xy"}
    (told,) = warnings(tmp_path, images=patterns["x"], labels=patterns["y"])
    assert ": A/1/s3, B/3. " in told


def test_the_same_name_with_another_suffix(tmp_path):
    for kind in ("images", "labels"):
        touch(tmp_path, *(f"{kind}/s{n}.nii.gz" for n in range(3)), f"{kind}/s8.nii")
    (told,) = warnings(tmp_path, **FLAT)
    assert told.startswith("2 file(s) or folder(s) beside the volumes are not used, because")
    assert ": images/s8.nii, labels/s8.nii. " in told
    touch(tmp_path, "images/s1.nii")  # the subject itself is used
    assert warnings(tmp_path, **FLAT) == [told]


@pytest.mark.parametrize("changes", [{}, FLAT])
def test_the_preparation_warns(tmp_path, changes):
    raw.write_folders(tmp_path / "raw")
    touch(tmp_path / "raw", "images/s8.nii.gz.part")
    out = tmp_path / "out"
    nifti.prepare(raw.volume_settings(**changes), tmp_path / "raw", out)
    told = preparation_file.read(out / "preparation.json").warnings[0]
    assert told.startswith("1 file(s) or folder(s) beside the volumes")
    assert "images/s8.nii.gz.part" in told


def test_the_preparation_of_the_hippocampus_warns(tmp_path):
    for number in range(1, 17):
        for kind, voxels in (("images", raw.image_voxels(number)), ("labels", raw.label_voxels())):
            name = f"hippocampus_{number:03d}.nii.gz"
            raw.save_volume(tmp_path / "hippocampus" / kind / name, voxels)
    touch(tmp_path, "hippocampus/images/hippocampus_017.nrrd")
    settings = {key: raw.volume_settings().get(key) for key in hippocampus.KEYS}
    hippocampus.prepare(settings, tmp_path, tmp_path / "out")
    told = preparation_file.read(tmp_path / "out" / "preparation.json").warnings[0]
    assert "hippocampus/images/hippocampus_017.nrrd" in told
