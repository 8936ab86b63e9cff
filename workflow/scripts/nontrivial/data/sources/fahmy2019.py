"""Prepare cardiac T1 images with contours (Fahmy et al. 2019, JCMR), the paper's kind of data.

The file is ``T1Dataset210.mat`` (Harvard Dataverse doi:10.7910/DVN/DHEUAV), MATLAB v7.3. This
module has been tested on made-up files of that structure only, not on the original. It expects:

``Dataset`` is a struct, or a struct array with one element per patient, with the fields ``Img``,
``EndoContours`` and ``EpiContours``. Per patient (an element of the struct array, or of a cell), a
field is either a numeric array, images (rows, columns, slices, inversion times) and contours
(60, 2, slices, inversion times), or a cell (slices, inversion times) of single images and contours.
The last axes may be merged into one; those of images and contours must agree. Contour points are
(x, y) = (column, row) in pixels, counted from 1. An empty or NaN contour means no contour.

The myocardium is inside the epicardial and outside the endocardial contour. Pixel sizes are not
read: one pixel counts as 1 mm.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from matplotlib.path import Path as Polygon

from nontrivial.data.sources import matlab
from nontrivial.data.volumes import preparation
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing

log = logging.getLogger("nontrivial")

CLASSES = ["background", "myocardium"]
# The workflow writes both volumes of a pair itself, with one affine.
KEYS = preparation.KEYS - {"affine_tolerance"} | {"file", "frame"}
FIELDS = ("Img", "EndoContours", "EpiContours")
ASSUMED_SPACING = "Pixel sizes are not read from the file: one pixel counts as 1 mm."
VOLUMES = "volumes"  # folder of the NIfTI files, below the prepared data set


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Write a NIfTI volume per patient and inversion time below ``output``, then prepare those.

    Args:
        settings: ``file``, ``frame`` (inversion time, counted from 0; None for all, each a volume
            of its own) and the settings of ``preparation.prepare``.
        data_dir: folder of the raw data.
        output: folder of the prepared data.

    Raises:
        UserError: the file is missing, damaged or structured differently, or a setting is wrong.
    """
    pairs = write_volumes(data_dir / settings["file"], output / VOLUMES, settings["frame"])
    whole = {**settings, "classes": CLASSES, "affine_tolerance": None}
    labels = LabelMap(None, CLASSES)
    preparation.prepare(pairs, whole, None, labels, output, notes=[ASSUMED_SPACING])


def write_volumes(path: Path, folder: Path, frame: int | None) -> list[Pair]:
    """Write an image and a mask volume per patient and inversion time; return the pairs.

    Raises:
        UserError: the file is missing, damaged or structured differently.
    """
    pairs = []
    for number, (image, endo, epi) in enumerate(read_patients(path), start=1):
        pairs += _write_patient(number, image, endo, epi, folder, frame)
        if number % 10 == 0:
            log.info("read %d patients", number)
    return pairs


