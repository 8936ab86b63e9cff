import os
import re
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.volumes import reading
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

VOXELS = raw.image_voxels(0)


def pair(folder: Path, suffix: str = ".nii.gz") -> Pair:
    return Pair("v", "v", "v", folder / f"image{suffix}", folder / f"label{suffix}")


def written(folder: Path, image=VOXELS, label=None, affine=None, suffix=".nii.gz") -> Pair:
    files = pair(folder, suffix)
    raw.save_volume(files.image, image, affine)
    raw.save_volume(files.label, raw.label_voxels() if label is None else label, affine)
    return files


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz", ".mgh", ".img", ".img.gz", ".hdr"])
def test_every_format(tmp_path, suffix):
    volume = reading.read(written(tmp_path, suffix=suffix), None)
    assert np.array_equal(volume.image, VOXELS)
    assert np.array_equal(volume.label, raw.label_voxels())


def test_every_orientation_becomes_ras(tmp_path):
    plain = nib.Nifti1Image(VOXELS, np.diag([1.0, 2.0, 3.0, 1.0]))
    labels = nib.Nifti1Image(raw.label_voxels(), plain.affine)
    turned = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("PIL")
    )
    files = pair(tmp_path)
    nib.save(plain.as_reoriented(turned), files.image)
    nib.save(labels.as_reoriented(turned), files.label)
    assert nib.aff2axcodes(nib.load(files.image).affine) == ("P", "I", "L")
    volume = reading.read(files, None)
    assert np.array_equal(volume.image, VOXELS)
    assert np.array_equal(volume.label, raw.label_voxels())
    assert volume.spacing == pytest.approx((1, 2, 3))


def test_frames(tmp_path):
    files = written(tmp_path, image=np.stack([VOXELS, 2 * VOXELS], axis=-1))
    assert np.array_equal(reading.read(files, 1).image, 2 * VOXELS)
    with pytest.raises(UserError, match="set `frame`"):
        reading.read(files, None)
    with pytest.raises(UserError, match="frame 2 does not exist; it has 2"):
        reading.read(files, 2)


def test_a_single_frame_need_not_be_chosen(tmp_path):
    files = written(tmp_path, image=VOXELS[..., None])
    assert np.array_equal(reading.read(files, None).image, VOXELS)


def test_labels_stored_as_floats(tmp_path):
    label = raw.label_voxels().astype(np.float32)
    assert reading.read(written(tmp_path, label=label), None).label.dtype.kind == "i"
    label[5, 5, 5] = 0.5
    with pytest.raises(UserError, match=r"label.nii.gz: labels are not integers \(one is 0.5\)"):
        reading.read(written(tmp_path, label=label), None)


@pytest.mark.parametrize("value", [0.99999994, 1.0000001, np.float32(3) * np.float32(1 / 3)])
def test_labels_that_are_integers_up_to_rounding(tmp_path, value):
    label = raw.label_voxels().astype(np.float32) * np.float32(value)
    read = reading.read(written(tmp_path, label=label), None).label
    assert read.dtype == np.int64
    assert np.array_equal(read, raw.label_voxels())


@pytest.mark.parametrize(("value", "factor"), [(1, 3), (-3, 7), (255, 3), (14175, 49), (0, 5)])
def test_labels_that_a_slope_makes_integers(tmp_path, value, factor):
    files = written(tmp_path)
    stored = np.full(raw.SHAPE, value * factor, np.int32)
    stored[0, 0, 0] = 0
    volume = nib.Nifti1Image(stored, np.eye(4), dtype=np.int32)
    volume.header.set_slope_inter(1 / factor, 0)
    nib.save(volume, tmp_path / "scaled.nii")  # nibabel keeps no slope that the voxels do not need
    content = bytearray((tmp_path / "scaled.nii").read_bytes())
    struct.pack_into("<2f", content, 112, 1 / factor, 0)  # scl_slope and scl_inter
    (tmp_path / "scaled.nii").write_bytes(content)
    with_slope = replace(files, label=tmp_path / "scaled.nii")
    assert set(np.unique(reading.read(with_slope, None).label)) == {0, value}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.float32(0.99999), "0.99999"),
        (np.float32(0.999999), "0.999999"),
        (np.float64(1.0000010001), "1.0000010001"),
        (np.float64(1e6 + 0.25), r"1.00000025e\+06"),
        (np.float32(1e-6), "1e-06"),
    ],
)
def test_labels_that_are_nearly_integers_are_shown_with_all_digits(tmp_path, value, shown):
    label = raw.label_voxels().astype(value.dtype)
    label[0, 0, 0] = value
    with pytest.raises(UserError, match=rf"labels are not integers \(one is {shown}\)"):
        reading.read(written(tmp_path, label=label), None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, bad):
    image = VOXELS.copy()
    image[0, 0, :2] = bad
    files = written(tmp_path, image=image)
    with pytest.raises(UserError, match=r"image.nii.gz: 2 voxel\(s\) are NaN or .*`fill: 0`"):
        reading.read(files, None)
    volume = reading.read(files, None, fill=-7)
    assert np.array_equal(volume.image, np.where(np.isfinite(image), VOXELS, -7))
    assert volume.filled == 2
    assert reading.read(written(tmp_path), None, fill=0).filled == 0


