"""Draw some samples of a prepared data set with their labels, to check the data by eye.

The choice does not depend on any result. Of a segmentation, each split shows, for each class, the
first subject by name that has it, and then its first subjects by name; of each the slice with the
most pixels of one class. Where a split has few subjects, it shows several slices of each, evenly
spaced, and the slice with the most pixels of a class that these would miss. Of a classification,
each split shows the first images of each class.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nontrivial.data.example_slices import shades
from nontrivial.display import figure_style
from nontrivial.display.figure_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    YELLOW,
)
from nontrivial.execution.atomic import replacing

# Neighbours differ in luminance, so that they can be told apart in grey too.
CLASS_COLOURS = (VERMILLION, SKY_BLUE, YELLOW, BLUE, PURPLE, ORANGE, GREEN)
OTHER_COLOUR = GREY  # of all further classes
COLUMNS = 6  # of a segmentation
MOST_CLASSES = 10  # columns of a classification
WIDTH_MM, DPI = 180, 200
LEFT_MM, RIGHT_MM, GAP_MM, CAPTION_MM, HEAD_MM, NOTE_MM = 13, 2, 1.5, 4.5, 7, 8
LEGEND_ENTRY_MM, LEGEND_LINE_MM, LEGEND_CHARACTERS = 42, 3.4, 28
MOST_MM = 45
NAME_LINES = 2  # of a caption
ELLIPSIS = "..."
DIMMED = 0.75  # brightness of the image below a mask
OPACITY = 0.65  # of a mask
POINTS = 4  # per pixel and direction
CAPTION_CHARACTERS_PER_MM = 0.75  # 6 pt


@dataclass(frozen=True)
class Picture:
    """A sample to draw.

    Attributes:
        caption: lines of text above it.
        image: (C, H, W), as stored.
        mask: class numbers (H, W), or None in a classification.
    """

    caption: str
    image: np.ndarray
    mask: np.ndarray | None = None


def choose_slices(
    subjects: Sequence[str], slices: Sequence[int], counts: np.ndarray, columns: int = COLUMNS
) -> list[int]:
    """Return the rows of the slices of one split to draw, at most ``columns``.

    Example:
        >>> choose_slices(["a", "a", "b"], [0, 1, 0], np.array([[9, 2], [6, 5], [9, 0]]), 2)
        [1, 2]

    Args:
        subjects: (N,) subject of each slice.
        slices: (N,) number of each slice in its volume.
        counts: (N, classes) pixels of each class in each slice, the background first.
        columns: how many slices to choose.
    """
    rows_of: dict[str, list[int]] = {}
    for row in sorted(range(len(subjects)), key=lambda row: (slices[row], row)):
        rows_of.setdefault(subjects[row], []).append(row)
    shows = _one_per_class({name: counts[rows].sum(axis=0) for name, rows in rows_of.items()})
    chosen = sorted([*shows, *sorted(rows_of.keys() - shows.keys())][:columns])
    each = columns // len(chosen)
    foreground = counts[:, 1:].sum(axis=1)
    rows: list[int] = []
    for place, subject in enumerate(chosen):
        wanted = counts[:, shows.get(subject, 1 + place % (counts.shape[1] - 1))]
        marked = [row for row in rows_of[subject] if foreground[row]] or rows_of[subject]
        if each == 1:
            rows.append(max(marked, key=lambda row: (int(wanted[row]), int(foreground[row]))))
        else:
            places = (np.arange(each) + 0.5) * len(marked) / each
            rows += dict.fromkeys(marked[int(place)] for place in places)
    return rows if each == 1 else _with_every_class(rows, [rows_of[n] for n in chosen], counts)


def _one_per_class(pixels: dict[str, np.ndarray]) -> dict[str, int]:
    """Return subjects and the class that each is to show, the rarest class first.

    Each class gets the first subject by name that has it and shows no other class.

    Args:
        pixels: of each class, the background first, by subject.
    """
    having = {
        number: [name for name in sorted(pixels) if pixels[name][number]]
        for number in range(1, len(next(iter(pixels.values()))))
    }
    shows: dict[str, int] = {}
    for number in sorted(having, key=lambda number: len(having[number])):
        if free := [name for name in having[number] if name not in shows]:
            shows[free[0]] = number
    return shows


def _with_every_class(rows: list[int], of: list[list[int]], counts: np.ndarray) -> list[int]:
    """Return the rows with some replaced, so that they show each class that their subjects have.

    Args:
        rows: chosen rows.
        of: all rows of each of their subjects, in the order of the slices.
        counts: (N, classes) pixels of each class in each slice.
    """
    shown, fixed = [*rows], set()
    for number in range(1, counts.shape[1]):
        if counts[shown, number].any():
            continue
        for members in of:
            best = max(members, key=lambda row: int(counts[row, number]))
            others = [row for row in shown if row in members and row not in fixed]
            if counts[best, number] and others:
                nearest = min(others, key=lambda row: abs(members.index(row) - members.index(best)))
                shown[shown.index(nearest)] = best
                fixed.add(best)
                break
    return shown


def choose_images(labels: np.ndarray, classes: int) -> list[int | None]:
    """Return the row of the first images of each class of one split, None where it has fewer.

    Args:
        labels: (N,) class numbers.
        classes: number of classes; at most ``MOST_CLASSES`` are shown.
    """
    shown = min(classes, MOST_CLASSES)
    each = MOST_CLASSES // shown
    chosen: list[int | None] = []
    for number in range(shown):
        rows = [int(row) for row in np.flatnonzero(labels == number)[:each]]
        chosen += [*rows, *[None] * (each - len(rows))]
    return chosen


def draw(
    path: Path,
    name: str,
    classes: list[str],
    rows: dict[str, Sequence[Picture | None]],
    size: tuple[int, int],
    note: str,
    demonstration: bool,
) -> None:
    """Write the picture as PNG; equal samples give equal bytes.

    Args:
        path: file to write.
        name: of the data set.
        classes: names by class number.
        rows: pictures by split.
        size: (height, width) of every picture in pixels.
        note: how the samples were chosen.
        demonstration: whether the data support no inference.
    """
    with figure_style.styled():
        figure = _figure(name, classes, rows, size, note, demonstration)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def colour(number: int) -> str:
    """Return the colour of a foreground class."""
    return CLASS_COLOURS[number - 1] if number <= len(CLASS_COLOURS) else OTHER_COLOUR


def _figure(
    name: str,
    classes: list[str],
    rows: dict[str, Sequence[Picture | None]],
    size: tuple[int, int],
    note: str,
    demonstration: bool,
) -> Figure:
    masked = any(picture.mask is not None for row in rows.values() for picture in row if picture)
    columns = max(len(row) for row in rows.values())
    width = (WIDTH_MM - LEFT_MM - RIGHT_MM - GAP_MM * (columns - 1)) / columns
    width = min(width, MOST_MM, MOST_MM * size[1] / size[0])
    height = width * size[0] / size[1]
    characters = max(8, int(width * CAPTION_CHARACTERS_PER_MM))
    lines = max(
        len(_wrapped(picture.caption, characters))
        for row in rows.values()
        for picture in row
        if picture
    )
    caption = CAPTION_MM + 2.4 * (lines - 1)
    block = caption + (2 * height + GAP_MM if masked else height)
    handles = _legend(classes) if masked else []
    legend_columns = int(WIDTH_MM / LEGEND_ENTRY_MM)
    top = HEAD_MM + LEGEND_LINE_MM * -(-len(handles) // legend_columns)
    total = top + block * len(rows) + 2 + NOTE_MM
    figure = figure_style.plt.figure(figsize=figure_style.inches(WIDTH_MM, total))
    title = f"{name}: samples with their labels"
    figure_style.text_mm(figure, 2, 1.5, title, fontsize=8, fontweight="bold")
    if handles:
        figure_style.legend_mm(figure, handles, HEAD_MM - 1.5, legend_columns)
    for number, (split, row) in enumerate(rows.items()):
        y = top + number * block + caption
        figure_style.text_mm(figure, 2, y, split, fontsize=7, fontweight="bold")
        for column, picture in enumerate(row):
            x = LEFT_MM + column * (width + GAP_MM)
            if picture is None:
                figure_style.text_mm(
                    figure, x + width / 2, y + height / 2, "none", fontsize=6, ha="center"
                )
                continue
            text = "\n".join(_wrapped(picture.caption, characters))
            figure_style.text_mm(
                figure, x + width / 2, y - 0.5, text, fontsize=6, ha="center", va="bottom"
            )
            axes = figure_style.axes_mm(figure, x, y, width, height)
            _draw_image(axes, picture.image)
            if picture.mask is not None:
                y_mask = y + height + GAP_MM
                axes = figure_style.axes_mm(figure, x, y_mask, width, height)
                _draw_mask(axes, picture.image, picture.mask)
    figure_style.note(figure, note, demonstration)
    return figure


def _wrapped(caption: str, characters: int) -> list[str]:
    lines = [_cut(line, NAME_LINES * characters) for line in caption.splitlines()]
    return [
        part for line in lines for part in textwrap.wrap(line, characters, break_on_hyphens=False)
    ]


def _cut(text: str, most: int) -> str:
    """Return a text cut in the middle, because the ends of names tell them apart."""
    if len(text) <= most:
        return text
    kept = most - len(ELLIPSIS)
    return text[: -(-kept // 2)] + ELLIPSIS + text[len(text) - kept // 2 :]


def _legend(classes: list[str]) -> list[Patch]:
    named = classes[1 : len(CLASS_COLOURS) + 1]
    handles = [
        Patch(color=colour(n), label=_cut(name, LEGEND_CHARACTERS))
        for n, name in enumerate(named, start=1)
    ]
    if others := len(classes) - 1 - len(named):
        handles.append(Patch(color=OTHER_COLOUR, label=f"{others} more class(es)"))
    return handles


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    _bare(axes)
    if len(image) == 3 and image.dtype == np.uint8:
        axes.imshow(np.moveaxis(image, 0, 2), interpolation="nearest")
    else:
        axes.imshow(shades(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _draw_mask(axes: Axes, image: np.ndarray, mask: np.ndarray) -> None:
    """Draw the image dimmed, each class filled, and the border of each class on top."""
    _bare(axes)
    picture = np.repeat((shades(image) * (DIMMED / 255))[:, :, None], 3, axis=2)
    numbers = [int(number) for number in np.unique(mask) if number]
    for number in numbers:
        inside = mask == number
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.array(
            to_rgb(colour(number))
        )
    axes.imshow(picture, interpolation="nearest")
    # Each pixel as several points, so that borders follow the pixels' edges.
    rows, columns = ((np.arange((side + 2) * POINTS) + 0.5) / POINTS - 1.5 for side in mask.shape)
    for number in numbers:
        inside = np.pad((mask == number).astype(float), 1)  # closes borders at the image's edge
        inside = inside.repeat(POINTS, axis=0).repeat(POINTS, axis=1)
        axes.contour(columns, rows, inside, levels=[0.5], colors=[colour(number)], linewidths=[0.7])
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
