"""Plot experiments 2 and 3, block interiors and shortcuts zeroed, beside the paper's values."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nontrivial.display import figure_style
from nontrivial.display.figure_style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    Outcome,
    describe,
    read_results,
    select_outcomes,
)
from nontrivial.display.paper import PAPERS_SOURCE, PaperValue, read_paper_values
from nontrivial.errors import UserError
from nontrivial.execution import command_line

PANELS = {"block": "Kernels inside a block zeroed", "shortcut": "Shortcut kernel zeroed"}
READING_STYLE = {
    "first-unit": (BLUE, "o"),
    "next": (ORANGE, "v"),
    "both-sides": (GREEN, "^"),
    "none": (PURPLE, "s"),
}
SHORTCUT_STYLE = (VERMILLION, "P")
SPREAD = 0.6  # width of the marks of one block over the distance between two blocks
SEED_OFFSET = 0.05  # of marks of single seeds from their mean, in blocks
LEFT_MM, RIGHT_MM, GAP_MM = 13, 3, 8
AXES_MM = 46
LEGEND_ENTRY_MM = 40
MIN_PANEL_MM = 60  # narrower panels are stacked


def plot_interventions(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    paper: Path,
    svg: Path,
    png: Path,
) -> None:
    """Plot one panel for blocks and one for shortcuts; open marks show the paper's values.

    Args:
        settings: ``experiment``, ``paper`` (``cifar10``, ``t1`` or None), ``source`` of the data,
            ``width_mm``, ``dpi``.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        paper: the paper's numbers.
        svg: the figure as SVG, to write.
        png: the figure as PNG, to write.

    Raises:
        UserError: a file cannot be read, or the experiment has neither kind of target.
    """
    outcomes = select_outcomes(
        *read_results(summary, across_seeds, margins), settings["experiment"]
    )
    kinds = [kind for kind in PANELS if outcomes.of_kind(kind)]
    if not kinds:
        raise UserError(
            f"summary: experiment {settings['experiment']!r} has no block or shortcut targets;"
            " add 'block' or 'shortcut' to its sets"
        )
    published = [value for value in read_paper_values(paper) if value.task == settings["paper"]]
    same_data = settings["source"] == PAPERS_SOURCE.get(settings["paper"])
    with figure_style.styled():
        figure = _draw(outcomes, published, kinds, same_data, settings["width_mm"])
        figure_style.save(figure, svg, png, settings["dpi"])


def _draw(
    outcomes: ExperimentOutcomes,
    published: list[PaperValue],
    kinds: list[str],
    same_data: bool,
    width: float,
) -> Figure:
    room = width - LEFT_MM - RIGHT_MM
    beside = (room - GAP_MM * (len(kinds) - 1)) / len(kinds) >= MIN_PANEL_MM
    panel = (room - GAP_MM * (len(kinds) - 1)) / len(kinds) if beside else room
    handles = _legend(outcomes, published, kinds)
    columns = max(1, int(width / LEGEND_ENTRY_MM))
    legend_mm = 7 + 3.4 * -(-len(handles) // columns)
    per_row = AXES_MM + 17
    rows = 1 if beside else len(kinds)
    height = legend_mm + rows * per_row + 4
    figure = figure_style.plt.figure(figsize=figure_style.inches(width, height))
    metric = METRIC_NAMES[outcomes.metric]
    figure_style.text_mm(
        figure,
        2,
        1.5,
        f"{outcomes.experiment}: {metric} with several kernels zeroed",
        fontsize=8,
        fontweight="bold",
    )
    figure_style.legend_mm(figure, handles, 5, columns)
    everything = [outcomes.baseline, *outcomes.of_kind(*kinds)]
    highest = max([o.high or o.value for o in everything] + [value.value for value in published])
    lowest = min(0.0, *(o.low or 0.0 for o in everything))
    pad = 0.04 * (highest - lowest)  # so that a mark at 0 is not cut off
    for number, kind in enumerate(kinds):
        left = LEFT_MM + (number * (panel + GAP_MM) if beside else 0)
        top = legend_mm + 5 + (0 if beside else number * per_row)
        axes = figure_style.axes_mm(figure, left, top, panel, AXES_MM)
        _draw_panel(axes, outcomes, published, kind)
        axes.set_ylim(lowest - pad, highest + pad)
        if number == 0 or not beside:
            axes.set_ylabel(f"{metric} ({outcomes.split})")
        figure_style.panel_title(axes, PANELS[kind])
    text = describe(outcomes)
    if published and not same_data:
        text += "; not the paper's data"
    figure_style.note(figure, text, outcomes.demonstration)
    return figure


def _draw_panel(
    axes: Axes, outcomes: ExperimentOutcomes, published: list[PaperValue], kind: str
) -> None:
    targets = outcomes.of_kind(kind)
    readings = list(dict.fromkeys(target.reading for target in targets))
    beside = [value for value in published if value.kind == kind]
    blocks = sorted({target.block for target in targets} | {value.block for value in beside})
    slots = len(readings) + bool(beside)
    step = SPREAD / slots
    place = {block: number for number, block in enumerate(blocks)}

    def x(block: int, slot: int) -> float:
        return place[block] + (slot - (slots - 1) / 2) * step

    _draw_baseline(axes, outcomes.baseline, published)
    for value in beside:
        axes.plot(x(value.block, 0), value.value, "D", ms=5, mfc="white", mec=BLACK, mew=1.0)
    for target in targets:
        slot = readings.index(target.reading) + bool(beside)
        style = READING_STYLE.get(target.reading, SHORTCUT_STYLE)
        _draw_target(axes, x(target.block, slot), target, *style)
    axes.set_xticks(list(place.values()), [f"block {block}" for block in blocks])
    axes.set_xlim(-0.5, len(blocks) - 0.5)
    axes.tick_params(axis="x", length=0)
    for boundary in range(1, len(blocks)):
        axes.axvline(boundary - 0.5, color=figure_style.LIGHT_GREY, lw=0.8, zorder=0)


def _draw_baseline(axes: Axes, baseline: Outcome, published: list[PaperValue]) -> None:
    if baseline.low is not None:
        axes.axhspan(baseline.low, baseline.high, color=GREY, alpha=0.3, lw=0, zorder=0)
    axes.axhline(baseline.value, color=GREY, lw=1.0, zorder=1)
    for value in published:
        if value.kind == "baseline":
            axes.axhline(value.value, color=BLACK, lw=0.8, ls=(0, (4, 3)), zorder=1)


def _draw_target(axes: Axes, x: float, target: Outcome, colour: str, marker: str) -> None:
    if target.low is not None:
        axes.plot([x, x], [target.low, target.high], color=colour, lw=1.1, zorder=3)
    if len(target.seeds) > 1:
        axes.plot(
            [x + SEED_OFFSET] * len(target.seeds),
            [seed.value for seed in target.seeds],
            linestyle="none",
            marker=".",
            markersize=2.5,
            markeredgewidth=0,
            color=GREY,
            zorder=2,
        )
    axes.plot(x, target.value, marker, ms=4.5, mfc=colour, mec=colour, mew=0.8, zorder=4)
    if target.status == "cut":
        axes.plot(x, target.value, "x", ms=7, color=GREY, mew=1.0, zorder=5)


def _legend(
    outcomes: ExperimentOutcomes, published: list[PaperValue], kinds: list[str]
) -> list[Line2D]:
    handles = []
    if published:
        handles += [
            Line2D([], [], ls="none", marker="D", ms=5, mfc="white", mec=BLACK, label="paper"),
            Line2D([], [], color=BLACK, lw=0.8, ls=(0, (4, 3)), label="paper's baseline"),
        ]
    if "block" in kinds:
        for reading in dict.fromkeys(o.reading for o in outcomes.of_kind("block")):
            colour, marker = READING_STYLE[reading]
            label = f"this run, reading {reading}"
            handles.append(
                Line2D([], [], ls="none", marker=marker, ms=4.5, color=colour, label=label)
            )
    if "shortcut" in kinds:
        colour, marker = SHORTCUT_STYLE
        handles.append(
            Line2D(
                [], [], ls="none", marker=marker, ms=4.5, color=colour, label="this run, shortcut"
            )
        )
    value = outcomes.baseline.value
    handles.append(Line2D([], [], color=GREY, lw=1.0, label=f"baseline of this run {value:.3f}"))
    if outcomes.seed_count > 1:
        handles.append(Line2D([], [], ls="none", marker=".", ms=3, color=GREY, label="one seed"))
    if any(o.status == "cut" for o in outcomes.of_kind(*kinds)):
        handles.append(
            Line2D([], [], ls="none", marker="x", ms=6, color=GREY, label="cut, by construction")
        )
    return handles


if __name__ == "__main__":
    command_line.run(plot_interventions)