def test_filling_needs_no_voxel_and_changes_none(tmp_path):
    for dtype in (np.int16, np.float64):
        files = written(tmp_path, image=np.rint(VOXELS).astype(dtype), suffix=".nii")
        before = files.image.read_bytes()
        assert np.array_equal(reading.read(files, None, fill=0).image, np.rint(VOXELS))
        assert files.image.read_bytes() == before


def test_fill_is_for_images(tmp_path):
    label = raw.label_voxels().astype(np.float32)
    label[0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"label.nii.gz: 1 voxel\(s\) are NaN .* integer label"):
        reading.read(written(tmp_path, label=label), None, fill=0)


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e39, -1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fill_itself_must_be_finite(tmp_path, fill, dtype):
    image = VOXELS.astype(dtype)
    image[0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"^fill: .* is not a finite float32 number; set it to"):
        reading.read(written(tmp_path, image=image), None, fill=fill)


@pytest.mark.parametrize("tolerance", [np.inf, np.nan])
def test_a_tolerance_must_be_finite(tmp_path, tolerance):
    with pytest.raises(UserError, match=r"^affine_tolerance: (inf|nan) is not a finite number; wr"):
        reading.read(written(tmp_path), None, affine_tolerance=tolerance)


def test_shapes_differ(tmp_path):
    with pytest.raises(UserError, match=r"label.nii.gz: shape .* differs from that of its image"):
        reading.read(written(tmp_path, label=raw.label_voxels()[1:]), None)


def test_affines_differ(tmp_path):
    files = written(tmp_path)
    raw.save_volume(files.label, raw.label_voxels(), np.diag([1.0, 1.0, 1.1, 1.0]))
    # 10 slices: the last one is 9 x 0.1 mm away
    with pytest.raises(UserError, match=r"label.nii.gz: its affine differs .* by 0.9 mm.*`affine_"):
        reading.read(files, None)
    with pytest.raises(UserError, match=r"by 0.9 mm"):
        reading.read(files, None, affine_tolerance=0.89)
    volume = reading.read(files, None, affine_tolerance=0.91)
    assert volume.spacing == (1, 1, 1)
    assert np.array_equal(volume.label, raw.label_voxels())


@settings(max_examples=40)
@given(st.floats(2e-3, 0.9) | st.sampled_from([0.3, 0.12345, 0.30004]))
def test_the_distance_shown_is_a_tolerance_that_suffices(tmp_path_factory, shift):
    files = written(tmp_path_factory.mktemp("shifted"))
    affine = np.eye(4)
    affine[0, 3] = shift
    raw.save_volume(files.label, raw.label_voxels(), affine)
    with pytest.raises(UserError, match="set `affine_tolerance: ") as caught:
        reading.read(files, None)
    shown = re.search("`affine_tolerance: (.*?)`", str(caught.value))[1]
    tolerance = yaml.safe_load(shown)
    assert shift * (1 - 2e-6) <= tolerance <= shift * 1.011
    assert shift != 0.3 or shown == "0.3"
    reading.read(files, None, affine_tolerance=tolerance)


def test_no_tolerance_is_offered_for_a_voxel_or_more(tmp_path):
    files = written(tmp_path)
    affine = np.eye(4)
    affine[1, 3] = 1.5
    raw.save_volume(files.label, raw.label_voxels(), affine)
    with pytest.raises(UserError, match=r"by 1\.5 mm; resample the label onto the image$"):
        reading.read(files, None)
    reading.read(files, None, affine_tolerance=2.0)


