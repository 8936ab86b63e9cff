"""Read the official CIFAR-10 batches, which are pickles and therefore not trusted.

A file must have its published md5, and the unpickler accepts arrays and plain values only.
Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nontrivial.data.sources.locations import CIFAR10_BATCHES
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest

# All that a pickled array of numbers requires. numpy 2 renamed numpy.core; files keep the old name.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def read_batch(
    path: Path, size: tuple[int, int], checksums: Mapping[str, str] = CIFAR10_BATCHES
) -> tuple[np.ndarray, list[int]]:
    """Return the images of one batch, uint8 (N, 3, H, W), and their class numbers.

    Args:
        path: the batch.
        size: (height, width) of its images, in pixels.
        checksums: md5 by file name.

    Raises:
        UserError: the file is missing, has another md5, or is not a batch of CIFAR-10.
    """
    try:
        found = file_digest(path, "md5")
        if found != checksums.get(path.name):
            raise UserError(
                f"{path}: not the published CIFAR-10 file (md5 {found}, published "
                f"{checksums.get(path.name)}); replace the folder with the official one"
            )
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        images = np.asarray(content["data"]).reshape(-1, 3, *size)
        labels = [int(label) for label in content["labels"]]
        if images.dtype != np.uint8 or len(images) != len(labels):
            raise ValueError(f"{len(images)} images of {images.dtype}, {len(labels)} labels")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a batch of CIFAR-10 ({error}); replace it with the official one"
        ) from error
    return images, labels


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it requires {module}.{name}") from None
