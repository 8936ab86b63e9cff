"""Draw a map of the network: units as boxes, their kernels coloured by the drop."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from nontrivial.display import figure_style
from nontrivial.display.figure_style import GREY, LIGHT_GREY, MM_PER_INCH
from nontrivial.display.kernel_rows import block_name, runs, short_labels
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
from nontrivial.networks.kernel_table import Kernel, read_table

COLOURS = "YlOrRd"  # ColorBrewer; its lightness is monotone, so it works without colour vision
DARK = 0.55  # position on the scale above which text on a cell is white
CELL_MM, LEAST_CELL_MM, CELL_HEIGHT_MM = 9.0, 5.6, 6.5
NAMED_CELL_MM = 6.5  # narrower cells are too small for a kernel's name
STRIP_MM = 4.2  # height of a shortcut above its unit
INSET_MM, GAP_MM = 0.8, 1.6
LINE_MM = 20.5  # from one line of units to the next
HEADER_MM, LEFT_MM, RIGHT_MM = 20, 15, 2
NAME_CHARACTER_MM = 1.05  # width of a character of the cells' names (5 pt)
UNDECIDED_HATCH, HARMFUL_HATCH, CUT_HATCH = "/////", ".....", "xxxxx"
HATCHES = {"undecided": UNDECIDED_HATCH, "harmful": HARMFUL_HATCH}  # by verdict


@dataclass(frozen=True)
class Unit:
    """The kernels of a box: those on the main path, and the shortcuts drawn above them."""

    name: str
    main: tuple[Kernel, ...]
    shortcuts: tuple[Kernel, ...]
    residual: bool  # whether a path bypasses the main path


def plot_map(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    kernels: Path,
    svg: Path,
    png: Path,
) -> None:
    """Draw every kernel of the network in its place, coloured by the drop when it is zeroed.

    Args:
        settings: mapping with ``experiment``, ``width_mm`` and ``dpi``.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        kernels: the network's kernel table.
        svg: the figure as SVG, to write.
        png: the figure as PNG, to write.

    Raises:
        UserError: a file cannot be read, or a kernel has no layer target in the results.
    """
    outcomes = select_outcomes(
        *read_results(summary, across_seeds, margins), settings["experiment"]
    )
    table = read_table(kernels)
    layers = {outcome.kernels[0]: outcome for outcome in outcomes.of_kind("layer")}
    missing = [kernel.path for kernel in table if kernel.path not in layers]
    if missing:
        raise UserError(
            f"summary: experiment {settings['experiment']!r} has no layer target for {missing[0]}"
            f" of {kernels}; add 'layer' to its sets, or use the kernel table of its network"
        )
    with figure_style.styled():
        figure = _draw(outcomes, table, layers, settings["width_mm"])
        figure_style.save(figure, svg, png, settings["dpi"])


def units_of(kernels: list[Kernel]) -> list[tuple[str, list[Unit]]]:
    """Return the units of every block in forward order; stem and head have one per kernel."""
    names = [block_name(kernel.block, kernel.role) for kernel in kernels]
    labels = short_labels([kernel.path for kernel in kernels], names)
    blocks = []
    for run in runs(names):
        part = kernels[run.start : run.stop]
        if part[0].block is None:
            units = [
                Unit(labels[run.start + i], (kernel,), (), False) for i, kernel in enumerate(part)
            ]
        else:
            units = [_unit(part, number) for number in dict.fromkeys(k.unit for k in part)]
        blocks.append((run.name, units))
    return blocks


def _unit(block: list[Kernel], number: int) -> Unit:
    kernels = [kernel for kernel in block if kernel.unit == number]
    main = tuple(kernel for kernel in kernels if kernel.role != "shortcut")
    shortcuts = tuple(kernel for kernel in kernels if kernel.role == "shortcut")
    # A residual unit has at least two kernels; a plain network's layer is a unit of one.
    return Unit(f"unit {number}", main, shortcuts, bool(shortcuts) or len(main) > 1)


def _unit_width(unit: Unit, cell: float) -> float:
    width = max(len(unit.main), 1) * cell + 2 * INSET_MM
    if not unit.residual:
        width = max(width, len(unit.name) * NAME_CHARACTER_MM)
    return width


def _lines(units: list[Unit], cell: float, room: float) -> list[list[Unit]]:
    """Break a block's units into lines that fit the width."""
    lines: list[list[Unit]] = []
    used = room
    for unit in units:
        width = _unit_width(unit, cell) + GAP_MM
        if used + width > room + GAP_MM or not lines:
            lines.append([])
            used = 0.0
        lines[-1].append(unit)
        used += width
    return lines


