"""Files that are missing, or were not fetched, are named and counted, without reading volumes."""

import json
import re
import shutil

import pytest
from raw_examples import volume_settings, write_batches, write_decathlon

from nontrivial.data import splits
from nontrivial.data.manifest import check_files, source_files
from nontrivial.data.sources import cifar10, hippocampus
from nontrivial.data.sources.archives import CIFAR10, HIPPOCAMPUS
from nontrivial.data.sources.download import check_archive
from nontrivial.data.tables import read_tsv
from nontrivial.data.volumes.selection import find_pairs
from nontrivial.errors import UserError

ANNEX = "../.git/annex/objects/x9/Kp/SHA256E-s9--6c.nii.gz"
ANNEX_POINTER = "/annex/objects/SHA256E-s7340032--0a1b2c.nii.gz\n"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
DECATHLON = {"images": None, "labels": None, "decathlon": "Task04_Hippocampus"}
TABLE = {"images": None, "labels": None, "table": "t1.tsv"}
NAMES = [f"s{n}.nii.gz" for n in range(5)]
HIPPOCAMPUS_SETTINGS = {
    **{key: volume_settings().get(key) for key in hippocampus.KEYS},
    "source": "hippocampus",
}


@pytest.fixture
def data(tmp_path):
    """A folder with five subjects, in each form. The volumes hold no voxels."""
    folder = tmp_path / "data"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for name in NAMES:
            (folder / kind / name).write_bytes(b"voxels")
    rows = "".join(f"{n}\timages/{name}\tlabels/{name}\n" for n, name in enumerate(NAMES))
    (folder / "t1.tsv").write_text("subject\timage\tlabel\n" + rows)
    task = folder / "Task04_Hippocampus"
    task.mkdir()
    entries = [{"image": f"../images/{n}", "label": f"../labels/{n}"} for n in NAMES]
    (task / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


def refused(data, problem, **changes):
    settings = volume_settings(**changes)
    with pytest.raises(UserError, match=problem) as caught:
        find_pairs(settings, data)
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        check_files(settings, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMS = [
    {},
    DECATHLON,
    TABLE,
    {"images": "images/{subject}.nii.gz", "labels": "labels/{subject}.nii.gz"},
]


@pytest.mark.parametrize("changes", FORMS)
def test_every_form_of_the_example_is_complete(data, changes):
    assert len(find_pairs(volume_settings(**changes), data)) == 5
    check_files(volume_settings(**changes), data)


@pytest.mark.parametrize("changes", FORMS)
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_dangling_link_is_named(data, changes, kind):
    for name in NAMES[1:4]:
        (data / kind / name).unlink()
        (data / kind / name).symlink_to(ANNEX)
    told = refused(data, "datalad get, git annex get", **changes)
    assert re.search(
        rf"{kind}/s1\.nii\.gz \(and 2 more\): a link to a file or folder that does not", told
    )


@pytest.mark.parametrize("changes", FORMS)
def test_subjects_whose_image_and_label_both_dangle_do_not_vanish(data, changes):
    for kind in ("images", "labels"):
        (data / kind / NAMES[2]).unlink()
        (data / kind / NAMES[2]).symlink_to(ANNEX)
    assert "s2.nii.gz" in refused(data, r"\(and 1 more\): a link to a file", **changes)


@pytest.mark.parametrize("changes", FORMS)
@pytest.mark.parametrize("content", [ANNEX_POINTER, ANNEX, LFS_POINTER])
def test_a_pointer_is_named(data, changes, content):
    for name in NAMES[3:]:
        (data / "labels" / name).write_text(content)
    told = refused(data, "a pointer of git-annex or Git LFS", **changes)
    assert re.search(r"labels/s3\.nii\.gz \(and 1 more\)", told)


def test_links_to_files_are_files(data):
    for name in NAMES:
        path = data / "images" / name
        path.rename(data / name)
        path.symlink_to(data / name)
    assert len(find_pairs(volume_settings(), data)) == 5


@pytest.mark.parametrize(
    ("name", "changes"),
    [("t1.tsv", TABLE), ("who.tsv", {"subject_table": "who.tsv"})],
)
@pytest.mark.parametrize("pointer", [True, False])
def test_a_table_that_was_not_fetched(data, name, changes, pointer):
    (data / name).unlink(missing_ok=True)
    if pointer:
        (data / name).write_text(LFS_POINTER)
    else:
        (data / name).symlink_to(ANNEX)
    assert name in refused(data, "git annex get", **changes)


def test_an_index_that_was_not_fetched(data):
    index = data / "Task04_Hippocampus" / "dataset.json"
    index.write_text(ANNEX_POINTER)
    assert "dataset.json" in refused(data, "git annex get", **DECATHLON)


@pytest.mark.parametrize(
    ("archive", "module", "settings"),
    [
        (CIFAR10, cifar10, {"source": "cifar10", "validation": 5, "split_seed": 0}),
        (HIPPOCAMPUS, hippocampus, HIPPOCAMPUS_SETTINGS),
    ],
)
@pytest.mark.parametrize("pointer", [True, False])
def test_an_archive_that_was_not_fetched_is_not_downloaded(
    tmp_path, archive, module, settings, pointer
):
    path = tmp_path / archive.name
    if pointer:
        path.write_text(LFS_POINTER)
    else:
        path.symlink_to(ANNEX)
    for refuse in (
        lambda: check_archive(path, archive),
        lambda: check_files(settings, tmp_path),
        lambda: module.prepare(settings, tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(UserError, match=f"{archive.name}: .*git annex get"):
            refuse()


def test_a_batch_of_cifar10_that_was_not_fetched(tmp_path):
    settings = {"source": "cifar10", "validation": 5, "split_seed": 0}
    write_batches(tmp_path / "cifar-10-batches-py")
    check_files(settings, tmp_path)
    for name in ("data_batch_3", "test_batch"):
        path = tmp_path / "cifar-10-batches-py" / name
        path.unlink()
        path.symlink_to(ANNEX)
    for refuse in (
        lambda: check_files(settings, tmp_path),
        lambda: cifar10.prepare(settings, tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(UserError, match=r"data_batch_3 \(and 1 more\): a link"):
            refuse()


@pytest.mark.parametrize("changes", [DECATHLON, TABLE])
def test_an_incomplete_copy(data, changes):
    for name in NAMES[1:]:
        (data / "images" / name).unlink()
    told = refused(data, "which does not exist", **changes)
    assert re.search(r"images/s1\.nii\.gz \(and 3 more\)", told)
    assert "(4 of 10 files)" in told


def test_folders_say_how_many_more_have_no_counterpart(data):
    for name in NAMES[1:]:
        (data / "labels" / name).unlink()
    assert "s1.nii.gz (and 3 more): has no label" in refused(data, "has no label")


def test_tables_say_how_many_more_lines_are_wrong(data):
    table = data / "t1.tsv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]}\tsplit", *(f"{line}\tdev" for line in lines[1:])]))
    refused(data, r"t1.tsv, line 2: split is 'dev' \(and 4 more\)", **TABLE)
    table.write_text("\n".join([*lines, lines[1], lines[2]]))
    refused(data, r"s0.nii.gz \(and 1 more\) twice", **TABLE)
    table.write_text("\n".join([lines[0], *(line.replace("images", "") for line in lines[1:])]))
    table.write_text("\n".join([lines[0], *("\t" + line[2:] for line in lines[1:])]))
    with pytest.raises(UserError, match=r"line 2: subject is empty \(and 4 more\)"):
        read_tsv(table, ["subject"])


def test_rules_for_subjects_say_how_many_more_do_not_fit(data):
    refused(data, r"s1.nii.gz \(and 3 more\): its name does not match", subject_pattern="s0")
    (data / "who.tsv").write_text("image\tsubject\ns0\t1\n")
    refused(data, r"no row for image s1.nii.gz \(and 3 more\)", subject_table="who.tsv")
    rows = "".join(f"s{n}\t{n}\ns{n}\tx\n" for n in range(5))
    (data / "who.tsv").write_text("image\tsubject\n" + rows)
    refused(data, r"image s0 \(and 4 more\) has two subjects", subject_table="who.tsv")


def test_subjects_in_two_splits_are_counted():
    members = [("a", "train"), ("b", "train"), ("c", "val"), ("a", "val"), ("c", "test")]
    with pytest.raises(UserError, match=r"a is in two splits \(train and val\) \(and 1 more\)"):
        splits.check_disjoint(members)


@pytest.mark.parametrize("changes", FORMS)
def test_a_data_dir_one_level_too_deep_or_too_high(data, changes):
    assert f"set data_dir: {data}" in refused(data / "labels", "no (such|file)", **changes)
    told = refused(data.parent, "no (such|file)", **changes)
    assert f"set data_dir: {data}" in told
    assert str(data.parent) in told


def test_a_data_dir_elsewhere(tmp_path):
    (tmp_path / "empty").mkdir()
    told = refused(tmp_path / "empty", "images: no such folder; check data_dir")
    assert f"({tmp_path / 'empty'}) and images" in told


def test_data_that_would_be_downloaded_again_beside_themselves(tmp_path):
    write_decathlon(tmp_path / "raw" / "Task04_Hippocampus", [1, 3, 5])
    write_batches(tmp_path / "raw" / "cifar-10-batches-py")
    (tmp_path / "raw" / "empty").mkdir()
    for source in (HIPPOCAMPUS_SETTINGS, {"source": "cifar10"}):
        check_files(source, tmp_path / "raw")
        for folder in (tmp_path, tmp_path / "raw" / "empty"):
            with pytest.raises(UserError, match=f"set data_dir: {tmp_path / 'raw'}$"):
                check_files(source, folder)
        check_files(source, tmp_path / "raw" / "empty" / "absent")  # will be downloaded


def test_a_missing_file_of_fahmy2019(tmp_path):
    settings = {"source": "fahmy2019", "file": "T1.mat"}
    with pytest.raises(UserError, match=r"T1\.mat: no such file.* doi:10\.7910/DVN/DHEUAV"):
        check_files(settings, tmp_path)
    (tmp_path / "T1.mat").symlink_to(ANNEX)
    with pytest.raises(UserError, match=r"T1\.mat: a link"):
        check_files(settings, tmp_path)


def test_raw_data_that_are_gone_after_they_were_prepared(data, tmp_path):
    """Snakemake would delete the prepared data before a job fails that cannot make them again."""
    settings = volume_settings()
    with pytest.raises(UserError, match=r"absent: no such folder.*\. All results stay as they are"):
        check_files(settings, tmp_path / "absent", is_prepared=True)
    (data / "labels" / NAMES[0]).unlink()
    assert source_files(settings, data)
    with pytest.raises(UserError, match="has no label"):
        check_files(settings, data, is_prepared=True)


@pytest.mark.parametrize("changes", [{}, FORMS[-1]])
def test_a_data_dir_needs_labels_too_and_all_are_listed(data, changes):
    for name in ("a", "b", "c", "d", "e", "f"):
        (data.parent / name / "images").mkdir(parents=True)
        (data.parent / name / "images" / "s0.nii.gz").write_bytes(b"voxels")
    told = refused(data.parent, "no (such folder|file matches)", **changes)
    assert told.endswith(f"{data} has it; set data_dir: {data}")
    for name in ("c", "d", "e", "f"):
        shutil.copytree(data.parent / name / "images", data.parent / name / "labels")
    told = refused(data.parent, "no (such folder|file matches)", **changes)
    listed = ", ".join(str(data.parent / name) for name in ("c", "d", "data"))
    assert told.endswith(f"{listed} (and 2 more) have it; set data_dir to one of them")


FLAT = {"images": "raw/{subject}.nii.gz", "labels": "labels/{subject}.nii.gz"}


@pytest.mark.parametrize("changes", [{"images": "raw/images"}, FLAT, {"images": "raw"}])
def test_a_folder_that_is_a_dangling_link(data, changes):
    (data / "raw").symlink_to("../.git/annex/raw")
    told = refused(data, "a link to a file or folder that does not exist", **changes)
    assert told.startswith(f"{data / 'raw'}: ")
    (data / "link").symlink_to("nowhere")
    assert str(data / "link") in refused(data / "link", "a link to a file or folder")


def write_subjects(folder, numbers):
    for number in numbers:
        anat = folder / "raw" / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        for kind in ("T1w", "seg"):
            (anat / f"sub-{number}_{kind}.nii.gz").write_bytes(b"voxels")
        (anat / f"sub-{number}_T1w.json").write_text("{}")


SUBJECTS = {
    "images": "raw/sub-{subject}/anat/sub-{subject}_T1w.nii.gz",
    "labels": "raw/sub-{subject}/anat/sub-{subject}_seg.nii.gz",
}


@pytest.mark.parametrize("link", ["sub-9", "sub-7/anat"])
def test_a_dangling_link_to_the_folder_of_a_subject(tmp_path, link):
    write_subjects(tmp_path, range(5))
    (tmp_path / "raw" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "raw" / link).symlink_to("nowhere")
    told = refused(tmp_path, "git annex get", **SUBJECTS)
    assert told.startswith(f"{tmp_path / 'raw' / link}: a link to a file or folder that does not")


def test_a_dangling_link_that_no_pattern_enters(tmp_path):
    write_subjects(tmp_path, range(5))
    (tmp_path / "raw" / "README").symlink_to("nowhere")
    assert len(find_pairs(volume_settings(**SUBJECTS), tmp_path)) == 5


def test_names_of_hippocampus_volumes_that_do_not_fit(data):
    (data / "hippocampus").mkdir()
    for kind in ("images", "labels"):
        (data / kind).rename(data / "hippocampus" / kind)
    with pytest.raises(UserError, match=r"s0\.nii\.gz \(and 4 more\): its name must be hippocamp"):
        hippocampus.prepare(HIPPOCAMPUS_SETTINGS, data, data / "out")
