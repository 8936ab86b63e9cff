"""Plot the metric with each kernel zeroed alone (the paper's Figures 1 and 2)."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nontrivial.display import figure_style
from nontrivial.display.figure_style import GREY, LIGHT_GREY, ROLE_COLOURS, ROLE_MARKERS
from nontrivial.display.kernel_rows import block_name, row_breaks, runs, short_labels
from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    Outcome,
    describe,
    limits,
    read_results,
    select_outcomes,
)
from nontrivial.errors import UserError
from nontrivial.execution import command_line

PITCH_MM = 3.1  # smallest distance of two kernels, for a 6 pt label each
LABEL_CHARACTER_MM = 1.25  # width of a character of the tick labels
LEFT_MM, RIGHT_MM = 13, 3
ROW_MM = 42  # height of a row's axes
LEGEND_ENTRY_MM = 29  # width of one legend entry
BLOCK_GAP = 1.1  # empty space between blocks, in kernels
SEED_OFFSET = 0.28  # of marks of single seeds from their mean, in kernels
HALF_A_MARK = 0.04  # space below 0 as a share of the range, so that marks are not cut off
TOP_OF_AXIS = 1.12  # upper limit over the highest value, leaving space for block names


def plot_layers(
    settings: dict, summary: Path, across_seeds: Path, margins: Path, svg: Path, png: Path
) -> None:
    """Plot one mark per kernel in forward order with its interval, and the baseline.

    Args:
        settings: mapping with ``experiment``, ``width_mm`` and ``dpi``.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        svg: the figure as SVG, to write.
        png: the figure as PNG, to write.

    Raises:
        UserError: a file cannot be read, or the experiment has no layer targets.
    """
    outcomes = select_outcomes(
        *read_results(summary, across_seeds, margins), settings["experiment"]
    )
    layers = sorted(outcomes.of_kind("layer"), key=lambda outcome: outcome.order)
    if not layers:
        raise UserError(
            f"summary: experiment {settings['experiment']!r} has no layer targets;"
            " add 'layer' to its sets"
        )
    with figure_style.styled():
        figure = _draw(outcomes, layers, settings["width_mm"])
        figure_style.save(figure, svg, png, settings["dpi"])


def _draw(outcomes: ExperimentOutcomes, layers: list[Outcome], width: float) -> Figure:
    names = [block_name(layer.block, layer.role) for layer in layers]
    labels = short_labels([layer.kernels[0] for layer in layers], names)
    plot_width = width - LEFT_MM - RIGHT_MM
    most = int(plot_width / PITCH_MM / 1.15)  # gaps between blocks take about a tenth of the width
    rows = row_breaks(names, most)
    handles = _legend(outcomes, layers)
    columns = max(1, int(width / LEGEND_ENTRY_MM))
    legend_mm = 8 + 3.4 * -(-len(handles) // columns)
    label_mm = [4 + LABEL_CHARACTER_MM * max(map(len, labels[start:stop])) for start, stop in rows]
    text = " ".join([f"{describe(outcomes)}.", *limits(outcomes)])
    note_mm = figure_style.note_height(text, outcomes.demonstration, width)
    height = legend_mm + sum(ROW_MM + extra for extra in label_mm) + max(6, note_mm)
    figure = figure_style.plt.figure(figsize=figure_style.inches(width, height))
    metric = METRIC_NAMES[outcomes.metric]
    figure_style.text_mm(
        figure,
        2,
        1.5,
        f"{outcomes.experiment}: {metric} with one kernel zeroed",
        fontsize=8,
        fontweight="bold",
    )
    figure_style.legend_mm(figure, handles, 5, columns)
    highest = max(outcome.high or outcome.value for outcome in [outcomes.baseline, *layers])
    lowest = min(0.0, *(outcome.low or 0.0 for outcome in layers))
    longest = max(_positions(names[start:stop])[-1] for start, stop in rows)
    top = legend_mm
    for (start, stop), extra in zip(rows, label_mm, strict=True):
        axes = figure_style.axes_mm(figure, LEFT_MM, top, plot_width, ROW_MM)
        _draw_row(axes, outcomes.baseline, layers[start:stop], labels[start:stop])
        axes.set_xlim(-0.8, longest + 0.8)
        if highest > lowest:
            axes.set_ylim(lowest - HALF_A_MARK * (highest - lowest), highest * TOP_OF_AXIS)
        axes.set_ylabel(f"{metric} ({outcomes.split})")
        top += ROW_MM + extra
    figure_style.note(figure, text, outcomes.demonstration)
    return figure


def _positions(names: list[str]) -> list[float]:
    """Return each kernel's position on the horizontal axis: 1 apart, more between blocks."""
    return [
        i + BLOCK_GAP * number
        for number, run in enumerate(runs(names))
        for i in range(run.start, run.stop)
    ]


