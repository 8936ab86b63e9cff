"""Write a prepared data set as a stream; ``prepared`` reads it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nontrivial.data.array_stream import ArrayStream, array_stream
from nontrivial.data.channel_statistics import ChannelStatistics
from nontrivial.data.class_counts import class_counts
from nontrivial.data.excerpt import excerpt
from nontrivial.errors import UserError
from nontrivial.execution import atomic
from nontrivial.formats import preparation_file, samples
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.formats.preparation_file import Preparation
from nontrivial.formats.samples import Sample

log = logging.getLogger("nontrivial")

DESCRIPTION = "dataset.json"
PREPARATION = "preparation.json"
# The number below which `inference` gives no interval. It is not imported from there, because then
# an edited statistic would prepare every data set again.
FEWEST_SUBJECTS = 6


@dataclass(frozen=True)
class Form:
    """What is known of a data set before its first sample.

    The attributes are those of ``prepared.Description``.
    """

    task: str
    classes: list[str]
    channels: int
    size: tuple[int, int]
    dtype: str
    demonstration: bool = False

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one label: () for a class number, (H, W) for a mask."""
        return self.size if self.task == "segmentation" else ()

    @property
    def label_dtype(self) -> str:
        """dtype of the stored labels."""
        return "uint8" if self.task == "segmentation" else "int64"


class PreparedWriter:
    """Appends samples of the three splits, in any order.

    Attributes:
        rows: the sample table of each split.
        statistics: mean and standard deviation of the train split.
        class_counts: samples or pixels of each class by split, int64 (classes,).
        evaluated: subjects of each split that results are about: in a segmentation, those with
            foreground.
        preparation: warnings and notes for the data set's summary; sources add to it.
    """

    def __init__(self, form: Form, arrays: dict[str, tuple[ArrayStream, ArrayStream]]) -> None:
        """Write to the given streams, (images, labels) by split."""
        self._arrays = arrays
        self.rows: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        self.statistics = ChannelStatistics(form.channels)
        self.class_counts = {split: np.zeros(len(form.classes), dtype=np.int64) for split in SPLITS}
        self.evaluated: dict[str, set[str]] = {split: set() for split in SPLITS}
        self.preparation = Preparation()
        self._first_class = _classes(form)[0]

    def append(
        self, split: str, images: np.ndarray, labels: np.ndarray, rows: list[Sample]
    ) -> None:
        """Append images (N, C, H, W), labels (N,) or (N, H, W), and N rows of the sample table."""
        if not len(images) == len(labels) == len(rows):
            raise ValueError(f"{len(images)} images, {len(labels)} labels, {len(rows)} rows")
        self._arrays[split][0].append(images)
        self._arrays[split][1].append(labels)
        self.rows[split] += rows
        counts = class_counts(labels, len(self.class_counts[split]))
        self.class_counts[split] += counts.sum(axis=0)
        evaluated = np.flatnonzero(counts[:, self._first_class :].sum(axis=1))
        self.evaluated[split] |= {subject for row in evaluated if (subject := rows[row].subject)}
        if split == "train":
            self.statistics.add(images)


@contextmanager
def writing(folder: Path, form: Form) -> Iterator[PreparedWriter]:
    """Yield a writer; when the block succeeds, the data set is in ``folder``.

    The arrays appear together at the end and ``dataset.json`` last, so a folder with a
    description is complete. If the block raises, the folder is unchanged. Warnings are logged once
    the data are known to be usable.

    Raises:
        UserError: a split is empty, or a class does not occur in train.
    """
    folder = Path(folder)
    with ExitStack() as stack:
        arrays = {
            split: (
                stack.enter_context(
                    array_stream(
                        folder / split / "images.npy", (form.channels, *form.size), form.dtype
                    )
                ),
                stack.enter_context(
                    array_stream(folder / split / "labels.npy", form.label_shape, form.label_dtype)
                ),
            )
            for split in SPLITS
        }
        writer = PreparedWriter(form, arrays)
        yield writer
        for split, rows in writer.rows.items():
            if not rows:
                raise UserError(f"the {split} split is empty; increase its fraction or add data")
        _require_classes(form, writer.class_counts["train"])
        writer.preparation.warnings += [
            *_missing_classes(form, writer.class_counts),
            *_few_subjects(writer),
        ]
        for warning in writer.preparation.warnings:
            log.warning("warning: %s", warning)
        # An older description would not match the new arrays.
        (folder / DESCRIPTION).unlink(missing_ok=True)
    for split, rows in writer.rows.items():
        samples.write(folder / split / "samples.parquet", rows)
    preparation_file.write(folder / PREPARATION, writer.preparation)
    atomic.write_text(folder / DESCRIPTION, _describe(folder, form, writer).to_json())


def _classes(form: Form) -> list[int]:
    """Return the classes that results are about: without the background of a segmentation."""
    return list(range(int(form.task == "segmentation"), len(form.classes)))


def _require_classes(form: Form, train: np.ndarray) -> None:
    missing = [form.classes[number] for number in _classes(form) if not train[number]]
    if missing:
        what = "pixel" if form.task == "segmentation" else "image"
        raise UserError(
            f"the train split has no {what} of class {excerpt(missing)}, so no network can learn"
            " it. Check that the raw data are complete, change the split, or remove the class"
        )


def _missing_classes(form: Form, counts: dict[str, np.ndarray]) -> Iterator[str]:
    for split in ("val", "test"):
        missing = [form.classes[number] for number in _classes(form) if not counts[split][number]]
        if missing:
            what = "pixel" if form.task == "segmentation" else "image"
            yield (
                f"The {split} split has no {what} of class {excerpt(missing)}. Its results say"
                " nothing about missing classes."
            )


def _few_subjects(writer: PreparedWriter) -> Iterator[str]:
    total = len({row.subject for row in writer.rows["test"]} - {None})
    number = len(writer.evaluated["test"])
    if not total or number >= FEWEST_SUBJECTS:
        return
    having = f" with foreground (of {total})" if number < total else ""
    yield (
        f"The test split has {number} subject{'s' * (number != 1)}{having}. With fewer than"
        f" {FEWEST_SUBJECTS}, results have no confidence interval, test or verdict."
    )


def _describe(folder: Path, form: Form, writer: PreparedWriter) -> Description:
    mean, std = writer.statistics.result()
    names = ("images.npy", "labels.npy", "samples.parquet")
    files = [f"{split}/{name}" for split in SPLITS for name in names]
    return Description(
        task=form.task,
        classes=form.classes,
        channels=form.channels,
        size=form.size,
        dtype=form.dtype,
        mean=mean,
        std=std,
        counts={split: len(rows) for split, rows in writer.rows.items()},
        sha256={name: file_digest(folder / name) for name in files},
        demonstration=form.demonstration,
    )
