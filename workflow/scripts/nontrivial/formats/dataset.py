"""``dataset.json``: the description of a prepared data set."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.formats.canonical import digest

SPLITS = ("train", "val", "test")
DIGEST = "digest"  # key of the digest of all other keys
TASKS = ("classification", "segmentation")


@dataclass(frozen=True)
class Description:
    """The content of ``dataset.json``.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: names by class number; in segmentation, class 0 is the background.
        channels: number of image channels.
        size: (height, width) in pixels.
        dtype: ``uint8`` or ``float32``, as the images are stored.
        mean: per channel, in stored units, of the train split.
        std: per channel, likewise. Images are normalized as ``(x - mean) / std``.
        counts: number of samples per split.
        sha256: digest of every array and sample table, by path below the folder.
        demonstration: true if the data do not support inference, such as a single subject.
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

    @property
    def factory_arguments(self) -> tuple[int, int, tuple[int, int]]:
        """Arguments of the factory of a network for these data: classes, channels, size."""
        return len(self.classes), self.channels, self.size

    @property
    def content_digest(self) -> str:
        """Digest of what a network sees of the data; keys that are not attributes do not count."""
        return digest(asdict(self))

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
    """Read the description of a prepared data set, ``dataset.json``.

    Raises:
        UserError: the file is missing, damaged or not such a description.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if DIGEST in content and content.pop(DIGEST) != digest(content):
            raise ValueError("its content does not match its digest")
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
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); prepare the data set"
        ) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: not a description of a prepared data set ({error!r}); delete it and prepare"
            " the data set again"
        ) from error
