"""Read an image volume and its label volume (NIfTI or MGH) in canonical orientation."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Extensions, Nifti1Header
from nibabel.nifti2 import Nifti2Header

from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

AFFINE_TOLERANCE = 1e-3  # mm; headers hold float32, and tools round
COMPRESSED_SUFFIXES = (".gz", ".mgz")
MOST_COMPRESSED = 1032  # the largest compression ratio of deflate (zlib's documentation)
LARGEST_LABEL = 1 << 53  # float64 represents integers below this exactly


class _NoExtensions(Nifti1Extensions):
    """Skips header extensions: none is used, and a wrong length would read the whole file."""

    @classmethod
    def from_fileobj(cls, fileobj: object, size: int, byteswap: bool) -> "_NoExtensions":
        return cls()


class _Nifti1Header(Nifti1Header):
    exts_klass = _NoExtensions


class _Nifti2Header(Nifti2Header):
    exts_klass = _NoExtensions


class _Nifti1(nib.Nifti1Image):
    header_class = _Nifti1Header


class _Nifti2(nib.Nifti2Image):
    header_class = _Nifti2Header


FORMATS = (_Nifti1, _Nifti2, nib.MGHImage)


@dataclass(frozen=True)
class Volume:
    """An image with its label on the same grid, axes in RAS order.

    Attributes:
        image: float32 (X, Y, Z): left to right, posterior to anterior, inferior to superior.
        label: integers (X, Y, Z), as stored.
        spacing: voxel size along X, Y, Z in mm.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float, float]


def read(pair: Pair, frame: int | None) -> Volume:
    """Return a pair, reoriented to the closest canonical (RAS) axes.

    Args:
        pair: the two files.
        frame: frame of a 4-D image, counted from 0; None for 3-D images.

    Raises:
        UserError: a file is missing, truncated or not a volume; shapes or affines differ; voxels
            are not finite; labels are not integers; the frame does not exist.
    """
    image, label = _open(pair.image), _open(pair.label)
    if image.shape[:3] != label.shape[:3]:
        raise UserError(
            f"{pair.label}: shape {label.shape[:3]} differs from that of its image, "
            f"{image.shape[:3]}; resample the label onto the image"
        )
    if not np.allclose(image.affine, label.affine, atol=AFFINE_TOLERANCE, rtol=0):
        raise UserError(
            f"{pair.label}: its affine differs from that of its image; resample the label onto"
            " the image"
        )
    orientation = nib.io_orientation(image.affine)
    if np.isnan(orientation).any():
        raise _not_invertible(pair.image)
    sizes = nib.affines.voxel_sizes(image.affine)
    spacing = [0.0, 0.0, 0.0]
    for stored, (canonical, _) in enumerate(orientation):
        spacing[int(canonical)] = float(sizes[stored])
    voxels = nib.apply_orientation(_voxels(image, frame, pair.image), orientation)
    label_frame = frame if len(label.shape) > 3 else None
    values = nib.apply_orientation(_voxels(label, label_frame, pair.label), orientation)
    return Volume(
        _single(voxels, pair.image),
        _integers(values, pair.label),
        (spacing[0], spacing[1], spacing[2]),
    )


def _open(path: Path) -> nib.spatialimages.SpatialImage:
    try:
        with path.open("rb"):  # nibabel hides why a file cannot be opened
            pass
        volume = _format(path).from_filename(path)
    except Exception as error:  # a damaged header makes nibabel raise anything
        raise _damaged(path, error) from error
    if len(volume.shape) < 3:
        raise UserError(f"{path}: has {len(volume.shape)} dimension(s); give a volume with 3")
    if any(side < 1 for side in volume.shape):
        raise UserError(f"{path}: has shape {volume.shape}, so no voxels; replace it")
    _require_bytes(volume, path)
    affine = volume.affine[:3, :3]
    if not np.isfinite(volume.affine).all() or np.isclose(np.linalg.det(affine), 0, atol=1e-12):
        raise _not_invertible(path)
    return volume


def _format(path: Path) -> type[nib.spatialimages.SpatialImage]:
    for kind in FORMATS:
        fits, _ = kind.path_maybe_image(path)
        if fits:
            return kind
    raise ImageFileError("neither a NIfTI nor an MGH header")


def _require_bytes(volume: nib.spatialimages.SpatialImage, path: Path) -> None:
    """Refuse a header that claims more voxels than its file can hold, before allocating memory."""
    stored = cast(ArrayProxy, volume.dataobj)
    claimed = stored.offset + math.prod(volume.shape) * stored.dtype.itemsize
    held = path.stat().st_size
    if path.name.lower().endswith(COMPRESSED_SUFFIXES):
        held *= MOST_COMPRESSED
    if claimed > held:
        raise UserError(
            f"{path}: damaged or not a volume (its header claims {claimed:,} bytes, but the file "
            f"holds at most {held:,}); replace it"
        )


def _voxels(volume: nib.spatialimages.SpatialImage, frame: int | None, path: Path) -> np.ndarray:
    extra = volume.shape[3:]
    frames = math.prod(extra)
    if len(extra) > 1 or (frames > 1 and frame is None):
        raise UserError(f"{path}: has shape {volume.shape}; set `frame` to choose one volume")
    if frame is not None and not 0 <= frame < frames:
        raise UserError(
            f"{path}: frame {frame} does not exist; it has {frames} frame(s), counted from 0"
        )
    dtype = cast(ArrayProxy, volume.dataobj).dtype
    if dtype.kind not in "iuf":
        raise UserError(f"{path}: its voxels have dtype {dtype}; they must be real numbers")
    try:
        if frames > 1:
            voxels = np.asarray(volume.dataobj[..., frame])
        else:
            voxels = np.asarray(volume.dataobj).reshape(volume.shape[:3])
    except Exception as error:  # a truncated or damaged file makes nibabel raise anything
        raise _damaged(path, error) from error
    if voxels.dtype.kind == "f":
        _require_finite(voxels, path)
    return voxels


def _single(voxels: np.ndarray, path: Path) -> np.ndarray:
    with np.errstate(over="ignore"):  # checked on the next line
        single = voxels.astype(np.float32)
    _require_finite(single, path)
    return single


def _require_finite(voxels: np.ndarray, path: Path) -> None:
    if not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise UserError(f"{path}: {bad} voxel(s) are NaN or infinite as float32; repair the file")


def _integers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    if not (whole == values).all():
        wrong = values[whole != values].flat[0]
        raise UserError(
            f"{path}: labels are not integers (one is {wrong:g}); resample with nearest neighbour"
        )
    if (np.abs(whole) >= LARGEST_LABEL).any():
        raise UserError(f"{path}: label {np.abs(whole).max():g} is too large; relabel the volume")
    return values.astype(np.int64)


def _not_invertible(path: Path) -> UserError:
    return UserError(f"{path}: its affine is not invertible; repair the header")


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"{path}: cannot be read ({error.strerror})")
    if isinstance(error, MemoryError):
        return UserError(f"{path}: does not fit into memory; use a host with more memory")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: damaged or not a volume ({reason}); replace it")
