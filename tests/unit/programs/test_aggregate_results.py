import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_files import (
    BASELINE,
    SETTINGS,
    guesses,
    write_dataset,
    write_predictions,
    write_samples,
)

import aggregate_results as program
from aggregate_results import CORRECTED, aggregate_results, corrected
from evaluate_target import evaluate_target
from nontrivial.errors import UserError
from nontrivial.formats import target_files as reading
from nontrivial.formats.summary import (
    MARGINS_SCHEMA,
    SCHEMA,
    TARGET_SCHEMA,
    read_margins,
    write_target,
)
from nontrivial.inference.holm import holm

# Canonical order is not alphabetical; layer-z and shortcut-1 are one network.
KERNELS = {"layer-z": ["z"], "layer-stem": ["stem"], "layer-a": ["a"], "shortcut-1": ["z"]}
SEEDS = (0, 1)
WRONG = {"baseline": 30, "layer-z": 60, "layer-stem": 300, "layer-a": 42, "shortcut-1": 60}


@pytest.fixture(scope="module")
def target_files(tmp_path_factory):
    """Files of two experiments with two seeds and five targets each, by (experiment, target)."""
    folder = tmp_path_factory.mktemp("targets")
    labels = np.arange(300) % 3
    samples = write_samples(folder / "samples.parquet", labels=labels.tolist())
    dataset = write_dataset(folder / "dataset.json", "classification", ["a", "b", "c"])
    predictions = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(300)
        targets = {}
        for name, wrong in WRONG.items():
            predicted = labels.copy()
            predicted[order[: wrong - seed]] += 1
            targets[name] = guesses(predicted % 3)
        path = folder / f"all{seed}.parquet"
        predictions.append(write_predictions(path, targets, {"layer-stem": "cut"}))
    files = {}
    for experiment in ("paper", "again"):
        for name in WRONG:
            settings = BASELINE if name == "baseline" else SETTINGS
            settings = {**settings, "target": name, "kernels": KERNELS.get(name, [])}
            settings |= {"experiment": experiment, "seeds": list(SEEDS)}
            path = folder / experiment / f"{name}.parquet"
            evaluate_target(settings, predictions, name, predictions, samples, dataset, path)
            files[experiment, name] = path
    return files


def aggregate(folder, files, processes=1):
    spec = folder / "list.json"
    spec.write_text(json.dumps({"files": [str(path) for path in files]}))
    made = [folder / f"{name}.parquet" for name in ("summary", "across_seeds", "margins")]
    aggregate_results(spec, *made, processes)
    return tuple(pq.read_table(path) for path in made)


def primary(table):
    return [r for r in table.to_pylist() if r["metric"] == "accuracy" and r["class"] is None]


def test_rows_are_sorted_with_targets_in_canonical_order(tmp_path, target_files):
    keys = sorted(target_files, key=lambda key: list(WRONG).index(key[1]))
    summary, *_ = aggregate(tmp_path, [target_files[key] for key in keys])
    assert summary.schema.equals(SCHEMA)
    assert summary.num_rows == 20 * 5
    assert [(r["experiment"], r["seed"], r["target"]) for r in primary(summary)] == [
        (experiment, seed, target)
        for experiment in ("again", "paper")
        for seed in (0, 1)
        for target in WRONG
    ]


def test_holm_over_the_distinct_networks_of_each_seed(tmp_path, target_files):
    summary, *_ = aggregate(tmp_path, target_files.values())
    rows = {(r["experiment"], r["seed"], r["target"]): r for r in primary(summary)}
    for experiment, seed in (("paper", 0), ("paper", 1), ("again", 0)):
        family = {target: rows[experiment, seed, target] for target in WRONG}
        tested = [family["layer-z"]["p_value"], family["layer-a"]["p_value"]]
        z, a = holm(tested)
        assert family["layer-z"]["p_holm"] == family["shortcut-1"]["p_holm"] == z
        assert family["layer-a"]["p_holm"] == a
        assert family["baseline"]["p_holm"] is family["layer-stem"]["p_holm"] is None
    others = [r for r in summary.to_pylist() if r["metric"] != "accuracy" or r["class"]]
    assert {r["p_holm"] for r in others} == {None}


