import gzip
from pathlib import Path

import numpy as np
import pytest
import raw_examples as raw
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.volumes import gzip_streams, reading
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

HEADER_BITS = 80  # of gzip: magic number, method, flags, time, system
LAST_BITS = 64  # checksum and length


def written(folder: Path, level: int, suffix: str = ".nii.gz") -> Pair:
    files = Pair("v", "v", "v", folder / f"image{suffix}", folder / f"label{suffix}")
    for path, voxels in ((files.image, raw.image_voxels(0)), (files.label, raw.label_voxels())):
        raw.save_volume(path, voxels)
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), level, mtime=0))
    return files


def flipped(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_flipped_bit_is_refused(tmp_path, suffix, level, kind):
    files = written(tmp_path, level, suffix)
    path = getattr(files, kind)
    whole = path.read_bytes()
    size = 8 * len(whole)
    inside = np.random.default_rng(level).choice(np.arange(HEADER_BITS, size), 50, replace=False)
    for bit in map(int, [*range(HEADER_BITS), *inside, *range(size - LAST_BITS, size)]):
        flipped(path, bit)
        try:
            volume = reading.read(files, None)
        except UserError as error:
            assert path.name in str(error)  # noqa: PT017
        else:  # in the flags, the time or the system; or a code of deflate that is not used
            assert 24 <= bit < HEADER_BITS or level
            assert np.array_equal(volume.image, raw.image_voxels(0))
            assert np.array_equal(volume.label, raw.label_voxels())
        path.write_bytes(whole)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), level=st.sampled_from([0, 1, 9]))
def test_any_flipped_bits_are_refused_or_change_no_voxel(tmp_path_factory, data, level):
    files = written(tmp_path_factory.mktemp("flips"), level)
    whole = files.image.read_bytes()
    for bit in data.draw(st.lists(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=3)):
        flipped(files.image, bit)
    try:
        volume = reading.read(files, None)
    except UserError as error:
        assert files.image.name in str(error)  # noqa: PT017
        return
    assert np.array_equal(volume.image, raw.image_voxels(0))


def test_a_flip_in_a_voxel_says_what_to_do(tmp_path):
    files = written(tmp_path, level=0)
    flipped(files.label, 8 * 1000)
    with pytest.raises(UserError) as caught:
        reading.read(files, None)
    assert str(caught.value) == (
        f"{files.label}: is damaged: its gzip checksum does not match. Copy or download it again."
    )


def test_a_flip_in_the_header_is_not_reported_as_a_wrong_header(tmp_path):
    files = written(tmp_path, level=0)
    place = files.label.read_bytes().index(gzip.decompress(files.label.read_bytes())[:348])
    flipped(files.label, 8 * (place + 42))  # the volume's first side
    with pytest.raises(UserError, match=r"label.nii.gz: is damaged: its gzip checksum"):
        reading.read(files, None)


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 500])
def test_a_truncated_stream(tmp_path, cut):
    files = written(tmp_path, level=6)
    files.image.write_bytes(files.image.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"image.nii.gz: is damaged: its gzip stream has no end"):
        reading.read(files, None)


@pytest.mark.parametrize("tail", [b"x", b"<html>", b"\x00\x00x", b"\x1f"])
def test_bytes_after_the_stream(tmp_path, tail):
    files = written(tmp_path, level=6)
    files.image.write_bytes(files.image.read_bytes() + tail)
    with pytest.raises(UserError, match=r"image.nii.gz: is damaged: other bytes follow"):
        reading.read(files, None)


@pytest.mark.parametrize("parts", [2, 5])
def test_several_members_and_padding_are_valid(tmp_path, parts):
    files = written(tmp_path, level=6)
    content = np.array_split(np.frombuffer(gzip.decompress(files.image.read_bytes()), "u1"), parts)
    members = [gzip.compress(part.tobytes()) for part in content]
    files.image.write_bytes(b"".join(members) + bytes(512))
    assert np.array_equal(reading.read(files, None).image, raw.image_voxels(0))
    flipped(files.image, 8 * (len(members[0]) - 6))  # in the first member's checksum
    with pytest.raises(UserError, match="its gzip checksum does not match"):
        reading.read(files, None)


def test_a_frame_is_covered_by_the_checksum_of_all_frames(tmp_path):
    files = written(tmp_path, level=0)
    raw.save_volume(files.image, np.stack([raw.image_voxels(s) for s in range(3)], axis=-1))
    content = gzip.decompress(files.image.read_bytes())
    files.image.write_bytes(gzip.compress(content, 0))
    assert np.array_equal(reading.read(files, 0).image, raw.image_voxels(0))
    flipped(files.image, 8 * (len(content) - 100))  # in the last frame
    with pytest.raises(UserError, match="its gzip checksum does not match"):
        reading.read(files, 0)


def test_each_half_of_a_pair_is_checked(tmp_path):
    files = written(tmp_path, 0, ".nii.gz")
    halves = tmp_path / "image.hdr.gz", tmp_path / "image.img.gz"
    raw.save_volume(halves[1], raw.image_voxels(0))
    files = Pair("v", "v", "v", halves[1], files.label)
    for half in halves:
        whole = gzip.compress(gzip.decompress(half.read_bytes()), 0)
        half.write_bytes(whole)
        reading.read(files, None)
        flipped(half, 8 * 110)  # the header's fields there are not read
        with pytest.raises(UserError, match=rf"{half.name}: is damaged: its gzip checksum"):
            reading.read(files, None)
        half.write_bytes(whole)


def test_the_stream_is_decompressed_once(tmp_path, monkeypatch):
    files = written(tmp_path, 6, ".mgz")
    size = len(gzip.decompress(files.image.read_bytes()))
    produced = []
    read = gzip._GzipReader.read
    monkeypatch.setattr(
        gzip._GzipReader, "read", lambda self, n=-1: produced.append(b := read(self, n)) or b
    )
    reading.read(files, None)
    assert sum(len(part) for part in produced) < 1.5 * 2 * size  # image (float32) and label (uint8)


def test_files_without_a_checksum_are_left_alone(tmp_path):
    path = tmp_path / "v.nii"
    raw.save_volume(path, raw.image_voxels(0))
    with gzip_streams.opened(path) as stream:
        gzip_streams.read_to_end(stream, path)
        assert stream.tell() == 0
    gzip_streams.check(path)
    gzip_streams.check(tmp_path / "absent.nii.gz")
