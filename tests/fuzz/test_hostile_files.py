"""Malicious files are refused: nothing in them runs or is written outside of its folder."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import raw_examples as raw
import torch
from conftest import CONFIG, SUBJECTS, copy_workflow, write_volumes
from fuzzing import answer, examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import cifar10, nifti
from nontrivial.data.sources.pictures import decode
from nontrivial.data.sources.unpacking import unpack
from nontrivial.formats import samples, weights
from nontrivial.formats.dataset import read_description
from nontrivial.networks.kernel_table import read_table
from nontrivial.training.checkpoint import LAST, Checkpoints


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def harm(tmp_path):
    """The folder that a payload makes; it must not exist at the end."""
    folder = tmp_path / "harm"
    yield folder
    assert not folder.exists()


def pickles(harm: Path) -> list[bytes]:
    """Pickles with a payload: plain, of torch (both formats), of numpy."""
    written = [pickle.dumps(Harm(harm)), pickle.dumps(Harm(harm), protocol=0)]
    for new_form in (True, False):
        buffer = io.BytesIO()
        torch.save({"weight": Harm(harm)}, buffer, _use_new_zipfile_serialization=new_form)
        written.append(buffer.getvalue())
    buffer = io.BytesIO()
    np.save(buffer, np.array([Harm(harm)], dtype=object), allow_pickle=True)
    return [*written, buffer.getvalue()]


def test_the_payload_would_do_harm(tmp_path):
    harm = tmp_path / "harm"
    plain, text, new, old, array = pickles(harm)
    for load in (
        lambda: pickle.loads(plain),
        lambda: pickle.loads(text),
        lambda: torch.load(io.BytesIO(new), weights_only=False),
        lambda: torch.load(io.BytesIO(old), weights_only=False),
        lambda: np.load(io.BytesIO(array), allow_pickle=True),
    ):
        load()
        harm.rmdir()


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_in_place_of_weights(tmp_path, harm, number):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickles(harm)[number])
    _, said = answer(lambda: weights.load(path, nn.Linear(2, 2)))
    assert "not a complete safetensors file" in said


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_in_place_of_a_checkpoint(tmp_path, harm, number, caplog):
    (tmp_path / LAST).write_bytes(pickles(harm)[number])
    assert Checkpoints(tmp_path, {"code": "x"}, interval=60).latest() is None
    assert "truncated or damaged" in caplog.text


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_in_place_of_arrays(tmp_path, harm, number):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "images.npy").write_bytes(pickles(harm)[number])
    _, said = answer(lambda: open_split(tmp_path, "test"))
    assert "images.npy: not a readable array" in said


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_in_place_of_the_batches(tmp_path, harm, number):
    folder = tmp_path / "cifar-10-batches-py"
    raw.write_batches(folder)
    for path in folder.iterdir():
        path.write_bytes(pickles(harm)[number])
    settings = {"validation": 10, "split_seed": 0}
    _, said = answer(lambda: cifar10.prepare(settings, tmp_path, tmp_path / "out"))
    assert "not the published CIFAR-10 file" in said


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_in_place_of_a_description_or_a_table(tmp_path, harm, number):
    path = tmp_path / "file"
    path.write_bytes(pickles(harm)[number])
    for read in (read_description, read_table):
        _, said = answer(lambda: read(path))  # noqa: B023
        assert str(path) in said


@examples(60)
@given(place=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=12))
def test_weights_with_overwritten_bytes(tmp_path_factory, place, garbage):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    model = nn.Linear(3, 2)
    weights.save(model, path, {"kernels": "x"})
    content = bytearray(path.read_bytes())
    start = int(place * (len(content) - len(garbage)))
    content[start : start + len(garbage)] = garbage
    path.write_bytes(content)
    _, said = answer(lambda: weights.load(path, nn.Linear(3, 2)))
    if said:
        assert str(path) in said


# Archives


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def write_archive(path: Path, *members) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize(
    "members",
    [
        [member("../harm", content=b"x")],
        [member("a/../../harm", content=b"x")],
        [member("/harm", content=b"x")],
        [member("link", tarfile.SYMTYPE, link="..")],
        [member("link", tarfile.SYMTYPE, link=".."), member("link/harm", content=b"x")],
        [member("link", tarfile.SYMTYPE, link="/etc/passwd")],
        [member("file"), member("link", tarfile.SYMTYPE, link="file")],
        [member("link", tarfile.LNKTYPE, link="../../etc/passwd")],
        [member("device", tarfile.CHRTYPE)],
        [member("device", tarfile.BLKTYPE)],
        [member("fifo", tarfile.FIFOTYPE)],
        [member("a\nb")],
        [member("x" * 300)],
        [member("/".join(["x"] * 2000))],
        [member("folder", tarfile.DIRTYPE), member("folder")],
        [member("file"), member("file/harm")],
    ],
    ids=lambda members: repr(members[-1][0].name[:20]) + members[-1][0].type.decode(),
)
def test_archives_that_are_refused(tmp_path, harm, members, suffix):
    archive = write_archive(tmp_path / f"a{suffix}", *members)
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    _, said = answer(lambda: unpack(archive, folder))
    assert said.startswith(str(archive))
    outside = [path for path in (tmp_path / "outer").rglob("*") if not path.is_relative_to(folder)]
    assert outside == []
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_an_archive_that_holds_a_thousand_times_its_size(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", member("zeros", content=bytes(100 << 20)))
    assert archive.stat().st_size < 1 << 20
    _, said = answer(lambda: unpack(archive, tmp_path / "out"))
    assert "holds far too much data for its size" in said
    assert not (tmp_path / "out").exists()


def test_an_archive_that_claims_more_than_it_holds(tmp_path):
    info, _ = member("large")
    info.size = 1 << 50
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(2048))
    _, said = answer(lambda: unpack(tmp_path / "a.tar", tmp_path / "out"))
    assert "holds far too much data for its size" in said


@examples(80)
@given(
    flips=st.lists(st.tuples(st.integers(0, 2047), st.integers(1, 255)), min_size=1, max_size=5),
    zipped=st.booleans(),
    part=st.floats(0.3, 1),
)
def test_damaged_archives(tmp_path_factory, flips, zipped, part):
    folder = tmp_path_factory.mktemp("archive")
    good = write_archive(folder / "a.tar", member("a/b", content=b"x" * 600), member("a/c"))
    content = gzip.compress(good.read_bytes()) if zipped else good.read_bytes()
    content = bytearray(content[: int(len(content) * part)])
    for place, mask in flips:
        content[place % len(content)] ^= mask
    good.write_bytes(content)
    (folder / "inner").mkdir()
    answer(lambda: unpack(good, folder / "inner"))
    assert sorted(path.name for path in folder.iterdir()) == ["a.tar", "inner"]


# Pictures


def test_a_picture_that_claims_a_hundred_million_pixels_is_not_decoded():
    content = bytearray(raw.picture(0))
    content[16:24] = struct.pack(">II", 10_000, 10_000)  # width and height in a PNG's header
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same, from Pillow
        _, said = answer(lambda: decode(bytes(content), "x.png", (32, 32)))
    assert said == "x.png: is 10000 x 10000 pixels, but must be 32 x 32; replace it"


@examples(60)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM"]),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_damaged_pictures(kind, flips):
    content = bytearray(raw.picture(0, kind))
    for place, mask in flips:
        content[place % len(content)] ^= mask
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on odd headers
        pixels, said = answer(lambda: decode(bytes(content), "x", (32, 32)))
    assert said is not None or (pixels.shape, pixels.dtype) == ((3, 32, 32), np.uint8)


# Names

HOSTILE_NAMES = [
    "$(touch harm)",
    "`touch harm`",
    "a;touch harm",
    "a b",
    "a'b\"c",
    "-rf",
    "ünïcode",
    "a\nb",
    "*",
    "{seed}",
    "a|b&c",
    "x" * 200,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_raw_files_with_hostile_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    raw.write_folders(tmp_path)
    for kind in ("images", "labels"):
        (tmp_path / kind / "brain_00.nii.gz").rename(tmp_path / kind / f"{name}.nii.gz")
    _, said = answer(lambda: nifti.prepare(raw.volume_settings(), tmp_path, tmp_path / "out"))
    assert said is None
    assert not (tmp_path / "harm").exists()
    sources = [
        source
        for split in ("train", "val", "test")
        for source in set(table_of(tmp_path / "out" / split / "samples.parquet"))
    ]
    assert f"images/{name}.nii.gz" in sources


def table_of(path: Path) -> list[str]:
    return samples.read(path)["source"].to_pylist()


@pytest.mark.slow
def test_a_workflow_below_folders_and_files_with_hostile_names(tmp_path):
    workflow = copy_workflow(tmp_path / "a 'b' $(touch harm); `touch harm` & ü")
    data = "raw $(touch harm) 'x' \"y\" {z} *"
    write_volumes(workflow.path(data))
    for kind in ("images", "labels"):
        for subject, name in zip(range(SUBJECTS), HOSTILE_NAMES[:9], strict=False):
            folder = workflow.path(data) / kind
            (folder / f"s{subject:02d}.nii.gz").rename(folder / f"{name}.nii.gz")
    workflow.config = CONFIG | {"data_dir": data, "results_dir": "my $(touch harm) 'results'; x"}
    workflow.run("my $(touch harm) 'results'; x/data/t1/dataset.json")
    assert not list(tmp_path.rglob("harm"))
    assert not (Path.cwd() / "harm").exists()
    assert (workflow.path("my $(touch harm) 'results'; x") / "data/t1/dataset.json").is_file()