def p_value_row(target, p_value, **changes):
    """The columns that decide a row's family and hypothesis; the others are null."""
    row = {
        "experiment": "e",
        "seed": 0,
        "split": "test",
        "intervention": "zero",
        "metric": "accuracy",
        "kind": "layer",
        "status": "ok",
        "kernels": [target],
        "parameters": "{}",
        "p_value": p_value,
    }
    return {**row, **changes}


def corrected_rows(*rows):
    return corrected(pa.Table.from_pylist(rows, schema=SCHEMA), "p_value").to_pylist()


def test_equal_kernel_sets_are_one_hypothesis():
    rows = [
        p_value_row("x", 0.01, kernels=["k1", "k2"]),
        p_value_row("y", 0.03),
        p_value_row("z", 0.01, kernels=["k2", "k1"], kind="set"),
    ]
    assert corrected_rows(*rows) == pytest.approx([0.02, 0.03, 0.02])


@pytest.mark.parametrize("other", [{"draw": 1}, {"part": "17"}, {"parameters": '{"k":1}'}])
def test_equal_kernel_sets_under_other_conditions_are_other_hypotheses(other):
    rows = [p_value_row("x", 0.01), p_value_row("x", 0.03, **other)]
    assert corrected_rows(*rows) == pytest.approx([0.02, 0.03])


@pytest.mark.parametrize(
    "outside",
    [
        {"kind": "baseline", "kernels": []},
        {"status": "cut"},
        {"status": "no_effect"},
        {"status": "undefined"},
        {"status": None},
        {"class": "cat"},
        {"metric": "dice_slice"},
    ],
)
def test_rows_that_test_nothing_are_left_out(outside):
    rows = [
        p_value_row("a", 0.02),
        p_value_row("b", 0.03),
        {**p_value_row("outside", 0.001), **outside},
    ]
    assert corrected_rows(*rows) == [*holm([0.02, 0.03]), None]


def test_a_target_without_a_p_value_counts_in_its_family():
    # Its drop is equal in all subjects. How many such targets there are depends on the data.
    rows = [p_value_row("a", 0.02), p_value_row("same", None), p_value_row("b", 0.03)]
    a, _, b = holm([0.02, 1.0, 0.03])
    assert corrected_rows(*rows) == [a, None, b]
    alias = p_value_row("alias", None, kernels=["same"], kind="set")
    assert corrected_rows(*rows, alias) == [a, None, b, None]


@pytest.mark.parametrize(
    "other",
    [
        {"experiment": "f"},
        {"seed": 1},
        {"seed": None},
        {"split": "val"},
        {"intervention": "shuffle"},
        {"metric": "dice"},
        {"epoch": 4},
    ],
)
def test_families_are_corrected_separately(other):
    assert corrected_rows(p_value_row("a", 0.02), p_value_row("b", 0.03, **other)) == [0.02, 0.03]


@pytest.mark.parametrize("kind", ["shortcut", "block", "set"])
def test_layers_shortcuts_blocks_and_sets_are_one_family(kind):
    rows = [p_value_row("a", 0.02), p_value_row("b", 0.03, kind=kind)]
    assert corrected_rows(*rows) == holm([0.02, 0.03])


@pytest.mark.parametrize("kind", ["unit", "skip", "pair"])
def test_units_skips_and_pairs_are_families_of_their_own(kind):
    rows = [p_value_row("a", 0.02), p_value_row("b", 0.03, kind=kind)]
    assert corrected_rows(*rows) == [0.02, 0.03]


