"""Reading an image volume and its label volume (NIfTI, MGH), checked, in canonical orientation."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from nontrivial.data.pairs import Pair
from nontrivial.errors import UserError

AFFINE_TOLERANCE = 1e-3  # mm; headers store float32, and tools round


@dataclass(frozen=True)
class Volume:
    """An image with its label on the same grid, axes in RAS order.

    Attributes:
        image: float32 (X, Y, Z): left to right, posterior to anterior, inferior to superior.
        label: integers (X, Y, Z), raw values.
        spacing: voxel size along X, Y, Z in mm.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float, float]


def read(pair: Pair, frame: int | None) -> Volume:
    """Read a pair, reoriented to the closest canonical (RAS) axes.

    Args:
        pair: the two files.
        frame: which frame of a 4-D image, from 0; None for 3-D images.

    Raises:
        UserError: a file is missing, cut short or no volume; shapes or affines differ; voxels
            are not finite; labels are not integers; the frame does not exist.
    """
    image, label = _open(pair.image), _open(pair.label)
    if image.shape[:3] != label.shape[:3]:
        raise UserError(
            f"{pair.label}: shape {label.shape[:3]} is not that of its image ({image.shape[:3]})"
        )
    if not np.allclose(image.affine, label.affine, atol=AFFINE_TOLERANCE, rtol=0):
        raise UserError(
            f"{pair.label}: its affine is not that of its image; resample the label onto the image"
        )
    orientation = nib.io_orientation(image.affine)
    sizes = nib.affines.voxel_sizes(image.affine)
    spacing = [0.0, 0.0, 0.0]
    for stored, (canonical, _) in enumerate(orientation):
        spacing[int(canonical)] = float(sizes[stored])
    voxels = nib.apply_orientation(_voxels(image, frame, pair.image), orientation)
    label_frame = frame if len(label.shape) > 3 else None
    values = nib.apply_orientation(_voxels(label, label_frame, pair.label), orientation)
    return Volume(
        voxels.astype(np.float32),
        _integers(values, pair.label),
        (spacing[0], spacing[1], spacing[2]),
    )


def _open(path: Path) -> nib.spatialimages.SpatialImage:
    try:
        with path.open("rb"):  # nibabel hides why a file can't be opened
            pass
        volume = nib.load(path)
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError) as error:
        raise _damaged(path, error) from error
    if len(volume.shape) < 3:
        raise UserError(f"{path}: has {len(volume.shape)} dimension(s), a volume has 3")
    affine = volume.affine[:3, :3]
    if not np.isfinite(volume.affine).all() or np.isclose(np.linalg.det(affine), 0, atol=1e-12):
        raise UserError(f"{path}: its affine is not invertible; repair the header")
    return volume


def _voxels(volume: nib.spatialimages.SpatialImage, frame: int | None, path: Path) -> np.ndarray:
    extra = volume.shape[3:]
    frames = int(np.prod(extra))
    if len(extra) > 1 or (frames > 1 and frame is None):
        raise UserError(f"{path}: has shape {volume.shape}; set `frame` to choose a volume")
    if frame is not None and not 0 <= frame < frames:
        raise UserError(f"{path}: frame {frame} does not exist; it has {frames}, counted from 0")
    try:
        if frames > 1:
            voxels = np.asarray(volume.dataobj[..., frame])
        else:
            voxels = np.asarray(volume.dataobj).reshape(volume.shape[:3])
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(path, error) from error
    if voxels.dtype.kind not in "iuf":
        raise UserError(f"{path}: voxels are {voxels.dtype}, not numbers")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise UserError(f"{path}: {bad} voxel(s) are NaN or infinite; repair the file")
    return voxels


def _integers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not (whole == values).all():
            wrong = values[whole != values].flat[0]
            raise UserError(f"{path}: labels are not integers (one is {wrong:g})")
        return values.astype(np.int64)
    return values


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"{path}: cannot be read ({error.strerror})")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: damaged or no volume ({reason}); fetch it again")
