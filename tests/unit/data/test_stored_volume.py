import itertools
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw
from nibabel.spm2analyze import Spm2AnalyzeImage

from nontrivial.data.volumes import reading
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

VOXELS, LABEL = raw.image_voxels(0), raw.label_voxels()
PIXDIM, UNITS, CODES = 76, 123, 252  # offsets in a NIfTI-1 header


def pair(folder: Path, suffix: str = ".nii") -> Pair:
    return Pair("v", "v", "v", folder / f"image{suffix}", folder / f"label{suffix}")


def in_units(folder: Path, unit: str, sizes: tuple[float, float, float]) -> Pair:
    files = pair(folder)
    for path, voxels in ((files.image, VOXELS), (files.label, LABEL)):
        volume = nib.Nifti1Image(voxels, np.diag([*sizes, 1.0]))
        volume.header.set_xyzt_units(unit)
        nib.save(volume, path)
    return files


def patched(path: Path, place: int, kind: str, *values: float) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{kind}", content, place, *values)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("unit", "sizes", "spacing"),
    [
        ("meter", (0.001, 0.002, 0.0005), (1, 2, 0.5)),
        ("meter", (0.0001, 0.0001, 0.00002), (0.1, 0.1, 0.02)),
        ("micron", (1000, 2000, 500), (1, 2, 0.5)),
        ("micron", (0.02, 0.02, 0.05), (0.00002, 0.00002, 0.00005)),
        ("micron", (0.5, 0.5, 2), (0.0005, 0.0005, 0.002)),
        ("mm", (1, 2, 0.5), (1, 2, 0.5)),
        ("mm", (0.001, 0.001, 0.001), (0.001, 0.001, 0.001)),
        ("unknown", (1, 2, 0.5), (1, 2, 0.5)),
        ("unknown", (0.02, 0.02, 99), (0.02, 0.02, 99)),
    ],
)
def test_lengths_are_in_mm(tmp_path, unit, sizes, spacing):
    volume = reading.read(in_units(tmp_path, unit, sizes), None)
    assert volume.spacing == pytest.approx(spacing, rel=1e-6)
    assert np.array_equal(volume.image, VOXELS)
    assert volume.converted == {"meter": "metres", "micron": "microns"}.get(unit)


@pytest.mark.parametrize(
    ("unit", "sizes", "problem"),
    [
        ("meter", (1, 1, 1), r"voxels are 1000 x 1000 x 1000 mm \(unit in its header: metres\)"),
        ("mm", (1, 1, 101), r"voxels are 1 x 1 x 101 mm \(unit in its header: mm\)"),
        ("micron", (1e6, 1, 1), r"voxels are 1000 x 0.001 x 0.001 mm .*: microns\)"),
        ("unknown", (500, 500, 500), r"500 x 500 x 500 mm \(unit in its header: none, so mm\)"),
        ("unknown", (0.001, 0.001, 0.001), "gives no unit, and voxels of 0.001 x .* xyzt_units"),
    ],
)
def test_implausible_lengths_are_refused(tmp_path, unit, sizes, problem):
    with pytest.raises(UserError, match=rf"image.nii: its .*{problem}"):
        reading.read(in_units(tmp_path, unit, sizes), None)


def test_an_image_and_a_label_in_different_units_are_compared_in_mm(tmp_path):
    files = in_units(tmp_path, "meter", (0.001, 0.001, 0.001))
    metres = files.image.read_bytes()
    in_units(tmp_path, "mm", (1, 1, 1))
    files.image.write_bytes(metres)
    assert reading.read(files, None).spacing == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, np.nan, 1)])
def test_a_header_without_voxel_sizes(tmp_path, sizes):
    files = in_units(tmp_path, "mm", (1, 1, 1))
    for path in (files.image, files.label):
        patched(path, PIXDIM + 4, "3f", *sizes)
        assert nib.load(path).affine[2, 2] == 1  # the sform has the voxel sizes
    assert reading.read(files, None).spacing == (1, 1, 1)
    for codes in ((1, 0), (0, 0)):
        for path in (files.image, files.label):
            patched(path, CODES, "2h", *codes)
        with pytest.raises(UserError, match=r"image.nii: its header gives no voxel size \(pixdim"):
            reading.read(files, None)


def test_negative_voxel_sizes_mean_their_magnitude(tmp_path):
    files = in_units(tmp_path, "mm", (1, 2, 3))
    for path in (files.image, files.label):
        patched(path, CODES, "2h", 0, 0)
        patched(path, PIXDIM + 4, "3f", -1, -2, -3)
    assert reading.read(files, None).spacing == (1, 2, 3)


@pytest.mark.parametrize(
    ("codes", "oriented"), [((1, 1), True), ((0, 1), True), ((1, 0), True), ((0, 0), False)]
)
def test_whether_the_orientation_is_stated(tmp_path, codes, oriented):
    files = in_units(tmp_path, "mm", (1, 1, 1))
    for path in (files.image, files.label):
        patched(path, CODES, "2h", *codes)
    assert reading.read(files, None).oriented == oriented


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_that_means_no_scaling(tmp_path, slope):
    files = in_units(tmp_path, "mm", (1, 1, 1))
    patched(files.image, 112, "f", slope)  # scl_slope
    assert np.array_equal(reading.read(files, None).image, VOXELS)


