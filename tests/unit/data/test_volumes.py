import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw
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


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz"])
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, bad):
    image = VOXELS.copy()
    image[0, 0, :2] = bad
    with pytest.raises(UserError, match=r"image.nii.gz: 2 voxel\(s\) are NaN or infinite"):
        reading.read(written(tmp_path, image=image), None)


def test_shapes_differ(tmp_path):
    with pytest.raises(UserError, match=r"label.nii.gz: shape .* differs from that of its image"):
        reading.read(written(tmp_path, label=raw.label_voxels()[1:]), None)


def test_affines_differ(tmp_path):
    files = written(tmp_path)
    raw.save_volume(files.label, raw.label_voxels(), np.diag([1.0, 1.0, 1.1, 1.0]))
    with pytest.raises(UserError, match=r"label.nii.gz: its affine differs from that of its image"):
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
    with pytest.raises(UserError, match=r"damaged or not a volume|affine") as caught:
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
