import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import raw_examples as raw

from nontrivial.data import manifest
from nontrivial.data.manifest import source_files, source_identity
from nontrivial.data.sources import locations
from nontrivial.data.sources.archives import CIFAR10, HIPPOCAMPUS
from nontrivial.errors import UserError

NIFTI = raw.volume_settings()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "digests.json"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    raw.write_folders(folder)
    return folder


def test_files_are_those_of_both_folders(data):
    assert [p.relative_to(data).as_posix() for p in source_files(NIFTI, data)] == [
        f"{kind}/brain_{index:02d}.nii.gz" for kind in ("images", "labels") for index in range(4)
    ]


def test_touch_keeps_the_identity(data, cache):
    before = source_identity(NIFTI, data, cache)
    for path in source_files(NIFTI, data):
        os.utime(path)
    assert source_identity(NIFTI, data, cache) == before


def test_moving_the_folder_keeps_the_identity(data, cache, tmp_path):
    before = source_identity(NIFTI, data, cache)
    moved = tmp_path / "elsewhere"
    shutil.move(data, moved)
    assert source_identity(NIFTI, moved, cache) == before


@pytest.mark.parametrize("age", [-86400, 86400])
def test_changed_content_of_equal_size_is_detected_whatever_its_time(data, cache, age):
    before = source_identity(NIFTI, data, cache)
    path = source_files(NIFTI, data)[0]
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, (status.st_atime + age, status.st_mtime + age))
    assert source_identity(NIFTI, data, cache) != before


@pytest.mark.parametrize("form", ["folders", "table", "decathlon"])
@pytest.mark.parametrize(("named", "half"), [(".img", ".hdr"), (".img", ".img"), (".hdr", ".img")])
def test_both_halves_of_a_pair_count(tmp_path, cache, form, named, half):
    raw.write_folders(tmp_path, 1, suffix=".img")
    image, label = f"images/brain_00{named}", f"labels/brain_00{named}"
    settings = raw.volume_settings()
    if form != "folders":
        settings |= {"images": None, "labels": None, form: "." if form == "decathlon" else "t.tsv"}
        (tmp_path / "t.tsv").write_text(f"subject\timage\tlabel\na\t{image}\t{label}\n")
        index = {"training": [{"image": image, "label": label}]}
        (tmp_path / "dataset.json").write_text(json.dumps(index))
    assert len(source_files(settings, tmp_path)) == (4 if form == "folders" else 5)
    before = source_identity(settings, tmp_path, cache)
    path = tmp_path / "labels" / f"brain_00{half}"
    path.write_bytes(path.read_bytes() + b"x")
    assert source_identity(settings, tmp_path, cache) != before


@pytest.mark.parametrize(("kept", "gone"), [(".img", ".hdr"), (".hdr", ".img")])
def test_a_dry_run_finds_half_a_pair(tmp_path, kept, gone):
    raw.write_folders(tmp_path, suffix=".img")
    manifest.check_files(NIFTI, tmp_path)
    for number in (1, 3):
        (tmp_path / "labels" / f"brain_0{number}{gone}").unlink()
    problem = rf"labels/brain_01{gone}: does not exist, but brain_01{kept} needs it \(and 1 more\)"
    with pytest.raises(UserError, match=problem):
        manifest.check_files(NIFTI, tmp_path)


def test_a_new_or_renamed_file_is_detected(data, cache):
    before = source_identity(NIFTI, data, cache)
    path = source_files(NIFTI, data)[0]
    path.rename(path.with_name("renamed.nii.gz"))
    assert source_identity(NIFTI, data, cache) != before


def test_unchanged_files_are_not_read_again(data, cache, monkeypatch):
    before = source_identity(NIFTI, data, cache)

    def refuse(path, algorithm):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(manifest, "file_digest", refuse)
    assert source_identity(NIFTI, data, cache) == before


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"sha256 x": 3}'])
def test_a_damaged_cache_is_ignored(data, cache, content):
    before = source_identity(NIFTI, data, cache)
    cache.write_text(content)
    assert source_identity(NIFTI, data, cache) == before


