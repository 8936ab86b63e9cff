"""Draw learning curves: loss and validation metric per epoch, and the final test metric."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nontrivial.display import figure_style
from nontrivial.display.figure_style import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILLION
from nontrivial.display.outcomes import METRIC_NAMES, count
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.formats.dataset import read_description
from nontrivial.formats.history import read_curves

SEED_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE)
SEED_LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
LEFT_MM, RIGHT_MM, GAP_MM = 13, 4, 14
AXES_MM = 42
LEGEND_ENTRY_MM = 36
MIN_PANEL_MM = 55  # narrower panels are stacked


def plot_learning(settings: dict, dataset: Path, history: list[Path], svg: Path, png: Path) -> None:
    """Plot the training loss and the validation metric of every seed of one training.

    Args:
        settings: ``training``, ``seeds`` (in the order of the histories), ``width_mm``, ``dpi``.
        dataset: ``dataset.json`` of the training's data.
        history: ``training.parquet`` of every seed.
        svg: the figure as SVG, to write.
        png: the figure as PNG, to write.

    Raises:
        UserError: a file cannot be read, or seeds and histories differ in number.
    """
    seeds = settings["seeds"]
    if len(seeds) != len(history):
        raise UserError(
            f"--history: {count(len(history), 'file')} for {count(len(seeds), 'seed')};"
            " pass one per seed, in the order of the seeds"
        )
    runs = {seed: _read(path) for seed, path in zip(seeds, history, strict=True)}
    demonstration = read_description(dataset).demonstration
    with figure_style.styled():
        figure = _draw(settings["training"], runs, demonstration, settings["width_mm"])
        figure_style.save(figure, svg, png, settings["dpi"])


def _read(path: Path) -> dict[str, list]:
    columns = read_curves(path)
    if unknown := set(columns["metric"]) - METRIC_NAMES.keys():
        raise UserError(f"{path}: unknown metric {min(unknown)!r}; delete it and train again")
    return columns


def _draw(training: str, runs: dict[int, dict], demonstration: bool, width: float) -> Figure:
    panel = (width - LEFT_MM - RIGHT_MM - GAP_MM) / 2
    beside = panel >= MIN_PANEL_MM
    if not beside:
        panel = width - LEFT_MM - RIGHT_MM
    entries = len(runs) + 1
    columns = max(1, int(width / LEGEND_ENTRY_MM))
    legend_mm = 8 + 3.4 * -(-entries // columns)
    row_mm = AXES_MM + 12
    figure = figure_style.plt.figure(
        figsize=figure_style.inches(width, legend_mm + row_mm * (1 if beside else 2) + 5)
    )
    title = f"{training}: learning curves"
    figure_style.text_mm(figure, 2, 1.5, title, fontsize=8, fontweight="bold")
    loss = figure_style.axes_mm(figure, LEFT_MM, legend_mm, panel, AXES_MM)
    metric = figure_style.axes_mm(
        figure,
        LEFT_MM + (panel + GAP_MM if beside else 0),
        legend_mm + (0 if beside else row_mm),
        panel,
        AXES_MM,
    )
    handles = []
    for number, (seed, run) in enumerate(runs.items()):
        colour = SEED_COLOURS[number % len(SEED_COLOURS)]
        style = {"color": colour, "ls": SEED_LINES[number % len(SEED_LINES)]}
        if len(run["epoch"]) == 1:
            style |= {"marker": "o", "ms": 2.5}  # a single epoch is a point, not a line
        loss.plot(run["epoch"], run["loss"], **style)
        handles += metric.plot(run["epoch"], run["val"], label=f"seed {seed}", **style)
        metric.plot(
            run["epoch"][-1], run["test"][-1], "*", ms=7, mfc=colour, mec="black", mew=0.4, zorder=4
        )
    handles += metric.plot([], [], "*", ms=7, mfc="white", mec="black", mew=0.5, label="test, once")
    figure_style.legend_mm(figure, handles, 5.5, columns)
    _label(loss, "training loss")
    loss.set_ylim(bottom=0)
    some = next(iter(runs.values()))
    _label(metric, f"{METRIC_NAMES[some['metric'][0]]} (validation)")
    seeds = count(len(runs), "seed")
    epochs = count(max(len(run["epoch"]) for run in runs.values()), "epoch")
    scores = ", ".join(f"{run['test'][-1]:.3f}" for run in runs.values())
    text = f"{seeds}, {epochs}; the last epoch's weights are the result; test {scores}"
    figure_style.note(figure, text, demonstration)
    return figure


def _label(axes: Axes, what: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


if __name__ == "__main__":
    command_line.run(plot_learning)
