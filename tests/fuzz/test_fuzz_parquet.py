"""Damaged tables: refused with one line, or the same numbers as from the undamaged ones."""

import json
from pathlib import Path

import made_results
import numpy as np
import prediction_files as files
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fuzzing import answer, examples
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregate_results import aggregate_results
from evaluate_target import PREDICTED, evaluate_target
from nontrivial.formats import examples as example_files
from nontrivial.formats import history, parquet, samples
from nontrivial.formats.predictions import METADATA
from nontrivial.formats.summary import SCHEMA, TARGET_SCHEMA, Flag, names
from tabulate_targets import tabulate_targets

TARGET = files.SETTINGS["target"]
N = 24
HUGE = 2**62


def write_arguments(folder: Path, task: str) -> dict:
    """Write the files that evaluate reads, and return its arguments less the output."""
    random = np.random.default_rng(3)
    labels = subjects = None
    if task == "classification":
        labels = (np.arange(N) % 3).tolist()
        before, after = random.integers(0, 3, (2, N))
        columns = files.guesses(before), files.guesses(after)
    else:
        subjects = [f"s{i // 3}" for i in range(N)]
        tp, fp, lost = random.integers(1, 90, (3, N, 3))
        columns = (
            files.pixel_counts(tp + lost, fp, fp),
            files.pixel_counts(tp, fp, fp + lost),
        )
    write = files.write_predictions
    return {
        "settings": files.SETTINGS,
        "predictions": [write(folder / "predictions.parquet", {TARGET: columns[1]})],
        "stored_as": TARGET,
        "baseline": [write(folder / "baseline.parquet", {"baseline": columns[0]})],
        "samples": files.write_samples(folder / "samples.parquet", labels, subjects),
        "dataset": files.write_dataset(folder / "dataset.json", task, ["a", "b", "c"]),
    }


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def with_value(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    """Put a value, null or not, into one field; where it does not fit, the column becomes text."""
    values = table[name].to_pylist()
    values[row % len(values)] = value
    try:
        column = pa.array(values, table.schema.field(name).type)
    except (pa.ArrowException, OverflowError):
        column = pa.array([None if value is None else str(value) for value in values])
    return replaced(table, name, column)


def as_text(table: pa.Table, name: str, row: int) -> pa.Table:
    return replaced(table, name, pa.array([str(value) for value in table[name].to_pylist()]))


def as_floats(table: pa.Table, name: str, row: int) -> pa.Table:
    return replaced(table, name, pa.array(np.arange(len(table)) + 0.5))


def as_structs(table: pa.Table, name: str, row: int) -> pa.Table:
    return replaced(table, name, pa.array([{"x": 1}] * len(table)))


def without_column(table: pa.Table, name: str, row: int) -> pa.Table:
    return table.drop_columns([name])


def row_twice(table: pa.Table, name: str, row: int) -> pa.Table:
    return pa.concat_tables([table, table.slice(row % len(table), 1)])


def without_row(table: pa.Table, name: str, row: int) -> pa.Table:
    row %= len(table)
    return pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def backwards(table: pa.Table, name: str, row: int) -> pa.Table:
    return table.take(list(reversed(range(len(table)))))


def empty(table: pa.Table, name: str, row: int) -> pa.Table:
    return table.slice(0, 0)


def columns_backwards(table: pa.Table, name: str, row: int) -> pa.Table:
    return table.select(table.column_names[::-1])


def one_more_column(table: pa.Table, name: str, row: int) -> pa.Table:
    return table.append_column("more", pa.array(["x" * 100_000] * len(table)))


def value_changer(value: object):
    def change(table: pa.Table, name: str, row: int) -> pa.Table:
        return with_value(table, name, row, value)

    change.__name__ = f"with {value!r}"
    return change


HARMLESS = [columns_backwards, one_more_column]
NULL = value_changer(None)
STRUCTURE = [as_structs, without_column, row_twice, without_row, backwards, empty]
VALUES = [as_text, as_floats, *map(value_changer, (-1, HUGE, float("nan"), float("inf")))]
DAMAGE = [NULL, *STRUCTURE, *VALUES]


def rewrite(path: Path | list[Path], change) -> None:
    path = path if isinstance(path, Path) else path[0]
    table = pq.read_table(path)
    if "target" in table.column_names and path.name != "samples.parquet":
        # The dictionary of targets that predictions are written with.
        place = table.column_names.index("target")
        table = table.set_column(place, "target", table["target"].cast(pa.string()))
    changed = change(table)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)