def read_patients(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield images (H, W, S, T), endo- and epicardial contours (P, 2, S, T) of each patient.

    Raises:
        UserError: the file is missing, damaged or structured differently.
    """
    try:
        with h5py.File(path, "r") as file:
            yield from _patients(file)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; download it from doi:10.7910/DVN/DHEUAV into data_dir"
        ) from error
    except (OSError, RuntimeError) as error:  # h5py raises both for damaged files
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a readable MATLAB v7.3 (HDF5) file ({reason}); download it again"
        ) from error
    except (KeyError, ValueError) as error:
        reason = str(error.args[0] if error.args else error)
        raise UserError(f"{path}: unexpected structure: {reason}") from error


def _patients(file: h5py.File) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for name in ("Dataset", *(f"Dataset/{field}" for field in FIELDS)):
        if name not in file:
            raise KeyError(f"there is no {name.replace('/', '.')}")
    fields = [file["Dataset"][field] for field in FIELDS]
    if not all(isinstance(field, h5py.Dataset) for field in fields):
        raise ValueError(f"Dataset.{{{', '.join(FIELDS)}}} must be arrays")
    if not all(matlab.is_references(field) for field in fields):  # one struct, so one patient
        yield _patient(1, [matlab.value(file, field) for field in fields])
        return
    references = [field[()].ravel() for field in fields]
    if len({len(items) for items in references}) != 1:
        raise ValueError(f"Dataset.{{{', '.join(FIELDS)}}} have different numbers of patients")
    for number, items in enumerate(zip(*references, strict=True), start=1):
        targets = [matlab.follow(file, item) for item in items]
        yield _patient(number, [matlab.value(file, target) for target in targets])


def myocardium(endo: np.ndarray, epi: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, bool (H, W), between two contours (P, 2) of (x, y) pixels, from 1.

    A pixel is inside a contour if its centre is. Without an epicardial contour, the mask is empty.
    """
    return _inside(epi, shape) & ~_inside(endo, shape)


def _inside(contour: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    points = contour[np.isfinite(contour).all(axis=1)] - 1  # MATLAB counts from 1
    if len(points) < 3:
        return mask
    # Test the bounding box only: a heart is a small part of the image.
    limits = (shape[1], shape[0])
    left, top = np.clip(np.floor(points.min(axis=0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)) + 1, 0, limits).astype(int)
    rows, columns = np.mgrid[top:bottom, left:right]
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    mask[rows, columns] = Polygon(points).contains_points(centres).reshape(rows.shape)
    return mask


def _patient(number: int, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, endo, epi = (_four_axes(value) for value in values)
    for name, contour in (("EndoContours", endo), ("EpiContours", epi)):
        if contour.shape[1] != 2 or contour.shape[2:] != image.shape[2:]:
            raise ValueError(
                f"patient {number}: Dataset.{name} has shape {contour.shape}; expected (points, 2)"
                f" for each of the images, whose shape is {image.shape}"
            )
    return image, endo, epi


def _four_axes(value: np.ndarray) -> np.ndarray:
    if value.dtype == object:
        value = _stacked(value)
    if value.ndim > 4 or value.dtype.kind not in "iufb":
        raise ValueError(
            f"an array of {value.dtype} with shape {value.shape}; expected numbers on up to 4 axes"
        )
    return value.reshape(*value.shape, *(1,) * (4 - value.ndim))


def _stacked(cell: np.ndarray) -> np.ndarray:
    """Stack the arrays (A, B) of a cell (S, T) to (A, B, S, T); empty ones become NaN."""
    full = next((item for item in cell.flat if item.size), None)
    if full is None or full.dtype == object:
        raise ValueError("a cell holds no numeric array")
    stacked = np.full((*full.shape, *cell.shape), np.nan)
    for place in np.ndindex(cell.shape):
        item = cell[place]
        if item.size and item.shape != full.shape:
            raise ValueError(f"a cell holds arrays of shapes {item.shape} and {full.shape}")
        if item.size:
            stacked[(..., *place)] = item
    return stacked


def _write_patient(
    number: int,
    image: np.ndarray,
    endo: np.ndarray,
    epi: np.ndarray,
    folder: Path,
    frame: int | None,
) -> list[Pair]:
    height, width, slices, times = image.shape
    if frame is not None and not 0 <= frame < times:
        raise UserError(
            f"frame: {frame} does not exist; patient {number} has {times} frame(s), counted from 0"
        )
    subject = f"patient-{number:03d}"
    pairs = []
    for time in range(times) if frame is None else [frame]:
        mask = np.zeros((height, width, slices), dtype=np.uint8)
        for place in range(slices):
            contours = endo[:, :, place, time], epi[:, :, place, time]
            mask[:, :, place] = myocardium(*contours, (height, width))
        name = f"{subject}-time-{time:02d}.nii"
        paths = folder / "images" / name, folder / "labels" / name
        _write_volume(paths[0], image[:, :, :, time].astype(np.float32))
        _write_volume(paths[1], mask)
        pairs.append(Pair(name.removesuffix(".nii"), subject, f"images/{name}", *paths))
    return pairs


def _write_volume(path: Path, voxels: np.ndarray) -> None:
    # Rows (H) run downwards and columns (W) to the right. In an RAS volume, x = column and
    # y = -row, so that axial slices look like the images.
    volume = np.ascontiguousarray(voxels[::-1].transpose(1, 0, 2))
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), temporary)
