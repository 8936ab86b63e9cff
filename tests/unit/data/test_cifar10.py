import os
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_examples as raw
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import archives, cifar10, cifar10_batches
from nontrivial.data.sources.cifar10_batches import read_batch
from nontrivial.data.sources.locations import CIFAR10_CLASSES, find_cifar10
from nontrivial.data.sources.pictures import decode
from nontrivial.errors import UserError
from nontrivial.formats import samples
from nontrivial.formats.dataset import read_description

SETTINGS = {"validation": 10, "split_seed": 0}
TRAIN = "train-00000-of-00001.parquet"
TEST = "test-00000-of-00001.parquet"


def parquet(folder, train=None, pictures=None):
    raw.write_parquet(folder / "cifar10" / TRAIN, train or list(range(10)) * 3, pictures)
    raw.write_parquet(folder / "cifar10" / TEST, list(range(10)))


@pytest.fixture
def published(monkeypatch):
    """Accept small batches in place of the published ones."""

    def stand_in(checksums):
        monkeypatch.setattr(read_batch, "__defaults__", (checksums,))

    return stand_in


def test_parquet(tmp_path):
    parquet(tmp_path)
    cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")
    description = read_description(tmp_path / "out" / "dataset.json")
    assert description.counts == {"train": 20, "val": 10, "test": 10}
    assert description.classes == list(CIFAR10_CLASSES)
    seen = []
    for split in ("train", "val"):
        images, labels = open_split(tmp_path / "out", split)
        table = samples.read(tmp_path / "out" / split / "samples.parquet").to_pylist()
        assert (images.dtype, images.shape[1:], labels.dtype) == (np.uint8, (3, 32, 32), np.int64)
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
        for row in table:
            number = int(row["source"].removeprefix(f"{TRAIN}:"))
            seen.append(number)
            expected = decode(raw.picture(number), "", (32, 32))
            assert np.array_equal(images[row["sample"]], expected)
            assert row["label"] == labels[row["sample"]] == number % 10
            assert (row["subject"], row["slice"]) == (None, None)
    assert sorted(seen) == list(range(30))
    images, _ = open_split(tmp_path / "out", "train")
    assert description.mean == pytest.approx(images.mean(axis=(0, 2, 3)))
    assert description.std == pytest.approx(images.std(axis=(0, 2, 3)))


def test_class_folders(tmp_path):
    raw.write_class_folders(tmp_path, train=3, test=1)
    cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")
    table = samples.read(tmp_path / "out" / "test" / "samples.parquet").to_pylist()
    assert [row["source"] for row in table] == [f"test/{c}/0000.png" for c in CIFAR10_CLASSES]


def test_batches_and_their_archive_give_the_same(tmp_path, published, monkeypatch):
    folder = tmp_path / "a" / "cifar-10-batches-py"
    published(raw.write_batches(folder))
    cifar10.prepare(SETTINGS, tmp_path / "a", tmp_path / "out-a")
    (tmp_path / "b").mkdir()
    archive = tmp_path / "b" / archives.CIFAR10.name
    raw.pack(folder, archive)
    digest = archives.Archive(archive.name, "", cifar10_batches.file_digest(archive, "md5"))
    monkeypatch.setattr(archives, "CIFAR10", digest)
    cifar10.prepare(SETTINGS, tmp_path / "b", tmp_path / "out-b")
    first, second = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        for out in (tmp_path / "out-a", tmp_path / "out-b")
    )
    assert first == second
    assert len(first) == 11
    assert archive.exists()


def test_a_pickle_without_the_published_digest_is_not_opened(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    raw.write_batches(folder)
    with pytest.raises(UserError, match="data_batch_1: not the published CIFAR-10 file"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("content", [Harm(), {"data": Harm()}, {"data": [1]}, [1, 2], {}])
def test_even_with_the_right_digest_only_arrays_are_unpickled(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(content))
    checksums = {path.name: cifar10_batches.file_digest(path, "md5")}
    with pytest.raises(UserError, match="data_batch_1: not a batch of CIFAR-10"):
        read_batch(path, (32, 32), checksums)
    assert not (tmp_path / "harm").exists()


def test_a_missing_batch(tmp_path, published):
    folder = tmp_path / "cifar-10-batches-py"
    published(raw.write_batches(folder))
    (folder / "data_batch_3").unlink()
    with pytest.raises(UserError, match=r"data_batch_3: cannot be read \(No such file"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_an_archive_with_the_wrong_checksum(tmp_path):
    (tmp_path / archives.CIFAR10.name).write_bytes(b"half a download")
    with pytest.raises(UserError, match=r"cifar-10-python.tar.gz: wrong checksum"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 0.99))
def test_a_truncated_parquet_file(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("truncated")
    parquet(folder)
    path = folder / "cifar10" / TRAIN
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match="not a readable Parquet file") as caught:
        cifar10.prepare(SETTINGS, folder, folder / "out")
    assert "\n" not in str(caught.value)
    assert not [p for p in (folder / "out").rglob("*") if p.is_file()]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 0.9))