# Columns of the samples that the results of a task depend on.
SAMPLES = {"classification": ("label",), "segmentation": ("subject",)}


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@examples(70)
@given(data=st.data())
def test_what_evaluate_reads(tmp_path_factory, task, data):
    folder = tmp_path_factory.mktemp("evaluate")
    arguments = write_arguments(folder, task)
    evaluate_target(**arguments, output=folder / "expected.parquet")
    expected = pq.read_table(folder / "expected.parquet")

    kind = data.draw(st.sampled_from(["predictions", "baseline", "samples"]))
    read = ("sample", *SAMPLES[task]) if kind == "samples" else PREDICTED[task]
    name = data.draw(st.sampled_from(sorted(read)))
    change = data.draw(st.sampled_from(DAMAGE + HARMLESS))
    if name == "log_prob":
        assume(change.__name__ != "with -1")  # which may well be
    if name == "subject":
        assume(change in (*HARMLESS, *STRUCTURE, NULL))  # another name is another subject
    row = data.draw(st.integers(0, 3 * N))
    rewrite(arguments[kind], lambda table: change(table, name, row))

    output = folder / "output.parquet"
    _, said = answer(lambda: evaluate_target(**arguments, output=output))
    if change in HARMLESS:
        assert said is None
    if said is None:  # a text column was already text, say
        assert pq.read_table(output).equals(expected)
    else:
        assert str(folder) in said
        assert not output.exists()


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change.__name__)
def test_damage_to_a_column_of_predictions_is_refused(tmp_path, task, change):
    name = {"classification": "predicted", "segmentation": "tp"}[task]
    for kind in ("predictions", "baseline"):
        arguments = write_arguments(tmp_path, task)
        rewrite(arguments[kind], lambda table: change(table, name, 5))
        _, said = answer(lambda: evaluate_target(**arguments, output=tmp_path / "out.parquet"))  # noqa: B023
        assert said is not None
        assert arguments[kind][0].name in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.5])
def test_impossible_log_probabilities_are_refused(tmp_path, value):
    arguments = write_arguments(tmp_path, "classification")
    rewrite(arguments["predictions"], lambda table: with_value(table, "log_prob", 3, value))
    _, said = answer(lambda: evaluate_target(**arguments, output=tmp_path / "out.parquet"))
    assert f"log_prob of row 3 is {value:g}" in said


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "wrong"),
    [
        (-1, 0, 0, "are impossible with 1024 pixels"),
        (1000, 20, 5, "are impossible with 1024 pixels"),
        (2**31 - 1, 2**31 - 1, 2**31 - 1, "are impossible with 1024 pixels"),
        (500, 0, 0, "have another truth than "),
    ],
)
def test_impossible_counts_are_refused(tmp_path, tp, fp, fn, wrong):
    arguments = write_arguments(tmp_path, "segmentation")

    def change(table):
        for name, value in (("tp", tp), ("fp", fp), ("fn", fn)):
            table = with_value(table, name, 7, value)
        return table

    rewrite(arguments["predictions"], change)
    _, said = answer(lambda: evaluate_target(**arguments, output=tmp_path / "out.parquet"))
    assert f"predictions.parquet: row 7: tp {tp}, fp {fp}, fn {fn} {wrong}" in said


ENTRY = {"status": "ok", "live_weights": 7, "total_weights": 9}


@pytest.mark.parametrize(
    "about",
    [
        None,
        [],
        {"targets": [TARGET]},
        {"targets": {TARGET: "ok"}},
        {"targets": {TARGET: {"status": "ok"}}},
        {"targets": {TARGET: ENTRY | {"status": "fine"}}},
        {"targets": {TARGET: ENTRY | {"live_weights": "7"}}},
        {"targets": {TARGET: ENTRY | {"live_weights": 10}}},
        {"targets": {TARGET: ENTRY | {"total_weights": None}}},
    ],
)
def test_an_invalid_description_of_targets_is_refused(tmp_path, about):
    arguments = write_arguments(tmp_path, "classification")
    (path,) = arguments["predictions"]
    table = pq.read_table(path)
    changed = table.replace_schema_metadata({METADATA: json.dumps(about)})
    pq.write_table(changed, path)
    _, said = answer(lambda: evaluate_target(**arguments, output=tmp_path / "out.parquet"))
    assert "predictions.parquet: no description of its targets" in said


