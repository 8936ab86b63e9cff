"""Open one volume (NIfTI, MGH or Analyze): its shape, its affine in mm, its voxels."""

import contextlib
import io
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.nifti1 import Nifti1Extensions, Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import SpatialImage
from nibabel.spm2analyze import Spm2AnalyzeImage

from nontrivial.data.sources.locations import halves, volume_name
from nontrivial.data.volumes import gzip_streams
from nontrivial.errors import UserError

HEAD = 540  # bytes of the longest header, that of NIfTI-2
MOST_COMPRESSED = 1032  # the largest compression ratio of deflate (zlib's documentation)
MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes of metre, millimetre and micron
UNIT_NAMES = {1: "metres", 2: "mm", 3: "microns"}
LARGEST_VOXEL = 100.0  # mm; a larger one comes from a wrong unit
SMALLEST_DETERMINANT = 1e-12
SMALLEST_VOXEL = 0.01  # mm; a smaller one without a unit comes from a wrong unit, too

# nibabel prints what it repairs in a header without the name of the file. What matters of it is an
# error or a warning here.
logging.getLogger("nibabel.global").setLevel(logging.ERROR)


class _NoExtensions(Nifti1Extensions):
    """Skips header extensions: none is used, and a wrong length would read the whole file."""

    @classmethod
    def from_fileobj(cls, fileobj: object, size: int, byteswap: bool) -> "_NoExtensions":
        return cls()


class _Nifti1Header(Nifti1Header):
    exts_klass = _NoExtensions


class _Nifti2Header(Nifti2Header):
    exts_klass = _NoExtensions


class _Nifti1PairHeader(Nifti1PairHeader):
    exts_klass = _NoExtensions


class _Nifti2PairHeader(Nifti2PairHeader):
    exts_klass = _NoExtensions


class _MGHHeader(MGHHeader):
    @classmethod
    def from_fileobj(cls, fileobj: Any, *_: object, **__: object) -> "_MGHHeader":
        # nibabel also reads what follows the voxels, for which it decompresses all of them.
        return cls(fileobj.read(cls._hdrdtype.itemsize))


class _Nifti1(nib.Nifti1Image):
    header_class = _Nifti1Header


class _Nifti2(nib.Nifti2Image):
    header_class = _Nifti2Header


class _Nifti1Pair(nib.Nifti1Pair):
    header_class = _Nifti1PairHeader


class _Nifti2Pair(nib.Nifti2Pair):
    header_class = _Nifti2PairHeader


class _MGH(nib.MGHImage):
    header_class = _MGHHeader


NIFTI = (_Nifti1, _Nifti2)
PAIRS = (_Nifti1Pair, _Nifti2Pair, Spm2AnalyzeImage)


