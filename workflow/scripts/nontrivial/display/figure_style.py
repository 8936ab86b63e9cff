"""The common style of figures, and how to lay them out in millimetres and save them.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which are distinguishable with
any common colour vision. Marker shapes repeat what colours say.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from nontrivial.execution.atomic import replacing

MM_PER_INCH = 25.4
MIN_WIDTH_MM = 85  # one journal column; the layouts do not support narrower figures
NOTE_CHARACTER_MM = 1.15  # mean width of a character of the notes (6 pt DejaVu Sans)
NOTE_LINE_MM = 2.7  # distance of two lines of the notes
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#777777"
LIGHT_GREY = "#E6E6E6"

ROLE_COLOURS = {
    "stem": BLACK,
    "decomposition": VERMILLION,
    "adjacent": ORANGE,
    "residual": BLUE,
    "plain": SKY_BLUE,
    "shortcut": PURPLE,
    "head": GREEN,
}
ROLE_MARKERS = {
    "stem": "s",
    "decomposition": "D",
    "adjacent": "v",
    "residual": "o",
    "plain": "h",
    "shortcut": "P",
    "head": "^",
}

_SETTINGS = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every host has it
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "svg.fonttype": "path",  # text looks the same without the font
    "svg.hashsalt": "nontrivial",  # without it, element ids differ from run to run
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the common style to figures drawn and saved inside, then close them."""
    with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]  # its keys are literals
        try:
            yield
        finally:
            plt.close("all")


def inches(width_mm: float, height_mm: float) -> tuple[float, float]:
    """Return a figure size in inches, matplotlib's unit."""
    return width_mm / MM_PER_INCH, height_mm / MM_PER_INCH


def axes_mm(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes; their frame is placed in mm from the figure's upper left corner."""
    page_width, page_height = (MM_PER_INCH * size for size in figure.get_size_inches())
    return figure.add_axes(
        (
            left / page_width,
            1 - (top + height) / page_height,
            width / page_width,
            height / page_height,
        )
    )


def text_mm(figure: Figure, left: float, top: float, text: str, **style: Any) -> Text:
    """Add text; its upper left corner is placed in mm from the figure's."""
    page_width, page_height = (MM_PER_INCH * size for size in figure.get_size_inches())
    style = {"ha": "left", "va": "top"} | style
    return figure.text(left / page_width, 1 - top / page_height, text, **style)


def legend_mm(figure: Figure, handles: Sequence[Artist], top: float, columns: int) -> Legend:
    """Add a legend at the figure's left edge, ``top`` mm below its upper edge."""
    page_height = MM_PER_INCH * figure.get_size_inches()[1]
    return figure.legend(
        handles=handles,
        loc="upper left",
        ncols=columns,
        bbox_to_anchor=(0.0, 1 - top / page_height),
        columnspacing=1.2,
        handletextpad=0.4,
        borderaxespad=0.2,
    )


def pale(colour: str) -> tuple[float, float, float]:
    """Return the colour mixed with white, for marks between filled and open."""
    red, green, blue = (1 - (1 - part) * 0.35 for part in to_rgb(colour))
    return red, green, blue


def note_height(text: str, demonstration: bool, width: float) -> float:
    """Return the height in mm of :func:`note` in a figure of this width in mm."""
    return 2 + NOTE_LINE_MM * len(_note_lines(text, demonstration, width))


def note(figure: Figure, text: str, demonstration: bool) -> None:
    """Add a small note along the lower edge; a demonstration is marked first."""
    page_width, page_height = (MM_PER_INCH * size for size in figure.get_size_inches())
    lines = _note_lines(text, demonstration, page_width)
    figure.text(
        2 / page_width,
        1.5 / page_height,
        "\n".join(lines),
        ha="left",
        va="bottom",
        fontsize=6,
        color="#444444",
        linespacing=1.25,
    )


def _note_lines(text: str, demonstration: bool, width: float) -> list[str]:
    if demonstration:
        text = f"DEMONSTRATION, supports no inference: {text}"
    return textwrap.wrap(text, int((width - 4) / NOTE_CHARACTER_MM))


def panel_title(axes: Axes, text: str) -> None:
    """Set a panel's title at its upper left."""
    axes.set_title(text, loc="left", pad=4)


def save(figure: Figure, svg: Path, png: Path, dpi: int) -> None:
    """Save the figure as SVG and PNG, atomically; equal figures give equal bytes.

    Args:
        figure: drawn inside :func:`styled`.
        svg: path of the vector file.
        png: path of the raster file.
        dpi: pixels per inch of the raster file.
    """
    with replacing(svg) as vector, replacing(png) as raster:
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(raster, format="png", dpi=dpi, metadata={"Software": None})