def test_a_truncated_jpeg(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("jpeg")
    pictures = [raw.picture(row, "JPEG") for row in range(30)]
    pictures[17] = pictures[17][: int(len(pictures[17]) * part)]
    parquet(folder, pictures=pictures)
    with pytest.raises(UserError, match=f"{TRAIN}, row 17: cannot be decoded as an image"):
        cifar10.prepare(SETTINGS, folder, folder / "out")
    assert not [p for p in (folder / "out").rglob("*") if p.is_file()]


def test_an_image_of_another_size(tmp_path):
    parquet(tmp_path, pictures=[raw.picture(row, size=28) for row in range(30)])
    with pytest.raises(UserError, match="is 28 x 28 pixels, but must be 32 x 32"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_a_damaged_image_file(tmp_path):
    raw.write_class_folders(tmp_path, train=3, test=1)
    path = tmp_path / "train" / "cat" / "0001.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"cat/0001.png: cannot be decoded"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_a_parquet_file_whose_page_checksum_does_not_match(tmp_path):
    parquet(tmp_path)
    path = tmp_path / "cifar10" / TEST
    table = pq.read_table(path)
    bmp = [raw.picture(row, "BMP") for row in range(10)]  # has no checksum of its own
    column = pa.array([{"bytes": data, "path": None} for data in bmp], table["img"].type)
    table = table.set_column(table.schema.get_field_index("img"), "img", column)
    for checksum in (False, True):
        pq.write_table(
            table, path, compression="none", use_dictionary=False, write_page_checksum=checksum
        )
        content = bytearray(path.read_bytes())
        content[content.index(bmp[3]) + 1000] ^= 1
        path.write_bytes(content)
        if not checksum:
            cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")  # nothing tells of the damage
            continue
        with pytest.raises(UserError, match=rf"{TEST}: not a readable Parquet file \(.*CRC"):
            cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"text": ["a"], "label": [0]}),
        pa.table({"img": [b"bytes"], "label": [0]}),
        pa.table({"img": [{"bytes": b"x", "path": ""}], "target": [0]}),
        pa.table({"img": [{"bytes": b"x", "path": ""}], "label": ["cat"]}),
    ],
)
def test_parquet_without_the_columns(tmp_path, table):
    parquet(tmp_path)
    pq.write_table(table, tmp_path / "cifar10" / TRAIN)
    with pytest.raises(UserError, match=f"{TRAIN}: has columns .* expected"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_a_label_that_is_not_a_class(tmp_path):
    parquet(tmp_path, train=[*range(10), *range(10), 10])
    with pytest.raises(UserError, match="label 10 is not a class of CIFAR-10"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_more_validation_images_than_there_are(tmp_path):
    parquet(tmp_path)
    with pytest.raises(UserError, match="class 0 has 3 image"):
        cifar10.prepare({"validation": 30, "split_seed": 0}, tmp_path, tmp_path / "out")


def test_an_archive_without_the_batches(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    archive = tmp_path / archives.CIFAR10.name
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "other", arcname="other")
    digest = archives.Archive(archive.name, "", cifar10_batches.file_digest(archive, "md5"))
    monkeypatch.setattr(archives, "CIFAR10", digest)
    with pytest.raises(UserError, match="contains no folder cifar-10-batches-py"):
        cifar10.prepare(SETTINGS, tmp_path, tmp_path / "out")


def test_published_digests_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10

    listed = dict([*CIFAR10.train_list, *CIFAR10.test_list])
    assert read_batch.__defaults__ == (listed,)
    assert (CIFAR10.url, CIFAR10.tgz_md5) == (archives.CIFAR10.url, archives.CIFAR10.md5)
    assert find_cifar10 is cifar10.find_cifar10