def test_each_of_the_three_tests_is_corrected_by_itself(tmp_path, target_files):
    keys = [key for key in target_files if key[0] == "paper"]
    summary, *_ = aggregate(tmp_path, [target_files[key] for key in keys])
    rows = {r["target"]: r for r in primary(summary) if r["seed"] == 0}
    tested = ("layer-z", "layer-a")
    for name, adjusted in CORRECTED.items():
        expected = holm([rows[target][name] for target in tested])
        assert [rows[target][adjusted] for target in tested] == expected
        assert rows["shortcut-1"][adjusted] == rows["layer-z"][adjusted]
        assert rows["baseline"][adjusted] is rows["layer-stem"][adjusted] is None


def test_margins_have_a_row_per_primary_row_and_margin(tmp_path, target_files):
    summary, means, margins = aggregate(tmp_path, target_files.values())
    assert margins.schema.equals(MARGINS_SCHEMA)
    results = [*primary(summary), *primary(means)]
    rows = margins.to_pylist()
    assert len(rows) == 3 * len(results)
    names = [name for name in MARGINS_SCHEMA.names if name != "margin"]
    at_configured = [row for row in rows if row["margin"] == 0.01]
    for row, result in zip(at_configured, results, strict=True):
        assert [row[name] for name in names] == [result[name] for name in names]
    for margin in (0.02, 0.05):
        family = {
            row["target"]: row
            for row in rows
            if (row["experiment"], row["seed"], row["margin"]) == ("paper", 1, margin)
        }
        z, a = holm([family[target]["p_trivial"] for target in ("layer-z", "layer-a")])
        assert family["layer-z"]["p_trivial_holm"] == family["shortcut-1"]["p_trivial_holm"] == z
        assert family["layer-a"]["p_trivial_holm"] == a
        assert family["layer-stem"]["p_trivial"] is None
    read_margins(tmp_path / "margins.parquet")


def test_nothing_tested():
    assert corrected_rows(p_value_row("a", None), p_value_row("b", None)) == [None, None]
    assert corrected_rows() == []


def test_the_table_over_seeds(tmp_path, target_files):
    keys = sorted(target_files, key=lambda key: list(WRONG).index(key[1]))
    summary, means, _ = aggregate(tmp_path, [target_files[key] for key in keys])
    assert means.schema.equals(SCHEMA)
    assert summary["seed"].null_count == 0
    assert means["seed"].null_count == len(means)
    assert [(r["experiment"], r["target"]) for r in primary(means)] == [
        (experiment, target) for experiment in ("again", "paper") for target in WRONG
    ]
    assert means.num_rows * 2 == summary.num_rows
    row = next(r for r in primary(means) if r["target"] == "layer-z")
    assert (row["seeds"], row["n"], row["covers"]) == (
        2,
        300,
        "training seeds and test sampling, not the choice of training data",
    )
    assert row["drop"] == pytest.approx(30 / 300)
    assert row["kernels"] == ["z"]
    assert {row["p_holm"] for row in means.to_pylist()} == {None}


@pytest.mark.parametrize("processes", [1, 3])
def test_files_read_in_parts_by_several_processes(tmp_path, target_files, monkeypatch, processes):
    keys = sorted(target_files, key=lambda key: list(WRONG).index(key[1]))
    files = [target_files[key] for key in keys]
    whole = aggregate(tmp_path, files)
    monkeypatch.setattr(reading, "FILES_AT_A_TIME", 3)
    parts = aggregate(tmp_path, files, processes)
    for one, other in zip(whole, parts, strict=True):
        assert one.equals(other)
    files[7].rename(tmp_path / "moved")
    try:
        with pytest.raises(UserError, match=f"{files[7].name}: no such file"):
            aggregate(tmp_path, files, processes)
    finally:
        (tmp_path / "moved").rename(files[7])


def test_one_seed_alone_has_its_rows_in_both_tables(tmp_path, target_files):
    files = []
    for (experiment, name), path in target_files.items():
        if experiment == "paper":
            table = pq.read_table(path)
            rows = [row for row in table.to_pylist() if row["seed"] == 0]
            files.append(tmp_path / f"{name}.parquet")
            write_target(files[-1], [*rows, *({**row, "seed": None} for row in rows)])
    summary, means, _ = aggregate(tmp_path, files)
    assert summary.num_rows == means.num_rows
    assert summary.drop_columns(["seed"]).equals(means.drop_columns(["seed"]))
    assert summary["p_holm"].null_count < summary.num_rows