@pytest.mark.parametrize(
    ("axes", "angle"),
    [
        (np.diag([-1, 1, 1]), 180),
        (np.eye(3)[[1, 0, 2]], 90),
        (np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]), 53),
    ],
)
def test_no_tolerance_allows_another_orientation(tmp_path, axes, angle):
    affine = np.eye(4)
    affine[:3, :3] = axes
    files = written(tmp_path)
    raw.save_volume(files.label, raw.label_voxels(), affine)
    for tolerance in (None, 50.0):
        with pytest.raises(UserError, match="an axis of it points") as caught:
            reading.read(files, None, affine_tolerance=tolerance)
        assert f"label.nii.gz: an axis of it points {angle} degrees" in str(caught.value)
        assert "affine_tolerance" not in str(caught.value)


def test_a_small_rotation_is_within_a_tolerance(tmp_path):
    files = written(tmp_path)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]]
    raw.save_volume(files.label, raw.label_voxels(), affine)
    reading.read(files, None, affine_tolerance=0.3)


def test_nibabel_prints_nothing_without_the_name_of_a_file(tmp_path, caplog):
    files = written(tmp_path, suffix=".nii")
    for path in (files.image, files.label):
        content = bytearray(path.read_bytes())
        struct.pack_into("<i", content, 0, 347)  # sizeof_hdr
        struct.pack_into("<3f", content, 80, -1, 1, 1)  # pixdim
        path.write_bytes(content)
    assert np.array_equal(reading.read(files, None).image, VOXELS)
    assert caplog.text == ""


def test_affines_that_rounding_makes_differ(tmp_path):
    files = written(tmp_path)
    affine = np.eye(4) + 9e-4
    affine[3] = 0, 0, 0, 1
    raw.save_volume(files.label, raw.label_voxels(), affine)
    reading.read(files, None)
    assert reading.read(files, None, affine_tolerance=0.0).spacing == (1, 1, 1)


def test_rounding_is_less_than_a_small_voxel(tmp_path):
    files = pair(tmp_path, ".nii")
    for path, voxels, micron in ((files.image, VOXELS, 0.5), (files.label, raw.label_voxels(), 1)):
        volume = nib.Nifti1Image(voxels, np.diag([micron, micron, micron, 1]))
        volume.header.set_xyzt_units("micron")
        nib.save(volume, path)
    with pytest.raises(UserError, match=r"label.nii: its affine differs"):
        reading.read(files, None)


def test_an_affine_without_inverse(tmp_path):
    files = written(tmp_path, suffix=".nii")
    content = bytearray(files.image.read_bytes())
    content[312:328] = bytes(16)  # srow_z, the affine's third row, in a NIfTI-1 header
    files.image.write_bytes(content)
    with pytest.raises(UserError, match=r"image.nii: its affine is not invertible"):
        reading.read(files, None)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([".nii.gz", ".nii", ".mgz"]), st.floats(0, 0.99), st.booleans())
def test_a_truncated_file(tmp_path_factory, suffix, part, image):
    files = written(tmp_path_factory.mktemp("truncated"), suffix=suffix)
    path = files.image if image else files.label
    content = path.read_bytes()
    # mgz ends in optional scan parameters, gzip in a checksum: neither holds voxels.
    path.write_bytes(content[: int((len(content) - 100) * part)])
    with pytest.raises(UserError, match=r"damaged|affine") as caught:
        reading.read(files, None)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_file_with_the_name_of_a_volume(tmp_path):
    files = written(tmp_path)
    files.image.write_text("<html>404 not found</html>")
    with pytest.raises(UserError, match=r"image.nii.gz: damaged or not a volume"):
        reading.read(files, None)


def test_a_folder_instead_of_a_volume(tmp_path):
    files = written(tmp_path, suffix=".nii")
    files.label.unlink()
    files.label.mkdir()
    with pytest.raises(UserError, match=r"label.nii: "):
        reading.read(files, None)


def test_no_permission():
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter tmp_path
        folder = Path(name)
        folder.chmod(0o755)
        files = written(folder)
        files.image.chmod(0)
        powerful = os.geteuid() == 0
        if powerful:
            os.seteuid(65534)  # nobody
        try:
            with pytest.raises(UserError, match=r"image.nii.gz: cannot be read \(Permission"):
                reading.read(files, None)
        finally:
            if powerful:
                os.seteuid(0)
