"""Draw example slices with the truth and the predictions, as trained and with kernels zeroed."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nontrivial.display import figure_style
from nontrivial.display.figure_style import GREEN, ORANGE, SKY_BLUE, VERMILLION, YELLOW
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.formats.dataset import read_description
from nontrivial.formats.examples import Example
from nontrivial.formats.examples import read as read_examples
from nontrivial.inference.dice import dice

CLASS_COLOURS = (ORANGE, SKY_BLUE, GREEN, VERMILLION, YELLOW)
LEFT_MM, RIGHT_MM, GAP_MM = 17, 2, 1.5
HEAD_MM, CAPTION_MM, BOTTOM_MM = 20, 5, 10
MOST_MM = 45  # larger images show no further detail
MARGIN_PIXELS = 8  # around everything that any outline shows
TITLE_CHARACTERS_PER_MM = 0.72  # of the column titles, 6.5 pt
SUBJECT_CHARACTERS = 11  # of the subject on a line, left of the pictures
LEGEND_ENTRY_MM = 42


def plot_slices(settings: dict, dataset: Path, examples: Path, svg: Path, png: Path) -> None:
    """Draw a row per slice and a column per target, with outlines and the Dice of the slice.

    Args:
        settings: ``experiment``, ``targets`` (columns, in order), ``width_mm``, ``dpi``.
        dataset: ``dataset.json``, for the names of the classes.
        examples: slices and predictions.
        svg: the figure as SVG, to write.
        png: the figure as PNG, to write.

    Raises:
        UserError: a file cannot be read or lacks a target.
    """
    description = read_description(dataset)
    rows = read_examples(examples, len(description.classes))
    by_place = {(row.sample, row.target): row for row in rows}
    slices = list(dict.fromkeys(row.sample for row in rows))
    for target in settings["targets"]:
        if any((sample, target) not in by_place for sample in slices):
            raise UserError(f"{examples}: no slices of target {target!r}; predict them again")
    grid = [[by_place[sample, target] for target in settings["targets"]] for sample in slices]
    with figure_style.styled():
        figure = _draw(settings, grid, description.classes, description.demonstration)
        figure_style.save(figure, svg, png, settings["dpi"])


def slice_dice(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Return the mean Dice over the foreground classes that one slice has, maps of shape (H, W).

    It is NaN for a slice without foreground.
    """
    numbers = np.arange(1, classes)[:, None, None]
    is_true, is_predicted = truth[None] == numbers, predicted[None] == numbers
    tp = (is_true & is_predicted).sum(axis=(1, 2))
    fp = (~is_true & is_predicted).sum(axis=(1, 2))
    fn = (is_true & ~is_predicted).sum(axis=(1, 2))
    score = dice(tp, fp, fn)
    present = score[~np.isnan(score)]
    return float(present.mean()) if len(present) else float("nan")


def _draw(
    settings: dict, grid: list[list[Example]], classes: list[str], demonstration: bool
) -> Figure:
    width = settings["width_mm"]
    columns = len(settings["targets"])
    room = (width - LEFT_MM - RIGHT_MM - GAP_MM * (columns - 1)) / columns
    size = min(MOST_MM, room)
    entries = len(classes)
    legend_columns = max(1, int(width / LEGEND_ENTRY_MM))
    legend_mm = 3.4 * -(-entries // legend_columns)
    top = HEAD_MM - 3.4 + legend_mm
    height = top + len(grid) * (size + CAPTION_MM) + BOTTOM_MM
    figure = figure_style.plt.figure(figsize=figure_style.inches(width, height))
    title = f"{settings['experiment']}: truth and prediction"
    figure_style.text_mm(figure, 2, 1.5, title, fontsize=8, fontweight="bold")
    handles = [Line2D([], [], color="black", lw=0.9, ls=(0, (1.5, 1)), label="truth (white)")]
    handles += [
        Line2D([], [], color=_colour(number), lw=1.2, label=f"predicted: {name}")
        for number, name in enumerate(classes)
        if number
    ]
    figure_style.legend_mm(figure, handles, 5, legend_columns)
    for row_number, row in enumerate(grid):
        window = _window(row)
        y = top + row_number * (size + CAPTION_MM)
        first = row[0]
        where = textwrap.fill(str(first.subject), SUBJECT_CHARACTERS)
        figure_style.text_mm(figure, 2, y + 1, f"{where}\nslice {first.slice}", fontsize=6)
        for column, example in enumerate(row):
            x = LEFT_MM + column * (size + GAP_MM)
            axes = figure_style.axes_mm(figure, x, y, size, size)
            _draw_slice(axes, example, window, len(classes))
            if row_number == 0:
                name = textwrap.fill(example.target, max(8, int(size * TITLE_CHARACTERS_PER_MM)))
                figure_style.text_mm(
                    figure, x + size / 2, y - 1, name, fontsize=6.5, ha="center", va="bottom"
                )
    text = (
        "Dice is of the slice shown, mean over the foreground classes (1 for a class neither there"
        " nor predicted)."
        " Slices chosen by rule before any result: first subjects by name, of each the slice"
        " with most foreground in the truth"
    )
    figure_style.note(figure, text, demonstration)
    return figure


def _colour(number: int) -> str:
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def _window(row: list[Example]) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right): a square with all that truth and predictions mark."""
    marked = np.zeros_like(row[0].truth, dtype=bool)
    for example in row:
        marked |= (example.truth > 0) | (example.predicted > 0)
    height, width = marked.shape
    if not marked.any():
        return 0, height, 0, width
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 + 2 * MARGIN_PIXELS
    side = int(min(side, height, width))
    top = int(np.clip((rows[0] + rows[-1] + 1 - side) // 2, 0, height - side))
    left = int(np.clip((columns[0] + columns[-1] + 1 - side) // 2, 0, width - side))
    return top, top + side, left, left + side


def _draw_slice(
    axes: Axes, example: Example, window: tuple[int, int, int, int], classes: int
) -> None:
    top, bottom, left, right = window
    axes.imshow(example.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for number in range(1, classes):
        _outline(axes, example.truth == number, "white", 0.8, (0, (1.5, 1)), 3)
        _outline(axes, example.predicted == number, _colour(number), 1.1, "-", 2)
    axes.set_xlim(left - 0.5, right - 0.5)
    axes.set_ylim(bottom - 0.5, top - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    score = slice_dice(example.truth, example.predicted, classes)
    text = "no foreground" if np.isnan(score) else f"Dice {score:.2f}"
    axes.set_xlabel(text, fontsize=6.5, labelpad=1.5)


def _outline(
    axes: Axes, mask: np.ndarray, colour: str, line_width: float, style: object, order: int
) -> None:
    """Draw the border of a mask of shape (H, W); an empty one has none."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)  # so that outlines close at the image's edge
    rows, columns = np.arange(padded.shape[0]) - 1, np.arange(padded.shape[1]) - 1
    axes.contour(
        columns,
        rows,
        padded,
        levels=[0.5],
        colors=[colour],
        linewidths=[line_width],
        linestyles=[style],
        zorder=order,
    )


if __name__ == "__main__":
    command_line.run(plot_slices)