def test_equal_inputs_give_equal_bytes(tmp_path, target_files):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        aggregate(tmp_path / name, target_files.values())
        files = ("summary.parquet", "across_seeds.parquet", "margins.parquet")
        contents.append([(tmp_path / name / file).read_bytes() for file in files])
    assert contents[0] == contents[1]


def test_the_program(tmp_path, target_files):
    (tmp_path / "list.json").write_text(
        json.dumps({"files": [str(path) for path in target_files.values()]})
    )
    command = [sys.executable, program.__file__, "--targets", "list.json"]
    command += ["--output", "s.parquet", "--across-seeds", "a.parquet"]
    command += ["--margins", "m.parquet", "--log", "l/log.txt"]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 100
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 50


class TestBadInput:
    def refuse(self, folder, files, message):
        with pytest.raises(UserError, match=message) as caught:
            aggregate(folder, files)
        assert "\n" not in str(caught.value)
        assert not (folder / "summary.parquet").exists()

    @pytest.fixture
    def good(self, target_files):
        return target_files["paper", "layer-z"]

    def test_truncated(self, tmp_path, good):
        bad = tmp_path / "bad.parquet"
        bad.write_bytes(good.read_bytes()[:-50])
        self.refuse(tmp_path, [good, bad], "bad.parquet: not a readable Parquet file")

    def test_missing(self, tmp_path, good):
        self.refuse(tmp_path, [good, tmp_path / "gone.parquet"], "gone.parquet: no such file")

    def test_missing_column(self, tmp_path, good):
        bad = tmp_path / "bad.parquet"
        pq.write_table(pq.read_table(good).drop_columns(["drop_low", "b"]), bad)
        self.refuse(tmp_path, [good, bad], "bad.parquet: no column drop_low, b;")

    def test_column_of_another_type(self, tmp_path, good):
        table = pq.read_table(good)
        index = table.schema.get_field_index("value")
        bad = tmp_path / "bad.parquet"
        pq.write_table(table.set_column(index, "value", pa.array(["x"] * len(table))), bad)
        self.refuse(tmp_path, [good, bad], "bad.parquet: column value has the wrong type")

    def test_no_rows(self, tmp_path):
        bad = tmp_path / "bad.parquet"
        pq.write_table(TARGET_SCHEMA.empty_table(), bad)
        self.refuse(tmp_path, [bad], "bad.parquet: has no rows")

    def test_one_target_twice(self, tmp_path, good):
        copy = tmp_path / "copy.parquet"
        copy.write_bytes(good.read_bytes())
        self.refuse(tmp_path, [good, copy], "copy.parquet: contains the same target as")

    @pytest.mark.parametrize("missing", [0, 1, None])
    def test_a_seed_or_the_rows_over_seeds_missing(self, tmp_path, good, missing):
        table = pq.read_table(good)
        kept = [seed != missing for seed in table["seed"].to_pylist()]
        bad = tmp_path / "bad.parquet"
        pq.write_table(table.filter(pa.array(kept)), bad)
        self.refuse(tmp_path, [bad], "bad.parquet: does not have accuracy or Dice .* per seed")

    def test_an_empty_list(self, tmp_path):
        self.refuse(tmp_path, [], "lists no target file")

    @pytest.mark.parametrize("content", ["", "[]", '{"file": []}', '{"files": 3}'])
    def test_a_file_that_is_no_list(self, tmp_path, content):
        spec = tmp_path / "list.json"
        spec.write_text(content)
        outputs = [tmp_path / f"{name}.parquet" for name in "sam"]
        with pytest.raises(UserError, match="not of the form"):
            aggregate_results(spec, *outputs)
        with pytest.raises(UserError, match="cannot be read"):
            aggregate_results(tmp_path / "no.json", *outputs)