@examples(60)
@given(place=st.floats(0, 1), length=st.integers(1, 8), garbage=st.binary(min_size=8, max_size=8))
def test_overwritten_bytes_do_not_crash(tmp_path_factory, place, length, garbage):
    folder = tmp_path_factory.mktemp("bytes")
    arguments = write_arguments(folder, "segmentation")
    content = bytearray(arguments["samples"].read_bytes())
    start = int(place * (len(content) - length))
    content[start : start + length] = garbage[:length]
    arguments["samples"].write_bytes(content)
    answer(lambda: samples.read(arguments["samples"]))
    answer(lambda: evaluate_target(**arguments, output=folder / "out.parquet"))


# Results: the targets' files, the summary and the table over seeds


KEPT = {"baseline", "layer-conv1", "layer-layer1.0.conv1", "shortcut-2"}
OUTPUTS = ("summary", "across_seeds", "margins")
RESULTS = [row for row in made_results.rows("e", "resnet18", seeds=(0, 1)) if row["target"] in KEPT]


def aggregate(folder: Path, tables: list[pa.Table]) -> tuple[pa.Table, ...]:
    paths = []
    for number, table in enumerate(tables):
        paths.append(folder / f"target{number}.parquet")
        pq.write_table(table, paths[-1])
    (folder / "list.json").write_text(json.dumps({"files": [str(path) for path in paths]}))
    outputs = [folder / f"{name}.parquet" for name in OUTPUTS]
    aggregate_results(folder / "list.json", *outputs)
    return tuple(map(pq.read_table, outputs))


def by_target() -> list[pa.Table]:
    """Return the table of each target in canonical order: two rows per seed, two over seeds."""
    parts: dict[str, list[dict]] = {}
    for row in [*RESULTS, *made_results.rows_over_seeds(RESULTS)]:
        parts.setdefault(row["target"], []).append({**row, "p_holm": None})
    return [pa.Table.from_pylist(part, schema=TARGET_SCHEMA) for part in parts.values()]


def tabulate(folder: Path, *tables: pa.Table) -> str:
    """Return the table of targets, as CSV, that these results give."""
    inputs = [folder / f"{name}.parquet" for name in OUTPUTS]
    for path, table in zip(inputs, tables, strict=True):
        pq.write_table(table, path)
    outputs = [folder / f"targets.{kind}" for kind in ("csv", "md", "html")]
    tabulate_targets({"experiment": "e"}, *inputs, *outputs)
    return outputs[0].read_text()


REQUIRED = names(Flag.REQUIRED) + names(Flag.REQUIRED_PER_SEED)
NUMBERS = [field.name for field in SCHEMA if pa.types.is_floating(field.type)]


@examples(80)
@given(data=st.data())
def test_what_aggregate_reads(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("aggregate")
    tables = by_target()
    expected = aggregate(folder, tables)
    name = data.draw(st.sampled_from(SCHEMA.names))
    change = data.draw(st.sampled_from(DAMAGE + HARMLESS))
    number = data.draw(st.integers(0, len(tables) - 1))
    row = data.draw(st.integers(0, 1))
    tables[number] = change(tables[number], name, row)
    for output in ("summary.parquet", "across_seeds.parquet"):
        (folder / output).unlink()
    got, said = answer(lambda: aggregate(folder, tables))
    if change in HARMLESS:
        assert said is None
        assert got[0].equals(expected[0])
        assert got[1].equals(expected[1])
    if said is not None:
        assert f"target{number}.parquet" in said
        assert not (folder / "summary.parquet").exists()
    else:  # what may be empty is empty, say; the other targets' numbers are what they were
        target = tables[number]["target"][0].as_py()
        # Corrected p-values depend on the other targets.
        columns = [column for column in NUMBERS if not column.endswith("_holm")]
        for before, after in zip(expected, got, strict=True):
            others = [
                table.filter(pc.not_equal(table["target"], target)) for table in (before, after)
            ]
            for column in set(columns) & set(others[0].column_names):
                assert others[1][column].equals(others[0][column])


@pytest.mark.parametrize("name", REQUIRED)
def test_a_null_in_a_required_field_is_refused(tmp_path, name):
    tables = by_target()
    for row in (0, 1):
        changed = [with_value(tables[0], name, row, None), *tables[1:]]
        _, said = answer(lambda: aggregate(tmp_path, changed))  # noqa: B023
        assert "target0.parquet" in said
        assert name in said or name == "seed"  # such a row counts as one over seeds


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_not_finite(tmp_path, name, value):
    tables = by_target()
    tables[2] = with_value(tables[2], name, 0, value)
    _, said = answer(lambda: aggregate(tmp_path, tables))
    assert "target2.parquet" in said
    assert f"{name} is not a finite number" in said


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("value", 1.5, "value is not between 0 and 1"),
        ("value", 0.0, "drop is not baseline - value"),
        ("value", None, "value is empty"),
        ("p_value", 1.1, "p_value is not between 0 and 1"),
        ("p_value", -0.1, "p_value is not between 0 and 1"),
        ("value_low", 0.99, "the interval of value is reversed"),
        ("drop_high", -0.99, "the interval of drop is reversed"),
        ("n", -1, "n is negative"),
        ("class", "dog", "does not have accuracy or Dice"),
        ("target", "other", "more than one target"),
        ("seed", 7, "once per seed"),
        ("role", "head", "more than one role"),
    ],
)
def test_impossible_results_are_refused(tmp_path, name, value, wrong):
    tables = by_target()
    tables[1] = with_value(tables[1], name, 0, value)
    _, said = answer(lambda: aggregate(tmp_path, tables))
    assert "target1.parquet" in said
    assert wrong in said