@dataclass(frozen=True)
class StoredVolume:
    """An open volume, usable inside the ``with`` block of ``opened``.

    Attributes:
        path: its file, as the data set names it.
        shape: of the stored array, at least 3 axes.
        affine: float64 (4, 4), from voxels to mm.
        oriented: whether the header states how the axes lie in the body.
        converted: unit of the header, if lengths were converted from it to mm.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    oriented: bool
    converted: str | None
    _array: ArrayProxy
    _streams: tuple[tuple[io.BufferedIOBase, Path], ...]

    @property
    def voxel_sizes(self) -> np.ndarray:
        """Return the lengths of a voxel along the stored axes, float64 (3,), in mm."""
        return nib.affines.voxel_sizes(self.affine)

    @property
    def frames(self) -> int:
        """Return the number of 3-D volumes in it."""
        return math.prod(self.shape[3:])

    def voxels(self, frame: int | None) -> np.ndarray:
        """Return the voxels of one frame (X, Y, Z), scaled as the header says.

        A gzip file is read to its end, so that its checksum covers them.

        Args:
            frame: counted from 0; None if there is only one.

        Raises:
            UserError: the frame does not exist, the file is truncated or damaged, or the voxels are
                no real numbers.
        """
        extra = self.shape[3:]
        if sum(side > 1 for side in extra) > 1:
            raise UserError(
                f"{self.path}: has shape {self.shape}, which is more than one axis of frames; save"
                " the volumes to use as 3-D or 4-D files"
            )
        if self.frames > 1 and frame is None:
            raise UserError(
                f"{self.path}: has shape {self.shape}; set `frame` to choose one volume"
            )
        if frame is not None and not 0 <= frame < self.frames:
            raise UserError(
                f"{self.path}: frame {frame} does not exist; it has {self.frames} frame(s), counted"
                " from 0"
            )
        if self._array.dtype.kind not in "iuf":
            raise UserError(
                f"{self.path}: its voxels have dtype {self._array.dtype}; they must be real numbers"
            )
        try:
            if self.frames > 1:
                place = tuple(frame if side > 1 else 0 for side in extra)
                voxels = np.asarray(self._array[(..., *place)])
            else:
                voxels = np.asarray(self._array).reshape(self.shape[:3])
        except Exception as error:  # a truncated or damaged file makes nibabel raise anything
            raise _damaged(self.path, error) from error
        for stream, path in self._streams:
            gzip_streams.read_to_end(stream, path)
        return voxels


@contextlib.contextmanager
def opened(path: Path) -> Iterator[StoredVolume]:
    """Yield the volume of a file, or of the two files of a pair (``.hdr`` and ``.img``).

    Header units of metres and microns are converted. Without a unit, lengths are in mm, as readers
    of NIfTI assume. Nothing but the header is read before ``StoredVolume.voxels``.

    Raises:
        UserError: a file is missing, truncated or not a volume, or its header cannot be used.
    """
    with contextlib.ExitStack() as stack:
        files = halves(path)
        try:
            streams = tuple((stack.enter_context(gzip_streams.opened(f)), f) for f in files)
            head = streams[0][0].read(HEAD)
            streams[0][0].seek(0)
            kind = _format(path, head)
            volume = kind.from_file_map(_file_map([stream for stream, _ in streams]))
            header: Any = kind.header_class
            raw = header(head[: header.template_dtype.itemsize], check=False)
        except Exception as error:  # a damaged header makes nibabel raise anything
            raise _damaged(path, error) from error
        yield _checked(path, volume, raw, head, streams)


def _checked(
    path: Path,
    volume: SpatialImage,
    raw: Any,
    head: bytes,
    streams: tuple[tuple[io.BufferedIOBase, Path], ...],
) -> StoredVolume:
    """Return a volume whose header can be used.

    Args:
        path: names it in messages.
        volume: its header is repaired by nibabel, for example voxel sizes of 0.
        raw: its header as stored.
        head: the first bytes of the header.
        streams: its files.
    """
    shape = tuple(int(side) for side in volume.shape)
    if len(shape) < 3:
        raise UserError(f"{path}: has {len(shape)} dimension(s); give a volume with 3")
    if any(side < 1 for side in shape):
        raise UserError(f"{path}: has shape {shape}, so no voxels; replace it")
    array = cast(ArrayProxy, volume.dataobj)
    _require_bytes(array, shape, streams[-1][1])
    unit, from_sizes, oriented = 0, False, False
    if isinstance(volume, nib.MGHImage):
        unit, oriented = 2, struct.unpack(">h", head[28:30])[0] > 0  # goodRASFlag
    elif isinstance(volume, Spm2AnalyzeImage):
        from_sizes = True
        _require_no_matrix(path)
    else:
        unit = int(raw["xyzt_units"]) & 7
        from_sizes = int(raw["sform_code"]) == 0
        oriented = not from_sizes or int(raw["qform_code"]) != 0
    if from_sizes and not (np.isfinite(raw["pixdim"][1:4]) & (raw["pixdim"][1:4] != 0)).all():
        sizes = ", ".join(f"{size:g}" for size in raw["pixdim"][1:4])
        raise UserError(f"{path}: its header gives no voxel size (pixdim {sizes}); repair it")
    affine = np.array(volume.affine, dtype=np.float64)
    converted = UNIT_NAMES[unit] if unit in (1, 3) else None
    if converted:
        affine[:3] *= MM_PER_UNIT[unit]
    with np.errstate(all="ignore"):  # checked on the next line
        # Relative to the longest side of a voxel, because microns and metres differ by 1e6.
        determinant = np.linalg.det(affine[:3, :3] / nib.affines.voxel_sizes(affine).max())
    if not np.isfinite(affine).all() or not abs(determinant) > SMALLEST_DETERMINANT:
        raise not_invertible(path)
    _require_plausible(path, affine, unit)
    return StoredVolume(path, shape, affine, oriented, converted, array, streams)


def not_invertible(path: Path) -> UserError:
    """Return the error of a volume whose affine has no inverse."""
    return UserError(f"{path}: its affine is not invertible; repair the header")


def _format(path: Path, head: bytes) -> type[SpatialImage]:
    name = path.name.lower()
    if name.endswith((".mgh", ".mgz")):
        return _MGH
    for kind in NIFTI if name.endswith((".nii", ".nii.gz")) else PAIRS:
        if kind.header_class.may_contain_header(head):
            return kind
    raise ImageFileError("its header does not match the format that its suffix names")


def _file_map(streams: list[io.BufferedIOBase]) -> dict[str, FileHolder]:
    # Analyze may have its affine in a third file, which _require_no_matrix excludes.
    parts = {"header": streams[0], "image": streams[-1], "mat": io.BytesIO()}
    return {name: FileHolder(fileobj=stream) for name, stream in parts.items()}


def _require_bytes(array: ArrayProxy, shape: tuple[int, ...], path: Path) -> None:
    """Refuse a header that claims more voxels than its file can hold, before allocating memory."""
    claimed = array.offset + math.prod(shape) * array.dtype.itemsize
    held = path.stat().st_size
    if gzip_streams.is_compressed(path):
        held *= MOST_COMPRESSED
    if claimed > held:
        raise UserError(
            f"{path}: damaged or not a volume (its header claims {claimed:,} bytes, but the file "
            f"holds at most {held:,}); replace it"
        )


def _require_no_matrix(path: Path) -> None:
    matrix = path.with_name(f"{volume_name(path)}.mat")
    if matrix.exists():
        raise UserError(
            f"{matrix}: the affine in it is not read; convert {path.name} and it to NIfTI"
        )


def _require_plausible(path: Path, affine: np.ndarray, unit: int) -> None:
    sizes = nib.affines.voxel_sizes(affine)
    shown = " x ".join(f"{size:.4g}" for size in sizes)
    if (sizes > LARGEST_VOXEL).any():
        raise UserError(
            f"{path}: its voxels are {shown} mm (unit in its header: "
            f"{UNIT_NAMES.get(unit, 'none, so mm')}), so its unit or its voxel sizes are wrong;"
            " repair the header"
        )
    if unit not in MM_PER_UNIT and (sizes < SMALLEST_VOXEL).any():
        raise UserError(
            f"{path}: its header gives no unit, and voxels of {shown} mm are implausible; set"
            " xyzt_units in the header to the unit of its voxel sizes"
        )


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename) != path:
        return UserError(f"{error.filename}: does not exist, but {path.name} needs it; copy it")
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"{path}: cannot be read ({error.strerror})")
    if isinstance(error, MemoryError):
        return UserError(f"{path}: does not fit into memory; use a host with more memory")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: damaged or not a volume ({reason}); replace it")
