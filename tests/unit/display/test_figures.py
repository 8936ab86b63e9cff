import json
import re
from itertools import combinations
from pathlib import Path

import made_results
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text

from nontrivial.display import figure_style
from nontrivial.display.figure_style import ROLE_COLOURS, ROLE_MARKERS
from nontrivial.display.kernel_rows import row_breaks, short_labels
from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import ROLES, write_table
from plot_interventions import plot_interventions
from plot_layers import plot_layers
from plot_learning import plot_learning
from plot_map import HATCHES, plot_map, units_of
from plot_slices import plot_slices, slice_dice

PAPER = Path(__file__).parents[3] / "resources" / "paper" / "results.csv"
TOUCH = 1.0  # pixels by which text boxes may overlap


@pytest.fixture
def drawn(monkeypatch):
    """The saved figures, still open for inspection."""
    figures = []
    save = figure_style.save

    def keep(figure, *arguments):
        save(figure, *arguments)
        figures.append((figure, _text_boxes(figure)))

    monkeypatch.setattr(figure_style, "save", keep)
    return figures


def _text_boxes(figure):
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = _undrawn_labels(figure)
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def _undrawn_labels(figure):
    """Labels of ticks outside the limits, or of axes that are switched off, are never drawn."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not axes.axison or not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return hidden


def assert_readable(figure, boxes):
    width, height = figure.get_size_inches() * figure.dpi
    for name, box in boxes:
        assert box.x0 >= -TOUCH, f"{name!r} is clipped at the left"
        assert box.y0 >= -TOUCH, f"{name!r} is clipped below"
        assert box.x1 <= width + TOUCH, f"{name!r} is clipped at the right"
        assert box.y1 <= height + TOUCH, f"{name!r} is clipped above"
    for (name, one), (other_name, other) in combinations(boxes, 2):
        apart = (
            one.x1 <= other.x0 + TOUCH
            or other.x1 <= one.x0 + TOUCH
            or one.y1 <= other.y0 + TOUCH
            or other.y1 <= one.y0 + TOUCH
        )
        assert apart, f"{name!r} overlaps {other_name!r}"


NETWORKS = [
    ("resnet18", "accuracy", (0,)),
    ("resnet34", "accuracy", (0, 1, 2)),
    ("resnet50", "accuracy", (0,)),
    ("resnet101", "accuracy", (0,)),
    ("pspnet_resnet34", "dice", (0, 1, 2)),
]
READINGS = ("first-unit", "next", "both-sides", "none")


def draw(program, folder, network, metric, seeds, width, name="out", **options):
    rows = made_results.rows("e", network, seeds=seeds, metric=metric, readings=READINGS, **options)
    tables = made_results.write(folder, rows)
    settings = {
        "experiment": "e",
        "paper": "cifar10",
        "source": "digits",
        "width_mm": width,
        "dpi": 60,
    }
    outputs = folder / f"{name}.svg", folder / f"{name}.png"
    extra = {
        "plot_layers": [],
        "plot_interventions": [PAPER],
        "plot_map": [made_results.KERNELS / f"{network}.tsv"],
    }[program.__name__]
    program(settings, *tables, *extra, *outputs)
    return outputs


@pytest.mark.parametrize("width", [85, 180])
@pytest.mark.parametrize(("network", "metric", "seeds"), NETWORKS)
@pytest.mark.parametrize("program", [plot_layers, plot_map, plot_interventions])
def test_no_text_is_clipped_or_overlaps(tmp_path, drawn, program, network, metric, seeds, width):
    draw(program, tmp_path, network, metric, seeds, width)
    assert_readable(*drawn[0])


@pytest.mark.parametrize("program", [plot_layers, plot_map, plot_interventions])
def test_equal_results_give_equal_bytes(tmp_path, program):
    one = draw(program, tmp_path, "resnet18", "accuracy", (0,), 180, "one")
    two = draw(program, tmp_path, "resnet18", "accuracy", (0,), 180, "two")
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert len(first.read_bytes()) > 5_000
    assert "<dc:date>" not in one[0].read_text()


@pytest.mark.parametrize("program", [plot_layers, plot_map, plot_interventions])
def test_figures_mark_a_demonstration(tmp_path, drawn, program):
    draw(program, tmp_path, "pspnet_resnet34", "dice", (0,), 180, demonstration=True)
    texts = [name for name, _ in drawn[0][1]]
    assert any("DEMONSTRATION" in text for text in texts)
    assert any("no intervals" in text for text in texts)


def test_every_role_has_its_own_colour_and_marker():
    assert set(ROLE_COLOURS) == set(ROLE_MARKERS) == set(ROLES)
    assert len(set(ROLE_COLOURS.values())) == len(set(ROLE_MARKERS.values())) == len(ROLES)


def test_layers_draws_every_kernel_once_at_its_value(tmp_path, drawn):
    rows = made_results.rows("e", "pspnet_resnet34", metric="dice")
    expected = {
        row["target"]: (row["role"], row["value"])
        for row in rows
        if row["kind"] == "layer" and row["class"] is None
    }
    tables = made_results.write(tmp_path, rows)
    settings = {"experiment": "e", "width_mm": 180, "dpi": 60}
    plot_layers(settings, *tables, tmp_path / "a.svg", tmp_path / "a.png")
    found = [
        (line.get_marker(), line.get_color(), round(float(line.get_ydata()[0]), 12))
        for axes in drawn[0][0].axes
        for line in axes.lines
        if line.get_marker() in ROLE_MARKERS.values() and len(line.get_xdata()) == 1
    ]
    marks = sorted((marker, value) for marker, _, value in found)
    assert marks == sorted(
        (ROLE_MARKERS[role], round(value, 12)) for role, value in expected.values()
    )


def harmful(target, seed):
    """Return values at which some kernels are harmful, trivial, undecided and non-trivial."""
    if target.kind == "baseline":
        return 0.8
    return 0.8 - {0: -0.1, 1: 0.0, 2: 0.01}.get(target.order % 4, 0.3)


@pytest.mark.parametrize("width", [85, 180])
def test_every_verdict_of_a_layer_has_its_own_mark(tmp_path, drawn, width):
    draw(plot_layers, tmp_path, "resnet18", "accuracy", (0,), width, values=harmful, cut=())
    assert_readable(*drawn[0])
    handles = {handle.get_label(): handle for handle in drawn[0][0].legends[0].legend_handles}
    verdicts = ("non-trivial", "undecided", "trivial", "harmful")
    looks = {
        (handles[name].get_fillstyle(), to_hex(handles[name].get_markerfacecolor()))
        for name in verdicts
    }
    assert len(looks) == 4  # in shades of grey
    marks = [line for axes in drawn[0][0].axes for line in axes.lines]
    assert sum(line.get_fillstyle() == "left" for line in marks) == 5


@pytest.mark.parametrize("width", [85, 180])
def test_every_verdict_of_a_cell_has_its_own_hatch(tmp_path, drawn, width):
    draw(plot_map, tmp_path, "resnet18", "accuracy", (0,), width, values=harmful, cut=())
    assert_readable(*drawn[0])
    hatches = [patch.get_hatch() for patch in drawn[0][0].axes[0].patches]
    for verdict in ("undecided", "harmful"):
        assert HATCHES[verdict] in hatches
    labels = [text.get_text() for text in drawn[0][0].legends[0].get_texts()]
    assert labels == ["decided", "undecided", "harmful"]


@pytest.mark.parametrize("width", [85, 180])
@pytest.mark.parametrize("program", [plot_layers, plot_map])
def test_figures_say_what_the_data_cannot_show(tmp_path, drawn, program, width):
    draw(program, tmp_path, "resnet18", "accuracy", (0, 1), width)
    assert_readable(*drawn[0])
    text = " ".join(name.replace("\n", " ") for name, _ in drawn[0][1])
    assert "Two seeds give intervals but no tests and no verdicts." in text


def test_interventions_draws_the_papers_values_as_open_marks(tmp_path, drawn):
    draw(plot_interventions, tmp_path, "resnet34", "accuracy", (0,), 180)
    open_marks = sorted(
        float(line.get_ydata()[0])
        for axes in drawn[0][0].axes
        for line in axes.lines
        if line.get_marker() == "D" and line.get_markerfacecolor() == "white"
    )
    assert open_marks == [0.16, 0.28, 0.33, 0.51, 0.61, 0.83, 0.84]


def test_map_shows_the_drop_of_every_kernel(tmp_path, drawn):
    rows = made_results.rows("e", "resnet50")
    tables = made_results.write(tmp_path, rows)
    settings = {"experiment": "e", "width_mm": 180, "dpi": 60}
    table = made_results.KERNELS / "resnet50.tsv"
    plot_map(settings, *tables, table, tmp_path / "a.svg", tmp_path / "a.png")
    cells = sorted(
        name
        for name, _ in drawn[0][1]
        if re.fullmatch(r"-?\.\d\d|1\.00|cut", name)
    )  # fmt: skip
    layers = [row for row in rows if row["kind"] == "layer" and row["class"] is None]
    expected = [
        "cut" if row["status"] == "cut" else f"{row['drop']:.2f}".replace("0.", ".")
        for row in layers
    ]
    assert cells == sorted(".00" if text == "-.00" else text for text in expected)


@pytest.mark.parametrize("network", [name for name, _, _ in NETWORKS])
def test_map_has_every_kernel_in_one_box(network):
    kernels = made_results.kernels_of(network)
    boxed = [
        kernel
        for _, units in units_of(kernels)
        for unit in units
        for kernel in (*unit.main, *unit.shortcuts)
    ]
    assert sorted(boxed, key=lambda kernel: kernel.order) == kernels


def test_map_refuses_the_table_of_another_network(tmp_path):
    tables = made_results.write(tmp_path, made_results.rows("e", "resnet18"))
    table = tmp_path / "other.tsv"
    write_table(table, made_results.kernels_of("resnet34"))
    settings = {"experiment": "e", "width_mm": 180, "dpi": 60}
    outputs = tmp_path / "a.svg", tmp_path / "a.png"
    with pytest.raises(UserError, match=r"no layer target for layer1\.2\.conv1"):
        plot_map(settings, *tables, table, *outputs)
    assert not outputs[0].exists()


@given(st.lists(st.integers(1, 70), min_size=1, max_size=8), st.integers(5, 60))
def test_rows_cover_every_kernel_and_are_never_too_long(sizes, most):
    names = [f"block {number}" for number, size in enumerate(sizes) for _ in range(size)]
    rows = row_breaks(names, most)
    assert [i for start, stop in rows for i in range(start, stop)] == list(range(len(names)))
    assert all(0 < stop - start <= most for start, stop in rows)
    assert len(rows) == -(-len(names) // most)  # no more rows than needed


@pytest.mark.parametrize("network", [name for name, _, _ in NETWORKS])
def test_labels_tell_the_kernels_of_a_block_apart(network):
    kernels = made_results.kernels_of(network)
    names = [str(kernel.block or kernel.role) for kernel in kernels]
    labels = short_labels([kernel.path for kernel in kernels], names)
    assert len(set(zip(names, labels, strict=True))) == len(kernels)


def write_description(folder, task="segmentation", demonstration=False):
    content = {
        "task": task,
        "classes": ["background", "anterior", "posterior"],
        "channels": 1,
        "size": [48, 48],
        "dtype": "float32",
        "normalization": {"mean": [0.0], "std": [1.0]},
        "counts": {"train": 1, "val": 1, "test": 1},
        "sha256": {},
        "demonstration": demonstration,
    }
    path = folder / "dataset.json"
    path.write_text(json.dumps(content))
    return path


def write_history(path, epochs=5, shift=0.0):
    pq.write_table(
        pa.table(
            {
                "epoch": pa.array(range(1, epochs + 1), pa.int32()),
                "loss": [2.0 / (i + 1) + shift for i in range(epochs)],
                "metric": ["accuracy"] * epochs,
                "val": [0.5 + 0.05 * i - shift for i in range(epochs)],
                "test": [None] * (epochs - 1) + [0.71 - shift],
            }
        ),
        path,
    )
    return path


@pytest.mark.parametrize("width", [85, 180])
@pytest.mark.parametrize("epochs", [1, 5])
def test_learning_curves_show_the_history(tmp_path, drawn, width, epochs):
    histories = [write_history(tmp_path / f"{i}.parquet", epochs, 0.01 * i) for i in range(3)]
    settings = {"training": "t", "seeds": [0, 1, 2], "width_mm": width, "dpi": 60}
    outputs = tmp_path / "a.svg", tmp_path / "a.png"
    plot_learning(settings, write_description(tmp_path), histories, *outputs)
    assert_readable(*drawn[0])
    loss, metric = drawn[0][0].axes
    assert list(loss.lines[1].get_ydata()) == [2.0 / (i + 1) + 0.01 for i in range(epochs)]
    stars = [float(line.get_ydata()[0]) for line in metric.lines if line.get_marker() == "*"
             and len(line.get_xdata())]  # fmt: skip
    assert stars == pytest.approx([0.71, 0.70, 0.69])


def test_learning_curves_require_one_history_per_seed(tmp_path):
    settings = {"training": "t", "seeds": [0, 1], "width_mm": 180, "dpi": 60}
    history = [write_history(tmp_path / "0.parquet")]
    with pytest.raises(UserError, match="1 file for 2 seeds"):
        plot_learning(settings, write_description(tmp_path), history, tmp_path / "a", tmp_path)


def write_examples(path, targets, subjects=3):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    rows = []
    for shift, target in enumerate(targets):
        for subject in range(subjects):
            truth = (np.hypot(y - 24, x - 20) < 8).astype(np.uint8)
            truth[(truth == 1) & (y > 24)] = 2
            predicted = np.roll(truth, 2 * shift, axis=1) if shift < 3 else np.zeros_like(truth)
            rows.append(
                {
                    "sample": subject,
                    "subject": f"hippocampus_{subject:03d}",
                    "slice": 20 + subject,
                    "target": target,
                    "height": 48,
                    "width": 48,
                    "image": rng.integers(0, 256, (48, 48), dtype=np.uint8).tobytes(),
                    "truth": truth.tobytes(),
                    "predicted": predicted.tobytes(),
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


TARGETS = ["baseline", "block-4-first-unit", "block-1-first-unit", "shortcut-4"]


@pytest.mark.parametrize("width", [85, 180])
def test_slices_are_readable_and_print_their_dice(tmp_path, drawn, width):
    examples = write_examples(tmp_path / "examples.parquet", TARGETS)
    settings = {"experiment": "e", "targets": TARGETS, "width_mm": width, "dpi": 60}
    description = write_description(tmp_path, demonstration=True)
    outputs = tmp_path / "a.svg", tmp_path / "a.png"
    plot_slices(settings, description, examples, *outputs)
    assert_readable(*drawn[0])
    texts = [name for name, _ in drawn[0][1]]
    pictures = [axes.get_window_extent() for axes in drawn[0][0].axes]
    names = [box for name, box in drawn[0][1] if "slice 2" in name]
    assert len(names) == 3
    assert not any(box.overlaps(picture) for box in names for picture in pictures)
    assert texts.count("Dice 1.00") == 3  # the baseline of every subject
    assert texts.count("Dice 0.00") == 3  # nothing predicted
    assert any("DEMONSTRATION" in text and "chosen by rule" in text.replace("\n", " ")
               for text in texts)  # fmt: skip


def test_slices_name_a_target_that_is_missing(tmp_path):
    examples = write_examples(tmp_path / "examples.parquet", ["baseline"])
    settings = {"experiment": "e", "targets": TARGETS[:2], "width_mm": 180, "dpi": 60}
    with pytest.raises(UserError, match="no slices of target 'block-4-first-unit'"):
        plot_slices(settings, write_description(tmp_path), examples, tmp_path, tmp_path)


def test_dice_of_a_slice():
    truth = np.array([[1, 1, 0], [0, 0, 0]])
    predicted = np.array([[1, 0, 0], [0, 0, 0]])
    assert slice_dice(truth, predicted, 2) == pytest.approx(2 / 3)
    assert slice_dice(truth, predicted, 3) == pytest.approx(2 / 3)  # class 2: absent
    assert np.isnan(slice_dice(np.zeros_like(truth), predicted, 3))
