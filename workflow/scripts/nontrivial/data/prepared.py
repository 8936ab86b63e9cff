"""The prepared form of a data set: memory-mapped arrays, a table of samples, a description.

``<folder>/{train,val,test}/{images.npy,labels.npy,samples.parquet}`` and
``<folder>/dataset.json``. Images are NCHW, uint8 or float32; labels int64 (N,) for
classification and uint8 (N, H, W) for segmentation.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nontrivial.errors import UserError
from nontrivial.formats.canonical import digest

SPLITS = ("train", "val", "test")
DIGEST = "digest"  # key of the digest of all the rest
TASKS = ("classification", "segmentation")


@dataclass(frozen=True)
class Description:
    """What ``dataset.json`` says.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: names by class number; in segmentation class 0 is the background.
        channels: number of image channels.
        size: (height, width) in pixels.
        dtype: ``uint8`` or ``float32``, as the images are stored.
        mean: per channel, in stored units, from the train split only.
        std: per channel, likewise; applied as ``(x - mean) / std``.
        counts: number of samples per split.
        sha256: digest of every array and sample table, by path below the folder.
        demonstration: true where the data allow no inference (one person, say).
    """

    task: str
    classes: list[str]
    channels: int
    size: tuple[int, int]
    dtype: str
    mean: list[float]
    std: list[float]
    counts: dict[str, int]
    sha256: dict[str, str]
    demonstration: bool = False

    def to_json(self) -> str:
        """Return the text of ``dataset.json`` (sorted keys, indented, final newline)."""
        content = {
            "task": self.task,
            "classes": self.classes,
            "channels": self.channels,
            "size": list(self.size),
            "dtype": self.dtype,
            "normalization": {"mean": self.mean, "std": self.std},
            "counts": self.counts,
            "sha256": self.sha256,
            "demonstration": self.demonstration,
        }
        content[DIGEST] = digest(content)
        return json.dumps(content, indent=2, sort_keys=True) + "\n"


def read_description(path: Path) -> Description:
    """Read ``dataset.json``.

    Raises:
        UserError: the file is missing, damaged or not a description of prepared data.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if DIGEST in content and content.pop(DIGEST) != digest(content):
            raise ValueError("damaged: it is not what its digest says")
        return Description(
            task=content["task"],
            classes=list(content["classes"]),
            channels=int(content["channels"]),
            size=(int(content["size"][0]), int(content["size"][1])),
            dtype=content["dtype"],
            mean=[float(x) for x in content["normalization"]["mean"]],
            std=[float(x) for x in content["normalization"]["std"]],
            counts={split: int(content["counts"][split]) for split in SPLITS},
            sha256=dict(content["sha256"]),
            demonstration=bool(content["demonstration"]),
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); prepare the data") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: not a description of prepared data ({error!r}); delete it and prepare again"
        ) from error


def open_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of one split, memory-mapped and read-only.

    Raises:
        UserError: an array is missing or cut short.
    """
    arrays = []
    for name in ("images", "labels"):
        path = Path(folder) / split / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("a zip file")  # which numpy reads as an archive of arrays
            arrays.append(array)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{path}: not a readable array ({error}); delete it and prepare again"
            ) from error
    return arrays[0], arrays[1]