def test_a_cache_that_cannot_be_written_is_ignored(data, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert source_identity(NIFTI, data, blocker / "cache.json")


def test_a_cache_that_may_not_be_changed_is_read(data, cache, monkeypatch):
    before = source_identity(NIFTI, data, cache, save=False)
    assert not cache.exists()
    assert source_identity(NIFTI, data, cache) == before
    monkeypatch.setattr("nontrivial.data.manifest.file_digest", lambda *_: pytest.fail("read"))
    assert source_identity(NIFTI, data, cache, save=False) == before


def test_embedded_missing_and_downloadable(tmp_path, cache):
    assert source_identity({"source": "digits"}, tmp_path, cache) == "embedded digits"
    assert source_files({"source": "mni152"}, tmp_path) == []
    assert source_identity(NIFTI, tmp_path, cache) == "missing"
    fahmy = {"source": "fahmy2019", "file": "T1Dataset210.mat"}
    assert source_identity(fahmy, tmp_path / "absent", cache) == "missing"
    assert CIFAR10.md5 in source_identity({"source": "cifar10"}, tmp_path, cache)


@pytest.mark.parametrize(
    ("source", "archive"), [("cifar10", CIFAR10), ("hippocampus", HIPPOCAMPUS)]
)
def test_a_download_makes_nothing_stale(source, archive, tmp_path, cache, monkeypatch):
    content = b"in place of the published archive"
    md5 = hashlib.md5(content).hexdigest()
    same = type(archive)(archive.name, archive.url, md5)
    monkeypatch.setitem(manifest.ARCHIVES, source, same)
    before = source_identity({"source": source}, tmp_path, cache)
    (tmp_path / archive.name).write_bytes(content)
    assert source_identity({"source": source}, tmp_path, cache) == before
    (tmp_path / archive.name).write_bytes(content[:-1])
    assert source_identity({"source": source}, tmp_path, cache) != before


def test_files_of_a_decathlon_folder_and_a_table(tmp_path):
    raw.write_decathlon(tmp_path / "task", [1, 3])
    settings = raw.volume_settings(images=None, labels=None, decathlon="task")
    assert len(source_files(settings, tmp_path)) == 5
    table = tmp_path / "task" / "t1.tsv"
    table.write_text(
        "image\tlabel\tsubject\n"
        "imagesTr/hippocampus_001.nii.gz\tlabelsTr/hippocampus_001.nii.gz\ta\n",
        encoding="utf-8-sig",  # spreadsheets write a byte order mark
    )
    settings = raw.volume_settings(images=None, labels=None, table="task/t1.tsv")
    assert [p.name for p in source_files(settings, tmp_path)] == [
        "hippocampus_001.nii.gz",
        "hippocampus_001.nii.gz",
        "t1.tsv",
    ]


def test_files_that_match_a_pattern(data, cache):
    settings = {key: f"{key}/brain_{{subject}}.nii.gz" for key in ("images", "labels")}
    settings = raw.volume_settings(**settings)
    assert source_files(settings, data) == source_files(NIFTI, data)
    before = source_identity(settings, data, cache)
    (data / "images" / "other.nii.gz").write_bytes(b"not matched")
    assert source_identity(settings, data, cache) == before
    (data / "images" / "brain_99.nii.gz").write_bytes(b"matched")
    assert source_identity(settings, data, cache) != before


def test_a_dangling_link_is_no_file_to_hash(data, cache):
    before = source_identity(NIFTI, data, cache)
    (data / "images" / "x.nii.gz").symlink_to("../.git/annex/objects/x.nii.gz")
    assert source_identity(NIFTI, data, cache) == before


@pytest.mark.parametrize("form", ["batches", "archive", "parquet", "folders"])
@pytest.mark.parametrize("below", ["", "cifar10"])
def test_every_form_of_cifar10_is_found(form, below, tmp_path):
    base = tmp_path / below
    if form == "batches":
        raw.write_batches(base / "cifar-10-batches-py")
    elif form == "archive":
        base.mkdir(exist_ok=True)
        (base / CIFAR10.name).write_bytes(b"")
    elif form == "parquet":
        raw.write_parquet(base / "train-00000-of-00001.parquet", [0])
        raw.write_parquet(base / "test-00000-of-00001.parquet", [0])
    else:
        raw.write_class_folders(base, 1, 1)
    found = locations.find_cifar10(tmp_path)
    assert found.form == form
    assert source_files({"source": "cifar10"}, tmp_path) == sorted([*found.train, *found.test])


def test_only_the_standard_library_is_imported():
    program = (
        "import sys; before = set(sys.modules); import nontrivial.data.manifest;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'nontrivial'}))"
    )
    scripts = Path(manifest.__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(scripts)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