def test_an_intercept_that_is_not_finite(tmp_path):
    files = in_units(tmp_path, "mm", (1, 1, 1))
    patched(files.image, 112, "2f", 1, np.nan)
    with pytest.raises(UserError, match=r"image.nii: damaged or not a volume .*invalid intercept"):
        reading.read(files, None)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_big_endian_volumes(tmp_path, dtype):
    files = pair(tmp_path)
    for path, voxels in ((files.image, np.rint(VOXELS)), (files.label, LABEL)):
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(dtype)
        nib.save(nib.Nifti1Image(voxels.astype(dtype), np.diag([1, 2, 3, 1]), header), path)
        assert nib.load(path).header.endianness == ">"
    volume = reading.read(files, None)
    assert volume.spacing == (1, 2, 3)
    assert np.array_equal(volume.image, np.rint(VOXELS))
    assert np.array_equal(volume.label, LABEL)


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("which", ["image", "label", "both"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_trailing_axes_of_length_one(tmp_path, extra, which, suffix):
    files = pair(tmp_path, suffix)
    for name, voxels in (("image", VOXELS), ("label", LABEL)):
        shape = raw.SHAPE + (extra if which in (name, "both") else ())
        raw.save_volume(getattr(files, name), voxels.reshape(shape))
    for frame in (None, 0):
        volume = reading.read(files, frame)
        assert np.array_equal(volume.image, VOXELS)
        assert np.array_equal(volume.label, LABEL)


@pytest.mark.parametrize("extra", [(3,), (1, 3), (3, 1)])
@pytest.mark.parametrize("label_extra", [(), (1,), (1, 1), (3,)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_frame_of_a_volume_with_axes_of_length_one(tmp_path, extra, label_extra, suffix):
    files = pair(tmp_path, suffix)
    frames = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=-1)
    raw.save_volume(files.image, frames.reshape(*raw.SHAPE, *extra))
    labels = LABEL[..., None] * np.array([0, 1, 0], np.uint8) if label_extra == (3,) else LABEL
    raw.save_volume(files.label, labels.reshape(*raw.SHAPE, *label_extra))
    volume = reading.read(files, 1)
    assert np.array_equal(volume.image, VOXELS + 1)
    assert np.array_equal(volume.label, LABEL)


ENDS = ["", ".gz"]


@pytest.mark.parametrize(("header", "voxels"), list(itertools.product(ENDS, ENDS)))
@pytest.mark.parametrize("named", ["hdr", "img"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair, Spm2AnalyzeImage])
def test_pairs(tmp_path, header, voxels, named, kind):
    files = {}
    for name, values in (("image", VOXELS), ("label", LABEL)):
        for ending in {header, voxels}:
            nib.save(kind(values, np.diag([-1.0, 2, 3, 1])), tmp_path / f"{name}.img{ending}")
        (tmp_path / f"{name}.mat").unlink(missing_ok=True)  # beside Analyze
        for half, end in (("hdr", header), ("img", voxels)):
            other = "" if end else ".gz"
            (tmp_path / f"{name}.{half}{other}").unlink(missing_ok=True)
        files[name] = tmp_path / f"{name}.{named}{header if named == 'hdr' else voxels}"
        assert files[name].is_file()
    volume = reading.read(Pair("v", "v", "v", files["image"], files["label"]), None)
    assert volume.spacing == (1, 2, 3)
    assert np.array_equal(volume.image, VOXELS[::-1])
    assert np.array_equal(volume.label, LABEL[::-1])
    assert volume.oriented == (kind is not Spm2AnalyzeImage)


@pytest.mark.parametrize(("named", "missing"), [(".img", "hdr"), (".hdr", "img")])
def test_half_a_pair(tmp_path, named, missing):
    files = pair(tmp_path, named)
    for path, voxels in ((files.image, VOXELS), (files.label, LABEL)):
        raw.save_volume(path, voxels)
    gone = tmp_path / f"label.{missing}"
    gone.unlink()
    with pytest.raises(UserError, match=f"{gone}: does not exist, but label{named} needs it"):
        reading.read(files, None)


def test_an_affine_outside_of_an_analyze_header_is_refused(tmp_path):
    files = pair(tmp_path, ".img")
    for path, voxels in ((files.image, VOXELS), (files.label, LABEL)):
        nib.save(Spm2AnalyzeImage(voxels, np.eye(4)), path)
    assert (tmp_path / "image.mat").is_file()
    with pytest.raises(UserError, match=r"image.mat: the affine in it is not read; convert"):
        reading.read(files, None)


def test_an_mgh_volume_without_geometry(tmp_path):
    files = pair(tmp_path, ".mgh")
    for path, voxels in ((files.image, VOXELS), (files.label, LABEL)):
        raw.save_volume(path, voxels)
    assert reading.read(files, None).oriented
    for path in (files.image, files.label):
        content = bytearray(path.read_bytes())
        content[28:30] = bytes(2)  # goodRASFlag
        path.write_bytes(content)
    assert not reading.read(files, None).oriented