def _cell_width(blocks: list[tuple[str, list[Unit]]], room: float) -> float:
    """Return the widest cell, within limits, with which every block fits into one line."""
    fits = [
        (room - len(units) * (2 * INSET_MM + GAP_MM)) / sum(len(unit.main) for unit in units)
        for _, units in blocks
        if units[0].residual and any(unit.main for unit in units)
    ]
    return max(LEAST_CELL_MM, min([CELL_MM, *fits]))


def _draw(
    outcomes: ExperimentOutcomes, kernels: list[Kernel], layers: dict[str, Outcome], width: float
) -> Figure:
    blocks = units_of(kernels)
    room = width - LEFT_MM - RIGHT_MM
    cell = _cell_width(blocks, room)
    lines = [(name, _lines(units, cell, room)) for name, units in blocks]
    header = HEADER_MM if width >= 2 * figure_style.MIN_WIDTH_MM else HEADER_MM + 10
    text = " ".join([f"{describe(outcomes)}.", *limits(outcomes)])
    note_mm = figure_style.note_height(text, outcomes.demonstration, width)
    height = header + LINE_MM * sum(len(rows) for _, rows in lines) + max(6, note_mm)
    figure = figure_style.plt.figure(figsize=figure_style.inches(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    measured = [outcome for outcome in layers.values() if outcome.status != "cut"]
    highest = max([outcome.drop for outcome in measured] + [outcomes.margin])
    scale = ScalarMappable(Normalize(0, highest), COLOURS)
    _draw_header(figure, outcomes, layers, scale, width)
    top = header
    for name, rows in lines:
        for number, row in enumerate(rows):
            if number == 0:
                axes.text(2, top + STRIP_MM + CELL_HEIGHT_MM / 2, name, va="center", fontsize=7)
            _draw_line(axes, row, layers, scale, top, cell)
            top += LINE_MM
    figure_style.note(figure, text, outcomes.demonstration)
    return figure


def _draw_header(
    figure: Figure,
    outcomes: ExperimentOutcomes,
    layers: dict[str, Outcome],
    scale: ScalarMappable,
    width: float,
) -> None:
    metric = METRIC_NAMES[outcomes.metric]
    title = f"{outcomes.experiment}: where the network is fragile"
    figure_style.text_mm(figure, 2, 1.5, title, fontsize=8, fontweight="bold")
    bar = figure_style.axes_mm(figure, LEFT_MM, 7, min(60.0, width - LEFT_MM - 10), 2.5)
    figure.colorbar(scale, cax=bar, orientation="horizontal", extend="min").outline.set_linewidth(
        0.4
    )
    bar.set_xlabel(f"drop in {metric} when zeroed (baseline {outcomes.baseline.value:.3f})")
    bar.xaxis.labelpad = 1
    handles = [Patch(fc="white", ec=GREY, label="decided")]
    found = layers.values()
    for verdict, hatch in HATCHES.items():
        if any(outcome.verdict == verdict for outcome in found):
            handles.append(Patch(fc="white", ec=GREY, hatch=hatch, lw=0.5, label=verdict))
    if any(outcome.status == "cut" for outcome in found):
        handles.append(
            Patch(fc="white", ec=GREY, hatch=CUT_HATCH, lw=0.5, label="cut: by construction")
        )
    narrow = width < 2 * figure_style.MIN_WIDTH_MM
    page_height = MM_PER_INCH * figure.get_size_inches()[1]
    figure.legend(
        handles=handles[1:] if outcomes.demonstration else handles,
        loc="upper left",
        bbox_to_anchor=(0 if narrow else 85 / width, 1 - (17 if narrow else 6) / page_height),
        borderaxespad=0.2,
    )


def _draw_line(
    axes: Axes,
    units: list[Unit],
    layers: dict[str, Outcome],
    scale: ScalarMappable,
    top: float,
    cell: float,
) -> None:
    left = float(LEFT_MM)
    for number, unit in enumerate(units):
        width = _unit_width(unit, cell)
        body = top + STRIP_MM
        if unit.residual:
            axes.add_patch(
                FancyBboxPatch(
                    (left, top - 0.4),
                    width,
                    STRIP_MM + CELL_HEIGHT_MM + 1.2,
                    boxstyle="round,pad=0,rounding_size=0.9",
                    fc="#FAFAFA",
                    ec="#999999",
                    lw=0.6,
                )
            )
            _draw_bypass(axes, unit, layers, scale, left, top, width)
        inner = (width - 2 * INSET_MM) / max(len(unit.main), 1)
        for i, kernel in enumerate(unit.main):
            x = left + INSET_MM + i * inner
            _draw_cell(axes, layers[kernel.path], scale, (x, body), (inner, CELL_HEIGHT_MM))
            if unit.residual and cell >= NAMED_CELL_MM:
                _small(axes, x + inner / 2, body + CELL_HEIGHT_MM + 1.1, kernel.path.split(".")[-1])
        below = body + CELL_HEIGHT_MM + (3.4 if unit.residual and cell >= NAMED_CELL_MM else 1.1)
        _small(axes, left + width / 2, below, unit.name)
        if unit.residual and number + 1 < len(units):  # a head's kernels may be parallel
            middle = body + CELL_HEIGHT_MM / 2
            axes.plot([left + width, left + width + GAP_MM], [middle] * 2, color=GREY, lw=0.8)
        left += width + GAP_MM


def _draw_bypass(
    axes: Axes,
    unit: Unit,
    layers: dict[str, Outcome],
    scale: ScalarMappable,
    left: float,
    top: float,
    width: float,
) -> None:
    """Draw the bypass of a unit: its shortcut kernels, or a line for the identity."""
    if not unit.shortcuts:
        axes.plot([left + 1, left + width - 1], [top + STRIP_MM / 2] * 2, color="#999999", lw=0.9)
        return
    inner = (width - 2 * INSET_MM) / len(unit.shortcuts)
    for i, kernel in enumerate(unit.shortcuts):
        _draw_cell(
            axes,
            layers[kernel.path],
            scale,
            (left + INSET_MM + i * inner, top + 0.3),
            (inner, STRIP_MM - 0.8),
        )


def _draw_cell(
    axes: Axes,
    outcome: Outcome,
    scale: ScalarMappable,
    corner: tuple[float, float],
    size: tuple[float, float],
) -> None:
    cut = outcome.status == "cut"
    share = float(scale.norm(outcome.drop))
    hatch = HATCHES.get(outcome.verdict) if outcome.verdict else None
    axes.add_patch(
        Rectangle(
            corner,
            *size,
            facecolor=LIGHT_GREY if cut else scale.to_rgba(outcome.drop),
            edgecolor="#B8B8B8" if cut or hatch else "#666666",
            hatch=CUT_HATCH if cut else hatch,
            lw=0.4,
        )
    )
    axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor="#666666", lw=0.4))
    text = axes.text(
        corner[0] + size[0] / 2,
        corner[1] + size[1] / 2,
        "cut" if cut else _spell(outcome.drop),
        ha="center",
        va="center",
        fontsize=5,
        color="white" if share > DARK and not cut else "black",
    )
    if cut or hatch:
        face = LIGHT_GREY if cut else scale.to_rgba(outcome.drop)
        text.set_bbox({"facecolor": face, "edgecolor": "none", "pad": 0.6})


def _spell(drop: float) -> str:
    """Return a drop in two decimals without the leading zero: ``.08``, ``-.01``."""
    text = f"{drop:.2f}".replace("0.", ".", 1)
    return ".00" if text == "-.00" else text


def _small(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="top", fontsize=5, color="#333333")


if __name__ == "__main__":
    command_line.run(plot_map)
