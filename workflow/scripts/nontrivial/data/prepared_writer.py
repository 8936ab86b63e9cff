"""Write a prepared data set as a stream; ``prepared`` reads it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nontrivial.data.array_stream import ArrayStream, array_stream
from nontrivial.data.channel_statistics import ChannelStatistics
from nontrivial.errors import UserError
from nontrivial.execution import atomic
from nontrivial.formats import samples
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.formats.samples import Sample

DESCRIPTION = "dataset.json"


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
    """Appends samples of the three splits, in any order."""

    def __init__(self, form: Form, arrays: dict[str, tuple[ArrayStream, ArrayStream]]) -> None:
        """Write to the given streams, (images, labels) by split."""
        self._arrays = arrays
        self.rows: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        self.statistics = ChannelStatistics(form.channels)

    def append(
        self, split: str, images: np.ndarray, labels: np.ndarray, rows: list[Sample]
    ) -> None:
        """Append images (N, C, H, W), labels (N,) or (N, H, W), and N rows of the sample table."""
        if not len(images) == len(labels) == len(rows):
            raise ValueError(f"{len(images)} images, {len(labels)} labels, {len(rows)} rows")
        self._arrays[split][0].append(images)
        self._arrays[split][1].append(labels)
        self.rows[split] += rows
        if split == "train":
            self.statistics.add(images)


@contextmanager
def writing(folder: Path, form: Form) -> Iterator[PreparedWriter]:
    """Yield a writer; when the block succeeds, the data set is in ``folder``.

    The arrays appear together at the end and ``dataset.json`` last, so a folder with a
    description is complete. If the block raises, the folder is unchanged.

    Raises:
        UserError: a split is empty.
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
        # An older description would not match the new arrays.
        (folder / DESCRIPTION).unlink(missing_ok=True)
    for split, rows in writer.rows.items():
        samples.write(folder / split / "samples.parquet", rows)
    atomic.write_text(folder / DESCRIPTION, _describe(folder, form, writer).to_json())


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
