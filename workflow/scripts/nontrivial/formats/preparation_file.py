"""``preparation.json``: what only the preparation of a data set knows, for its summary.

It is apart from ``dataset.json``, on which trainings depend, so that another warning or note makes
no training stale.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.execution import atomic
from nontrivial.formats.canonical import digest
from nontrivial.formats.dataset import DIGEST

Range = tuple[float, float]  # lowest and highest


@dataclass(frozen=True)
class LabelValue:
    """A value of the label volumes, before it became a class number.

    Attributes:
        value: as stored.
        number: the class number that it is mapped to.
        voxels: how many voxels have it, over all volumes.
        volumes: how many volumes have it.
    """

    value: int
    number: int
    voxels: int
    volumes: int


@dataclass(frozen=True)
class Volumes:
    """The volumes that were read, each property as (lowest, highest) over the volumes.

    Attributes:
        axis: along which they are cut: ``sagittal``, ``coronal`` or ``axial``.
        spacing: pixel size to which slices are resampled, in mm; None if they are not.
        intensity: how intensities are normalized.
        count: number of volumes.
        slices: number of slices along the slicing axis.
        rows: rows of a slice as read, in pixels.
        columns: columns of a slice as read, in pixels.
        slice_mm: distance between slices in mm.
        row_mm: height of a pixel as read, in mm.
        column_mm: width of a pixel as read, in mm.
        resampled_rows: rows of a slice on the grid, before cropping and padding.
        resampled_columns: columns likewise.
        padding: share of the pixels of all slices that are padding.
        labels: the most frequent values of the label volumes.
        more_labels: number of further values.
    """

    axis: str
    spacing: float | None
    intensity: str
    count: int
    slices: Range
    rows: Range
    columns: Range
    slice_mm: Range
    row_mm: Range
    column_mm: Range
    resampled_rows: Range
    resampled_columns: Range
    padding: float
    labels: list[LabelValue]
    more_labels: int


@dataclass
class Preparation:
    """The content of ``preparation.json``.

    Attributes:
        warnings: what may make results wrong or weak, a sentence each.
        left_out: what was read but not written, and why.
        notes: what was converted or assumed.
        volumes: properties of the volumes; None where the data are pictures.
    """

    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    volumes: Volumes | None = None


def write(path: Path, preparation: Preparation) -> None:
    """Write the file atomically; equal content gives equal bytes."""
    content = asdict(preparation)
    content[DIGEST] = digest(content)
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    atomic.write_text(path, text + "\n")


def read(path: Path) -> Preparation:
    """Read the file.

    Raises:
        UserError: it is missing, damaged or has other keys.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop(DIGEST) != digest(content):
            raise ValueError("its content does not match its digest")
        volumes = content["volumes"]
        if volumes is not None:
            labels = [LabelValue(**label) for label in volumes["labels"]]
            ranges = {
                key: (value[0], value[1])
                for key, value in volumes.items()
                if isinstance(value, list) and key != "labels"
            }
            volumes = Volumes(**{**volumes, **ranges, "labels": labels})
        lists = {key: list(content[key]) for key in ("warnings", "left_out", "notes")}
        return Preparation(volumes=volumes, **lists)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); prepare the data set again"
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path}: not a record of a preparation ({error!r}); delete it and prepare the data set"
            " again"
        ) from error
