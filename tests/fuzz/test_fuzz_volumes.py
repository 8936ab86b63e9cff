"""Damaged and hostile volumes are read, or refused with a one-line message, in little memory."""

import gzip
import io
import struct
import tracemalloc
import warnings

import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw
from fuzzing import answer, examples
from hypothesis import assume, given
from hypothesis import strategies as st

from nontrivial.data.manifest import source_files
from nontrivial.data.sources import nifti
from nontrivial.data.volumes import intensity, reading
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError
from prepare_dataset import prepare_dataset

MIB = 1 << 20
MOST_MEMORY = 64 * MIB  # to read files of a few kilobytes


def serialized(voxels: np.ndarray, kind: type = nib.Nifti1Image) -> bytes:
    named = {} if kind is nib.MGHImage else {"dtype": voxels.dtype}
    return kind(voxels, np.eye(4), **named).to_bytes()


IMAGE = raw.image_voxels(0)
LABEL = raw.label_voxels()
NIFTI1 = {"image": serialized(IMAGE), "label": serialized(LABEL)}
NIFTI2 = {
    "image": serialized(IMAGE, nib.Nifti2Image),
    "label": serialized(LABEL, nib.Nifti2Image),
}
MGH = {"image": serialized(IMAGE, nib.MGHImage), "label": serialized(LABEL, nib.MGHImage)}

# Offset and type of each NIfTI-1 header field that affects how the file is read.
FIELDS = {
    "sizeof_hdr": (0, "i"),
    **{f"dim[{i}]": (40 + 2 * i, "h") for i in range(8)},
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    **{f"pixdim[{i}]": (76 + 4 * i, "f") for i in range(8)},
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    **{f"quatern[{i}]": (256 + 4 * i, "f") for i in range(6)},
    **{f"srow[{i}]": (280 + 4 * i, "f") for i in range(12)},
    "magic": (344, "i"),
    "extension": (348, "B"),
    "esize": (352, "i"),
}
NUMBERS = {
    "h": st.sampled_from([-32768, -1, 0, 1, 2, 5, 7, 10, 12, 32767]) | st.integers(-32768, 32767),
    "f": st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-38, 3e38, 348.0, 2.0**31])
    | st.floats(width=32),
    "i": st.sampled_from([-(2**31), -1, 0, 8, 16, 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1),
    "B": st.integers(0, 255),
}
field_changes = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.tuples(st.just(name), NUMBERS[FIELDS[name][1]])
)


def changed(content: bytes, changes: list) -> bytes:
    content = bytearray(content)
    for name, value in changes:
        place, kind = FIELDS[name]
        struct.pack_into(f"<{kind}", content, place, value)
    return bytes(content)


def read(folder, files: dict[str, bytes], suffix: str, frame: int | None = None):
    """Write two files, read them as the workflow does, and return the volume or the message."""
    paths = {}
    for name, content in files.items():
        paths[name] = folder / f"{name}{suffix}"
        zipped = suffix in (".nii.gz", ".mgz") and not content.startswith(b"\x1f\x8b")
        paths[name].write_bytes(gzip.compress(content, 1) if zipped else content)
    pair = Pair("v", "v", "v", paths["image"], paths["label"])

    def read_and_map():
        volume = reading.read(pair, frame)
        LabelMap({"other": 0, "1": 1}, ["background", "tissue"]).apply(volume.label, pair.label)
        return volume

    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from nibabel, on odd headers
            volume, message = answer(read_and_map)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    if message:
        assert str(folder) in message
        return message
    assert volume.image.shape == volume.label.shape
    assert volume.image.dtype == np.float32
    assert volume.label.dtype.kind in "iu"
    assert np.isfinite(volume.image).all()
    assert all(np.isfinite(side) and side > 0 for side in volume.spacing)
    return volume


@examples(150)
@given(
    which=st.sampled_from(["image", "label"]),
    changes=st.lists(field_changes, min_size=1, max_size=4),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    frame=st.sampled_from([None, 0, 1]),
)
def test_header_fields_with_absurd_values(tmp_path_factory, which, changes, suffix, frame):
    files = NIFTI1 | {which: changed(NIFTI1[which], changes)}
    read(tmp_path_factory.mktemp("header"), files, suffix, frame)


