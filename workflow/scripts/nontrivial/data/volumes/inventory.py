"""Count what volumes and subjects hold before and after they are cut into slices.

Volumes are counted one at a time and judged when all have been read, so that a message gives the
number of cases and the worst one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nontrivial.data.excerpt import excerpt
from nontrivial.data.volumes import slices
from nontrivial.data.volumes.grid import Grid, Slices
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.reading import Volume
from nontrivial.errors import UserError
from nontrivial.formats.dataset import SPLITS
from nontrivial.formats.preparation_file import LabelValue, Preparation, Range, Volumes

MOST_VALUES = 1 << 16  # largest range of label values that is counted in an array
MOST_LISTED = 40  # label values that the summary lists
SAME_SPACING = 1e-3  # relative; headers hold float32, and tools round


@dataclass(frozen=True)
class ClassCounts:
    """Voxels or pixels of each class, int64 (classes,) or longer.

    Attributes:
        voxels: as read.
        resampled: on the grid, before cropping.
        cropped: on the grid, after cropping.
    """

    voxels: np.ndarray
    resampled: np.ndarray
    cropped: np.ndarray

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        """Return the sum of counts of equal length."""
        return ClassCounts(
            self.voxels + other.voxels,
            self.resampled + other.resampled,
            self.cropped + other.cropped,
        )


class Inventory:
    """What the volumes of a data set hold."""

    def __init__(self, classes: list[str], grid: Grid) -> None:
        """Start without volumes.

        Args:
            classes: names by class number.
            grid: on which the volumes are cut.
        """
        self._classes = classes
        self._grid = grid
        self._of: dict[tuple[str, str], ClassCounts] = {}  # by split and subject
        self._written: Counter[tuple[str, str]] = Counter()  # slices, likewise
        self._crops: list[tuple[int, str, Pair]] = []  # lost pixels, split
        self._needed = grid.size
        self._ranges: dict[str, Range] = {}
        self._pixels = self._content = 0
        self._voxels: Counter[int] = Counter()  # by label value
        self._volumes: Counter[int] = Counter()  # likewise
        self._numbers: dict[int, int] = {}
        self._count = 0

    def add_volume(self, pair: Pair, volume: Volume, labels: LabelMap, result: Slices) -> None:
        """Count a volume's geometry and label values."""
        self._count += 1
        number, rows, columns = slices.cut(volume.image, self._grid.axis).shape
        row_mm, column_mm = slices.in_plane(volume.spacing, self._grid.axis)
        for name, value in {
            "slices": number,
            "rows": rows,
            "columns": columns,
            "slice_mm": slices.between(volume.spacing, self._grid.axis),
            "row_mm": row_mm,
            "column_mm": column_mm,
            "resampled_rows": result.extent[0],
            "resampled_columns": result.extent[1],
        }.items():
            low, high = self._ranges.get(name, (value, value))
            self._ranges[name] = (min(low, value), max(high, value))
        height, width = self._grid.size
        self._pixels += number * height * width
        self._content += number * min(result.extent[0], height) * min(result.extent[1], width)
        tall, wide = result.needed
        self._needed = (max(self._needed[0], tall), max(self._needed[1], wide))
        values, counts = _label_values(volume.label)
        numbers = labels.apply(values, pair.label)
        for value, count, mapped in zip(values, counts, numbers, strict=True):
            self._voxels[int(value)] += int(count)
            self._volumes[int(value)] += 1
            self._numbers[int(value)] = int(mapped)

    def add_classes(self, split: str, subject: str, counts: ClassCounts, written: int) -> None:
        """Count the classes in a volume of a subject, or in a part of it.

        Args:
            split: its split.
            subject: its subject.
            counts: its voxels and pixels of each class.
            written: number of its slices that are written.
        """
        key = split, subject
        self._of[key] = self._of[key] + counts if key in self._of else counts
        self._written[key] += written

    def add_crop(self, split: str, pair: Pair, lost: int) -> None:
        """Count the foreground pixels that cropping removes from a volume; 0 if none."""
        if lost:
            self._crops.append((lost, split, pair))

    @property
    def cuts_evaluated(self) -> bool:
        """Whether cropping removes foreground from val or test, which ``finish`` refuses."""
        return any(split != "train" for _, split, _ in self._crops)

    def finish(self, preparation: Preparation) -> None:
        """Add warnings and the properties of the volumes to the record of the preparation.

        Raises:
            UserError: cropping removes foreground from val or test, a class vanishes from a split,
                or a split has no foreground.
        """
        self._require_whole()
        self._require_classes()
        self._require_foreground()
        preparation.warnings += [
            *self._cropped_train(),
            *self._vanished_subjects(),
            *self._vanished_classes(),
            *self._unwritten_subjects(),
            *self._spacings(),
        ]
        frequent = sorted(self._voxels, key=lambda value: (-self._voxels[value], value))
        preparation.volumes = Volumes(
            axis=self._grid.axis,
            spacing=self._grid.spacing,
            intensity=self._grid.intensity
            + (" of the voxels that are not 0" if self._grid.intensity_mask else ""),
            count=self._count,
            padding=1 - self._content / self._pixels,
            labels=[
                LabelValue(v, self._numbers[v], self._voxels[v], self._volumes[v])
                for v in sorted(frequent[:MOST_LISTED])
            ],
            more_labels=len(frequent[MOST_LISTED:]),
            **self._ranges,
        )

    def _require_whole(self) -> None:
        crops = [crop for crop in self._crops if crop[1] != "train"]
        if not crops:
            return
        (lost, split, worst), *others = sorted(crops, key=_largest_crop)
        names = [f"{pair.name} ({other}, {pixels})" for pixels, other, pair in others]
        more = f" The same holds for {excerpt(names)}." if names else ""
        raise UserError(
            f"{worst.image}: cropping to {_by(self._grid.size)} would remove {lost} foreground"
            f" pixel(s) of this {split} volume.{more} {self._larger_size()}"
        )

    def _require_classes(self) -> None:
        gone = []
        for number, name in enumerate(self._classes[1:], start=1):
            losses = [text for split in SPLITS if (text := self._loss(split, number))]
            gone += [f"class {name} vanishes ({'; '.join(losses)})"] if losses else []
        if gone:
            raise UserError(
                f"{excerpt(gone)}. Decrease spacing or increase size, so that the class keeps"
                " pixels, or merge or remove it in label_map and classes"
            )

    def _loss(self, split: str, number: int) -> str | None:
        """Describe how a split loses a class; None if it keeps the class or never had it."""
        have = {s: c for (of, s), c in self._of.items() if of == split and c.voxels[number]}
        if not have or any(counts.cropped[number] for counts in have.values()):
            return None
        voxels = sum(int(counts.voxels[number]) for counts in have.values())
        if any(counts.resampled[number] for counts in have.values()):
            by = f"cropping to {_by(self._grid.size)}"
        else:
            by = f"resampling to {self._grid.spacing:g} mm"
        return f"{split}: {voxels} voxel(s), in {excerpt(sorted(have))}, and none after {by}"

    def _require_foreground(self) -> None:
        found = {split for (split, _), counts in self._of.items() if counts.cropped[1:].any()}
        without = [split for split in SPLITS if split not in found]
        if len(without) == len(SPLITS):
            raise UserError("no label volume has foreground; check labels and label_map")
        if without:
            raise UserError(
                f"no label volume of the split {' or '.join(without)} has foreground; change"
                " fractions or split_seed"
            )

    def _cropped_train(self) -> Iterator[str]:
        if self._crops:
            lost, _, pair = min(self._crops, key=_largest_crop)
            yield (
                f"Cropping to {_by(self._grid.size)} removes foreground from {len(self._crops)}"
                f" train volume(s), most from {pair.name} ({lost} pixels). {self._larger_size()}."
            )

    def _vanished_subjects(self) -> Iterator[str]:
        gone = [
            (int(counts.voxels[1:].sum()), split, subject)
            for (split, subject), counts in self._of.items()
            if counts.voxels[1:].any() and not counts.cropped[1:].any()
        ]
        if gone:
            voxels, split, subject = min(gone, key=_largest)
            yield (
                f"{len(gone)} of {len(self._of)} subjects lose all foreground when they are"
                f" {self._cut()}, the largest in {subject} ({split}, {voxels} voxels)."
            )

    def _vanished_classes(self) -> Iterator[str]:
        for number, name in enumerate(self._classes):
            have = [(key, c) for key, c in self._of.items() if number and c.voxels[number]]
            gone = [
                (int(counts.voxels[number]), split, subject)
                for (split, subject), counts in have
                if not counts.cropped[number] and counts.cropped[1:].any()
            ]
            if gone:
                voxels, split, subject = min(gone, key=_largest)
                yield (
                    f"Class {name} vanishes from {len(gone)} of the {len(have)} subjects that have"
                    f" it when they are {self._cut()}, the largest in {subject} ({split},"
                    f" {voxels} voxels)."
                )

    def _unwritten_subjects(self) -> Iterator[str]:
        without = sorted(subject for (_, subject), number in self._written.items() if not number)
        if without:
            yield (
                f"{len(without)} train subject(s) are left out, because none of their slices has"
                f" foreground and keep_empty is false: {excerpt(without)}."
            )

    def _spacings(self) -> Iterator[str]:
        def differs(name: str) -> bool:
            low, high = self._ranges[name]
            return high > low * (1 + SAME_SPACING)

        if self._grid.spacing is not None or not (differs("row_mm") or differs("column_mm")):
            return
        named = {"row_mm": "rows", "column_mm": "columns", "slice_mm": "slices"}
        parts = [
            f"{text} {self._ranges[name][0]:.4g} to {self._ranges[name][1]:.4g} mm apart"
            for name, text in named.items()
            if differs(name)
        ]
        yield (
            f"The volumes have different spacings ({', '.join(parts)}), and spacing is null, so the"
            " same structure has different sizes in pixels. Set spacing to resample all volumes to"
            " one pixel size."
        )

    def _larger_size(self) -> str:
        return f"Set size to {list(self._needed)}, which keeps the foreground of all volumes"

    def _cut(self) -> str:
        crop = f"cropped to {_by(self._grid.size)}"
        if self._grid.spacing is None:
            return crop
        return f"resampled to {self._grid.spacing:g} mm and {crop}"


def _largest_crop(crop: tuple[int, str, Pair]) -> tuple[int, str]:
    return -crop[0], crop[2].name


def _largest(item: tuple[int, str, str]) -> tuple[int, str, str]:
    return -item[0], *item[1:]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _label_values(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of an integer volume, sorted, and the number of voxels of each."""
    low, high = int(label.min()), int(label.max())
    if high - low >= MOST_VALUES:
        return np.unique(label, return_counts=True)
    total = np.zeros(high - low + 1, dtype=np.int64)
    for plane in label:  # bincount copies its input as int64
        total += np.bincount((plane.astype(np.int64) - low).ravel(), minlength=len(total))
    found = np.flatnonzero(total)
    return (found + low).astype(np.int64), total[found]