def _draw_row(axes: Axes, baseline: Outcome, layers: list[Outcome], labels: list[str]) -> None:
    names = [block_name(layer.block, layer.role) for layer in layers]
    places = _positions(names)
    for number, run in enumerate(runs(names)):
        left, right = places[run.start] - 0.5, places[run.stop - 1] + 0.5
        axes.axvspan(left, right, color=LIGHT_GREY if number % 2 else "#F5F5F5", lw=0, zorder=0)
        axes.text(
            left + 0.1,
            0.985,
            run.name,
            transform=axes.get_xaxis_transform(),
            ha="left",
            va="top",
            fontsize=6.5,
        )
    if baseline.low is not None:
        axes.axhspan(baseline.low, baseline.high, color=GREY, alpha=0.35, lw=0, zorder=1)
    axes.axhline(baseline.value, color=GREY, lw=0.9, zorder=1)
    for x, layer in zip(places, layers, strict=True):
        _draw_kernel(axes, x, layer)
    axes.set_xticks(places, labels, rotation=90, fontsize=6)
    axes.tick_params(axis="x", length=1.5, pad=1)


def _draw_kernel(axes: Axes, x: float, layer: Outcome) -> None:
    colour, marker = ROLE_COLOURS[layer.role], ROLE_MARKERS[layer.role]
    if layer.low is not None:
        axes.plot([x, x], [layer.low, layer.high], color=colour, lw=0.9, zorder=3)
    if len(layer.seeds) > 1:
        axes.plot(
            [x + SEED_OFFSET] * len(layer.seeds),
            [seed.value for seed in layer.seeds],
            linestyle="none",
            marker=".",
            markersize=2.2,
            markeredgewidth=0,
            color=GREY,
            zorder=2,
        )
    axes.plot(
        x,
        layer.value,
        marker=marker,
        markersize=4,
        markerfacecolor="white" if layer.status == "cut" else _fill(layer.verdict, colour),
        fillstyle="left" if layer.verdict == "harmful" else "full",
        markerfacecoloralt="white",
        markeredgecolor=colour,
        markeredgewidth=0.8,
        zorder=4,
    )
    if layer.status == "cut":
        axes.plot(x, layer.value, marker="x", markersize=6.5, color=GREY, mew=1.0, zorder=5)


def _fill(verdict: str | None, colour: str):
    if verdict == "trivial":
        return "white"
    return figure_style.pale(colour) if verdict == "undecided" else colour


def _legend(outcomes: ExperimentOutcomes, layers: list[Outcome]) -> list:
    def mark(
        label: str, marker: str, edge: str, face, size: float = 4, half: bool = False
    ) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markersize=size,
            markeredgewidth=0.8,
            markeredgecolor=edge,
            markerfacecolor=face,
            markerfacecoloralt="white",
            fillstyle="left" if half else "full",
            label=label,
        )

    roles = [role for role in ROLE_COLOURS if any(layer.role == role for layer in layers)]
    handles = [
        mark(role, ROLE_MARKERS[role], ROLE_COLOURS[role], ROLE_COLOURS[role]) for role in roles
    ]
    for verdict in ("non-trivial", "undecided", "trivial", "harmful"):
        if any(layer.verdict == verdict for layer in layers):
            half = verdict == "harmful"
            handles.append(mark(verdict, "o", "black", _fill(verdict, "#000000"), half=half))
    if any(layer.status == "cut" for layer in layers):
        handles.append(mark("cut, by construction", "x", GREY, GREY, 5.5))
    if outcomes.seed_count > 1:
        handles.append(mark("one seed", ".", GREY, GREY, 2.5))
    handles.append(
        Line2D([], [], color=GREY, lw=0.9, label=f"baseline {outcomes.baseline.value:.3f}")
    )
    if outcomes.baseline.low is not None:
        handles.append(Patch(color=GREY, alpha=0.35, lw=0, label="its interval"))
    return handles


if __name__ == "__main__":
    command_line.run(plot_layers)
