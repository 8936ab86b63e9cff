"""Summarize a prepared data set in Markdown tables and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nontrivial.data.class_counts import class_counts
from nontrivial.data.prepared import open_checked
from nontrivial.display import sample_sheet
from nontrivial.display.sample_sheet import Picture
from nontrivial.display.text_tables import DEMONSTRATION, TextTable, to_markdown
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text
from nontrivial.formats import preparation_file, samples
from nontrivial.formats.dataset import SPLITS, Description, read_description
from nontrivial.formats.preparation_file import Preparation, Range, Volumes


@dataclass(frozen=True)
class Split:
    """A split with what its tables show.

    Attributes:
        images: (N, C, H, W), memory-mapped.
        labels: (N,) or (N, H, W), memory-mapped.
        counts: samples or pixels of each class in each sample, (N, classes).
        subjects: (N,) subject of each sample, the empty string where it has none.
        sources: (N,) file (and row) of the raw data.
        slices: (N,) number of the slice, -1 for pictures.
        pixel_ml: (N,) volume of a pixel in ml, NaN where it is not known.
    """

    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    subjects: list[str]
    sources: list[str]
    slices: list[int]
    pixel_ml: np.ndarray

    def distinct(self, names: Sequence[str], rows: np.ndarray | None = None) -> int:
        """Return the number of distinct names other than the empty string, in some rows."""
        chosen = names if rows is None else [names[row] for row in rows]
        return len(set(chosen) - {""})

    @property
    def volumes(self) -> list[str]:
        """(N,) volume of each slice, the empty string for pictures."""
        return [
            source if place >= 0 else ""
            for source, place in zip(self.sources, self.slices, strict=True)
        ]


def summarize_dataset(name: str, data: Path, markdown: Path, png: Path) -> None:
    """Write tables of subjects, classes, sizes and warnings, and a picture of some samples.

    Args:
        name: of the data set.
        data: folder of the prepared data.
        markdown: the tables, to write.
        png: the picture, to write.

    Raises:
        UserError: a file of the prepared data is missing or damaged.
    """
    description = read_description(data / "dataset.json")
    preparation = preparation_file.read(data / "preparation.json")
    for label in preparation.volumes.labels if preparation.volumes else ():
        if not 0 <= label.number < len(description.classes):
            raise UserError(
                f"{data / 'preparation.json'}: has class {label.number} beyond the"
                f" {len(description.classes)} of dataset.json; delete it and prepare the data set"
                " again"
            )
    splits = {split: _read(data, split, description) for split in SPLITS}
    _draw(name, description, splits, png)
    write_text(markdown, _markdown(name, description, preparation, splits, png.name))


def _read(data: Path, split: str, description: Description) -> Split:
    images, labels = open_checked(data, split, description)
    path = data / split / "samples.parquet"
    table = samples.read(path).to_pydict()
    if len(table["sample"]) != len(images):
        raise UserError(
            f"{path}: has {len(table['sample'])} rows for {len(images)} samples; delete it and"
            " prepare the data set again"
        )
    return Split(
        images,
        labels,
        class_counts(labels, len(description.classes)),
        [subject or "" for subject in table["subject"]],
        table["source"],
        [-1 if place is None else place for place in table["slice"]],
        np.array([np.nan if ml is None else ml for ml in table["pixel_ml"]]),
    )


# The picture


def _draw(name: str, description: Description, splits: dict[str, Split], png: Path) -> None:
    rows: dict[str, list[Picture | None]] = {}
    if description.task == "segmentation":
        for split, content in splits.items():
            names = [a or b for a, b in zip(content.subjects, content.sources, strict=True)]
            chosen = sample_sheet.choose_slices(names, content.slices, content.counts)
            rows[split] = [_slice(content, row) for row in chosen]
        note = (
            "Chosen by a fixed rule, independent of results: of each class the first subject by"
            " name that has it, then further ones by name, each with the slice that has the most"
            " pixels of one class, or with evenly spaced slices where a split has few subjects."
        )
    else:
        for split, content in splits.items():
            images = sample_sheet.choose_images(content.labels, len(description.classes))
            rows[split] = [
                None
                if row is None
                else Picture(description.classes[content.labels[row]], content.images[row])
                for row in images
            ]
        note = "Chosen by a fixed rule, independent of results: the first images of each class."
        if more := len(description.classes) - sample_sheet.MOST_CLASSES:
            note += f" {more} more class(es) are not shown." if more > 0 else ""
    sample_sheet.draw(
        png, name, description.classes, rows, description.size, note, description.demonstration
    )


def _slice(content: Split, row: int) -> Picture:
    caption = content.subjects[row] or content.sources[row]
    if content.slices[row] >= 0:
        caption += f"\nslice {content.slices[row]}"
    return Picture(caption, content.images[row], content.labels[row])


# The tables


def _markdown(
    name: str,
    description: Description,
    preparation: Preparation,
    splits: dict[str, Split],
    picture: str,
) -> str:
    lines = [f"# Data set {name}", ""]
    if description.demonstration:
        lines += [f"**{DEMONSTRATION}**", ""]
    height, width = description.size
    lines += [
        f"{description.task.capitalize()} of {len(description.classes)} classes."
        f" {sum(description.counts.values()):,} samples of {height} x {width} pixels with"
        f" {description.channels} channel(s), stored as {description.dtype}.",
        "",
        "## Warnings",
        "",
        *_bullets(preparation.warnings, "None."),
        to_markdown([_split_table(splits), _class_table(description, splits)]),
        f"![Samples with their labels]({picture})",
        "",
    ]
    if preparation.volumes:
        volumes = preparation.volumes
        tables = [_volume_table(volumes, description), _label_table(volumes, description)]
        lines.append(to_markdown(tables))
    lines += ["## Left out", "", *_bullets(preparation.left_out, "Nothing.")]
    if preparation.notes:
        lines += ["## Notes", "", *_bullets(preparation.notes, "")]
    return "\n".join(lines).rstrip("\n") + "\n"


def _bullets(texts: list[str], none: str) -> list[str]:
    return [*(f"- {text}" for text in texts), ""] if texts else [none, ""]


def _split_table(splits: dict[str, Split]) -> TextTable:
    contents = list(splits.values())
    has_subjects = any(any(content.subjects) for content in contents)
    has_volumes = any(any(content.volumes) for content in contents)
    masks = contents[0].labels.ndim > 1
    marked = [np.flatnonzero(content.counts[:, 1:].any(axis=1)) for content in contents]
    columns: dict[str, list[str]] = {"split": list(splits)}
    if has_subjects:
        columns["subjects"] = [f"{content.distinct(content.subjects):,}" for content in contents]
    if has_subjects and masks:
        columns["subjects with foreground"] = [
            f"{content.distinct(content.subjects, rows):,}"
            for content, rows in zip(contents, marked, strict=True)
        ]
    if has_volumes:
        columns["volumes"] = [f"{content.distinct(content.volumes):,}" for content in contents]
    unit = "slices" if has_volumes else "images"
    columns[unit] = [f"{len(content.images):,}" for content in contents]
    if masks:
        columns[f"{unit} with foreground"] = [
            f"{len(rows):,} ({_share(len(rows), len(content.images))})"
            for content, rows in zip(contents, marked, strict=True)
        ]
    notes = _sessions(splits) if has_subjects and has_volumes else []
    rows = list(zip(*columns.values(), strict=True))
    return TextTable("Splits", list(columns), rows, notes, frozenset(range(1, len(columns))))


def _sessions(splits: dict[str, Split]) -> list[str]:
    volumes: dict[str, set[str]] = {}
    for content in splits.values():
        for subject, volume in zip(content.subjects, content.volumes, strict=True):
            volumes.setdefault(subject, set()).add(volume)
    several = [len(found) for found in volumes.values() if len(found) > 1]
    if not several:
        return ["Each subject has one volume."]
    return [
        f"{len(several):,} of {len(volumes):,} subjects have several volumes (sessions, runs or"
        f" frames), at most {max(several)}."
    ]


def _class_table(description: Description, splits: dict[str, Split]) -> TextTable:
    masks = description.task == "segmentation"
    volumes = _class_volumes(splits, len(description.classes)) if masks else None
    columns = ["class", *splits]
    notes = []
    if masks:
        notes.append("Share of the pixels, and subjects in which the class occurs.")
    if volumes is not None:
        columns.append("ml per volume")
        notes.append(
            "Millilitres: mean (lowest to highest) over the volumes in which the class occurs, in"
            " the slices written."
        )
    rows = []
    for number, name in enumerate(description.classes):
        row = [name]
        for content in splits.values():
            total = int(content.counts[:, number].sum())
            if not masks:
                row.append(f"{total:,} ({_share(total, len(content.labels))})")
                continue
            found = np.flatnonzero(content.counts[:, number])
            having = content.distinct(content.subjects, found)
            everyone = content.distinct(content.subjects)
            cell = _share(total, int(content.counts.sum()))
            row.append(f"{cell}, {having} of {everyone}" if everyone else cell)
        if volumes is not None:
            ml = volumes[:, number][volumes[:, number] > 0]
            text = f"{ml.mean():.3g} ({ml.min():.3g} to {ml.max():.3g})" if len(ml) else ""
            row.append(text if number else "")
        rows.append(row)
    return TextTable("Classes", columns, rows, notes, frozenset(range(1, len(columns))))


def _class_volumes(splits: dict[str, Split], classes: int) -> np.ndarray | None:
    """Return ml of each class in each volume, (volumes, classes); None if not known."""
    total: dict[str, np.ndarray] = {}
    for content in splits.values():
        if np.isnan(content.pixel_ml).any():
            return None
        ml = content.counts * content.pixel_ml[:, None]
        for row, source in enumerate(content.sources):
            total.setdefault(source, np.zeros(classes))
            total[source] += ml[row]
    return np.stack(list(total.values()))


def _volume_table(volumes: Volumes, description: Description) -> TextTable:
    height, width = description.size
    grid = "kept" if volumes.spacing is None else f"{volumes.spacing:g} mm"
    rows = [
        ("slices", *_ends(volumes.slices)),
        ("rows, as read", *_ends(volumes.rows)),
        ("columns, as read", *_ends(volumes.columns)),
        ("mm between slices", *_ends(volumes.slice_mm)),
        ("mm between rows, as read", *_ends(volumes.row_mm)),
        ("mm between columns, as read", *_ends(volumes.column_mm)),
        ("rows after resampling", *_ends(volumes.resampled_rows)),
        ("columns after resampling", *_ends(volumes.resampled_columns)),
    ]
    notes = [
        f"{volumes.axis.capitalize()} slices; pixel size: {grid}; intensities: {volumes.intensity}."
        f" After cropping or padding to {height} x {width}, {volumes.padding:.0%} of all pixels are"
        " padding."
    ]
    return TextTable(
        f"Volumes: {volumes.count:,}",
        ["property", "lowest", "highest"],
        rows,
        notes,
        frozenset({1, 2}),
    )


def _label_table(volumes: Volumes, description: Description) -> TextTable:
    total = sum(label.voxels for label in volumes.labels)
    rows = [
        (
            str(label.value),
            description.classes[label.number],
            f"{label.voxels:,}",
            _share(label.voxels, total),
            f"{label.volumes:,} of {volumes.count:,}",
        )
        for label in volumes.labels
    ]
    notes = [f"{volumes.more_labels:,} rarer values are not listed."] if volumes.more_labels else []
    columns = ["value", "class", "voxels", "share", "volumes"]
    return TextTable("Label values, as read", columns, rows, notes, frozenset({0, 2, 3, 4}))


def _ends(values: Range) -> tuple[str, str]:
    return f"{values[0]:,.4g}", f"{values[1]:,.4g}"


def _share(part: int, whole: int) -> str:
    share = part / whole if whole else 0.0
    return f"{share:.1%}" if share >= 0.01 or not part else f"{100 * share:.2g}%"


if __name__ == "__main__":
    command_line.run(summarize_dataset)
