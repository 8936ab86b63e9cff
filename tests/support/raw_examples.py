"""Small raw data sets in the forms that users have, for tests."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import ClassVar

import h5py
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nontrivial.data.sources.locations import CIFAR10_BATCHES, CIFAR10_CLASSES

FRACTIONS = {"train": 0.5, "val": 0.25, "test": 0.25}
SHAPE = (12, 14, 10)  # of the volumes


def volume_settings(**changes) -> dict:
    settings = {
        "source": "nifti",
        "images": "images",
        "labels": "labels",
        "decathlon": None,
        "table": None,
        "axis": "coronal",
        "spacing": None,
        "size": [16, 16],
        "intensity": "zscore",
        "intensity_mask": None,
        "fill": None,
        "affine_tolerance": None,
        "frame": None,
        "label_map": None,
        "classes": ["background", "tissue"],
        "keep_empty": True,
        "subject_pattern": None,
        "subject_table": None,
        "one_subject_per_file": False,
        "fractions": FRACTIONS,
        "split_seed": 0,
    }
    assert set(changes) <= set(settings)
    return settings | changes


def image_voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def label_voxels() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[4:8, 5:9, 3:7] = 1
    return voxels


def save_volume(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.Nifti1Image
    if path.suffix in (".mgh", ".mgz"):
        kind = nib.MGHImage
    elif path.suffixes[0] in (".hdr", ".img"):
        kind = nib.Nifti1Pair
    nib.save(kind(voxels, np.eye(4) if affine is None else affine), path)


def write_folders(folder: Path, number: int = 4, suffix: str = ".nii.gz") -> list[str]:
    names = [f"brain_{index:02d}{suffix}" for index in range(number)]
    for index, name in enumerate(names):
        save_volume(folder / "images" / name, image_voxels(index))
        save_volume(folder / "labels" / name, label_voxels())
    return names


def write_decathlon(folder: Path, numbers: list[int], organ: str = "hippocampus") -> None:
    entries = []
    for number in numbers:
        name = f"{organ}_{number:03d}.nii.gz"
        save_volume(folder / "imagesTr" / name, image_voxels(number))
        save_volume(folder / "labelsTr" / name, label_voxels())
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))


def picture(seed: int, kind: str = "PNG", size: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: Path, labels: list[int], pictures: list[bytes] | None = None) -> None:
    pictures = pictures or [picture(row) for row in range(len(labels))]
    column = [{"bytes": data, "path": None} for data in pictures]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"img": pa.array(column, struct), "label": pa.array(labels, pa.int64())}), path
    )


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 does, which wrote the official batches."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def write_batches(folder: Path, per_class: int = 1) -> dict[str, str]:
    """Write batches like the official ones, less their number of images; return their md5."""
    folder.mkdir(parents=True, exist_ok=True)
    checksums = {}
    for seed, name in enumerate(CIFAR10_BATCHES):
        labels = list(range(10)) * per_class
        data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        buffer = io.BytesIO()
        Python2Pickler(buffer, protocol=2).dump({"data": data, "labels": labels})
        content = buffer.getvalue().replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
        (folder / name).write_bytes(content)
        checksums[name] = hashlib.md5(content).hexdigest()
    return checksums


def write_class_folders(folder: Path, train: int, test: int) -> None:
    for split, number in (("train", train), ("test", test)):
        for label, name in enumerate(CIFAR10_CLASSES):
            target = folder / split / name
            target.mkdir(parents=True)
            for row in range(number):
                (target / f"{row:04d}.png").write_bytes(picture(1000 * label + row))


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        tar.add(folder, arcname=folder.name)


def circle(radius: float, centre: tuple[float, float]) -> np.ndarray:
    """Return a contour (60, 2) of (x, y), counted from 1 as MATLAB does."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack(
        [centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1
    )


def write_matlab(path: Path, patients: int, cells: bool, slices: int = 2, times: int = 3) -> None:
    """Write the assumed structure of T1Dataset210.mat: axes reversed, a reference per patient."""
    height, width = 24, 20
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        store = file.create_group("#refs#")
        group = file.create_group("Dataset")
        fields = {
            "Img": lambda p: np.random.default_rng(p).normal(
                500, 50, (height, width, slices, times)
            ),
            "EndoContours": lambda p: _contours(3, slices, times),
            "EpiContours": lambda p: _contours(6, slices, times),
        }
        for name, make in fields.items():
            column = group.create_dataset(name, (1, patients), dtype=h5py.ref_dtype)
            for patient in range(patients):
                column[0, patient] = _store(store, f"{name}{patient}", make(patient), cells)


def _contours(radius: float, slices: int, times: int) -> np.ndarray:
    contour = circle(radius, centre=(9.0, 13.0))  # column 8, row 12 counted from 0
    return np.repeat(contour[:, :, None], slices * times, axis=2).reshape(60, 2, slices, times)


def _store(store: h5py.Group, name: str, values: np.ndarray, cells: bool) -> h5py.Reference:
    if not cells:
        return store.create_dataset(name, data=values.T).ref
    slices, times = values.shape[2:]
    cell = store.create_dataset(name, (times, slices), dtype=h5py.ref_dtype)
    for position in np.ndindex(slices, times):
        single = store.create_dataset(
            f"{name}-{position[0]}-{position[1]}", data=values[(..., *position)].T
        )
        cell[position[1], position[0]] = single.ref
    return cell.ref