@pytest.mark.parametrize("which", OUTPUTS)
@examples(60)
@given(data=st.data())
def test_what_tables_and_figures_read(tmp_path_factory, which, data):
    folder = tmp_path_factory.mktemp("tables")
    tables = dict(zip(OUTPUTS, aggregate(folder, by_target()), strict=True))
    expected = tabulate(folder, *tables.values())
    name = data.draw(st.sampled_from(tables[which].column_names))
    change = data.draw(st.sampled_from(DAMAGE + HARMLESS))
    row = data.draw(st.integers(0, 20))
    tables[which] = change(tables[which], name, row)
    got, said = answer(lambda: tabulate(folder, *tables.values()))
    if change in HARMLESS:
        assert said is None
    needed = REQUIRED if which == "summary" else names(Flag.REQUIRED)
    is_label = name in names(Flag.SETTING) and pa.types.is_string(SCHEMA.field(name).type)
    if change in VALUES and is_label:
        return  # another text is another label, which a table shows as it is
    if said is None and name in needed and change is not backwards:
        assert got == expected


HISTORY = {
    "epoch": [1, 2, 3],
    "loss": [2.0, 1.0, 0.5],
    "metric": ["accuracy"] * 3,
    "val": [0.1, 0.2, 0.3],
    "test": [None, None, 0.3],
}


@examples(40)
@given(data=st.data())
def test_what_learning_curves_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("history") / "training.parquet"
    table = pa.table(HISTORY, schema=parquet.select(history.SCHEMA, list(HISTORY)))
    name = data.draw(st.sampled_from(table.column_names))
    change = data.draw(st.sampled_from(DAMAGE + HARMLESS))
    pq.write_table(change(table, name, data.draw(st.integers(0, 2))), path)
    read, said = answer(lambda: history.read_curves(path))
    assert said is not None or list(read) == table.column_names
    if change in (NULL, without_column, empty, as_structs) and name in ("loss", "val"):
        assert str(path) in said


@examples(40)
@given(data=st.data())
def test_what_example_slices_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("slices") / "examples.parquet"
    pixels = bytes([0, 1, 2] * 4)
    row = {"sample": 0, "subject": "s", "slice": 3, "target": "baseline", "height": 3, "width": 4}
    row |= dict.fromkeys(("image", "truth", "predicted"), pixels)
    table = pa.Table.from_pylist([row, row | {"sample": 1}], schema=example_files.SCHEMA)
    name = data.draw(st.sampled_from(table.column_names))
    new = [b"", b"\xff" * 12, bytes(13), "text"]
    change = data.draw(st.sampled_from([*DAMAGE, *HARMLESS, *map(value_changer, new)]))
    pq.write_table(change(table, name, data.draw(st.integers(0, 1))), path)
    rows, said = answer(lambda: example_files.read(path, 3))
    if said:
        assert str(path) in said
        return
    for row in rows:
        assert row.image.shape == row.truth.shape == row.predicted.shape
        assert row.truth.max() < 3