@examples(100)
@given(
    original=st.sampled_from([(NIFTI1, ".nii"), (NIFTI2, ".nii.gz"), (MGH, ".mgz")]),
    which=st.sampled_from(["image", "label"]),
    flips=st.lists(st.tuples(st.integers(0, 560), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_flipped_bytes(tmp_path_factory, original, which, flips):
    files, suffix = original
    content = bytearray(files[which])
    for place, mask in flips:
        content[place] ^= mask
    read(tmp_path_factory.mktemp("flipped"), files | {which: bytes(content)}, suffix)


@examples(40)
@given(which=st.sampled_from(["image", "label"]), part=st.floats(0, 1), tail=st.binary(max_size=99))
def test_a_truncated_compressed_file_with_trailing_garbage(tmp_path_factory, which, part, tail):
    whole = gzip.compress(NIFTI1[which])
    content = whole[: int(len(whole) * part)] + tail
    assume(content.startswith(b"\x1f\x8b"))
    result = read(tmp_path_factory.mktemp("cut"), NIFTI1 | {which: content}, ".nii.gz")
    if not isinstance(result, str):  # only the checksum, or garbage after it, was cut
        assert np.array_equal(result.image, IMAGE)
        assert np.array_equal(result.label, LABEL)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dimensions", [3, 4, 7])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, suffix, dimensions):
    sides = [(f"dim[{i}]", 32767) for i in range(1, dimensions + 1)]
    claims = changed(NIFTI1["image"], [("dim[0]", dimensions), *sides])
    message = read(tmp_path, {"image": claims, "label": claims}, suffix, frame=0)
    assert "its header claims" in message


@pytest.mark.parametrize("esize", [0, -8, -(2**31), 2**31 - 16])
def test_an_extension_with_a_false_length_does_not_unpack_a_bomb(tmp_path, esize):
    # 100 MiB of zeros follow the header; they compress to 100 KiB.
    head = changed(NIFTI1["image"][:352], [("extension", 1), ("vox_offset", 384.0)])
    content = head + struct.pack("<ii", esize, 6) + bytes(24) + IMAGE.tobytes("F")
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        file.write(content)
        for _ in range(100):
            file.write(bytes(MIB))
    assert len(packed.getvalue()) < MIB
    volume = read(tmp_path, NIFTI1 | {"image": packed.getvalue()}, ".nii.gz")
    assert np.array_equal(
        volume.image, IMAGE
    )  # the voxels that the header claims, nothing after them


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.zeros((*raw.SHAPE, 2, 2), np.float32), "more than one axis of frames"),
        (IMAGE.astype(np.complex64), "dtype complex64"),
        (np.zeros(raw.SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "must be real numbers"),
        (IMAGE.astype(np.float64) * 1e300, "1680 voxel(s) are NaN or infinite as float32"),
    ],
)
def test_unsupported_voxels_are_refused(tmp_path, voxels, message):
    assert message in read(tmp_path, NIFTI1 | {"image": serialized(voxels)}, ".nii")


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (0.5, np.float32, "labels are not integers"),
        (1e30, np.float64, "too large"),
        (-(2.0**63), np.float64, "too large"),
        (2**64 - 1, np.uint64, None),
        (-3, np.int16, None),
    ],
)
def test_labels_are_exact_or_refused(tmp_path, value, dtype, message):
    label = LABEL.astype(dtype)
    label[0, 0, 0] = value
    result = read(tmp_path, NIFTI1 | {"label": serialized(label)}, ".nii")
    if message:
        assert message in result
    else:
        assert int(result.label[0, 0, 0]) == value


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_intensities_too_far_apart_to_normalize(method):
    image = IMAGE * np.float32(1e36)
    image[::2] *= -1
    with pytest.raises(UserError, match="v: the range of its intensities exceeds float32"):
        intensity.normalize(image * 2, method, "v")


@pytest.mark.parametrize("millimetres", [1e6, 1e38])
def test_absurdly_large_voxels_are_not_resampled(tmp_path, millimetres):
    names = raw.write_folders(tmp_path)
    for kind, voxels in (("images", IMAGE), ("labels", LABEL)):
        affine = np.diag([millimetres, millimetres, millimetres, 1])
        raw.save_volume(tmp_path / kind / names[0], voxels, affine)
    with pytest.raises(UserError, match=r"brain_00.nii.gz: its voxels .* repair the") as caught:
        nifti.prepare(raw.volume_settings(spacing=1.0), tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@examples(15)
@given(changes=st.lists(field_changes, min_size=1, max_size=3))
def test_a_damaged_volume_leaves_no_partial_data_set(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("prepared")
    names = raw.write_folders(folder, suffix=".nii")
    (folder / "images" / names[0]).write_bytes(changed(NIFTI1["image"], changes))
    out = folder / "out"
    settings = raw.volume_settings(spacing=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, message = answer(lambda: prepare_dataset("mine", settings, folder, out))
    if message:
        assert message.startswith("data set mine: ")
        assert not [path for path in out.rglob("*") if path.is_file()]
        return
    for split in ("train", "val", "test"):
        assert np.isfinite(np.load(out / split / "images.npy")).all()


cells = st.sampled_from(
    [
        "a",
        "",
        "images/brain_00.nii.gz",
        "labels/brain_00.nii.gz",
        "../x.nii",
        "/dev/zero",
        "a\x00b.nii",
        "train",
        "val",
        "x" * 300 + ".nii",
        '"',
        "a\tb",
        "ü",
        "$(touch harm)",
        "x" * 200_000,
    ]
)


@examples(60)
@given(
    header=st.permutations(["subject", "image", "label", "split"]).flatmap(
        lambda names: st.sampled_from([names, names[:3], [*names, names[0]], ["\ufeff" + names[0]]])
    ),
    rows=st.lists(st.lists(cells, max_size=5), max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_tables_of_volumes(tmp_path_factory, header, rows, end):
    folder = tmp_path_factory.mktemp("table")
    raw.write_folders(folder, 1)
    table = folder / "t.tsv"
    table.write_text(end.join("\t".join(row) for row in [header, *rows]), newline="")
    settings = raw.volume_settings(images=None, labels=None, table="t.tsv")
    answer(lambda: source_files(settings, folder))
    pairs, message = answer(lambda: nifti.find_pairs(settings, folder))
    if message:
        assert str(table) in message
        return
    assert len({pair.image for pair in pairs}) == len(pairs)
    assert all(pair.image.is_file() and pair.label.is_file() for pair in pairs)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"training": ' + "[" * 100_000,
        '{"training": [1]}',
        '{"training": [{"image": 1, "label": 2}]}',
        '{"training": {}}',
        '{"training": [{"image": "a\\u0000.nii", "label": "b.nii"}]}',
        '{"training": [{"image": "a\\nb.txt", "label": "b.nii"}]}',
        "\ufeff{}",
        "NaN",
    ],
)
def test_indices_of_a_decathlon_folder(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    settings = raw.volume_settings(images=None, labels=None, decathlon=".")
    source_files(settings, tmp_path)
    _, message = answer(lambda: nifti.find_pairs(settings, tmp_path))
    assert "dataset.json" in message
