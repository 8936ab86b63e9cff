"""The official CIFAR-10 batches: pickles from elsewhere, so they are not trusted.

A file must have its published md5, and the unpickler admits arrays and plain values only.
Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nontrivial.data.sources.locations import CIFAR10_BATCHES
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest

# All that a pickled array of numbers needs; numpy 2 moved the module, the old name stays in files.
_ADMITTED: dict[tuple[str, str], Callable] = {
    (f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0]
    for core in ("core", "_core")
} | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


def read_batch(
    path: Path, size: tuple[int, int], checksums: Mapping[str, str] = CIFAR10_BATCHES
) -> tuple[np.ndarray, list[int]]:
    """Read one batch: images uint8 (N, 3, H, W) and their class numbers.

    Args:
        path: the batch.
        size: (height, width) of its images, in pixels.
        checksums: file name -> md5 that it must have.

    Raises:
        UserError: the file is missing, has another md5, or is no batch of CIFAR-10.
    """
    try:
        found = file_digest(path, "md5")
        if found != checksums.get(path.name):
            raise UserError(
                f"{path}: not the published CIFAR-10 file (md5 {found}, published "
                f"{checksums.get(path.name)}); replace the folder by the official one"
            )
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        images = np.asarray(content["data"]).reshape(-1, 3, *size)
        labels = [int(label) for label in content["labels"]]
        if images.dtype != np.uint8 or len(images) != len(labels):
            raise ValueError(f"{len(images)} images of {images.dtype}, {len(labels)} labels")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a batch of CIFAR-10 ({error})") from error
    return images, labels


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
