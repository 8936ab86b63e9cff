import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_files import (
    BASELINE,
    SETTINGS,
    guesses,
    pixel_counts,
    write_dataset,
    write_predictions,
    write_samples,
)

import evaluate_target as program
from evaluate_target import evaluate_target
from nontrivial.errors import UserError
from nontrivial.formats import samples, summary
from nontrivial.formats.predictions import PredictionsWriter, TargetProperties
from nontrivial.formats.summary import TARGET_SCHEMA
from nontrivial.inference.measurement import SEEDS_AND_TEST_SAMPLING
from nontrivial.inference.proportions import n_for_trivial

CLASSES = [f"c{i}" for i in range(4)]
TARGET = SETTINGS["target"]


@pytest.fixture
def classification(tmp_path):
    """Arguments of a classification target: 400 samples, about 84% right before, half after."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 400)

    def noisy(share):
        wrong = (labels + generator.integers(1, 4, 400)) % 4
        return np.where(generator.random(400) < share, wrong, labels)

    before, after = noisy(0.16), noisy(0.5)
    return {
        "settings": SETTINGS,
        "predictions": [
            write_predictions(
                tmp_path / "layers-1.parquet",
                {"layer-other": guesses(noisy(0.9)), TARGET: guesses(after)},
            )
        ],
        "stored_as": TARGET,
        "baseline": [
            write_predictions(tmp_path / "baseline.parquet", {"baseline": guesses(before)})
        ],
        "samples": write_samples(tmp_path / "samples.parquet", labels=labels.tolist()),
        "dataset": write_dataset(tmp_path / "dataset.json", "classification", CLASSES),
        "output": tmp_path / "targets" / f"{TARGET}.parquet",
    }


def segmentation_arguments(folder, subjects, demonstration=False, slices=4):
    """Arguments of a segmentation target: zeroing halves the hits."""
    generator = np.random.default_rng(1)
    n = subjects * slices
    tp = generator.integers(50, 300, (n, 3))
    fp, fn = generator.integers(0, 40, (2, n, 3))
    return {
        "settings": SETTINGS,
        "predictions": [
            write_predictions(
                folder / "layers-1.parquet", {TARGET: pixel_counts(tp // 2, fp, fn + tp - tp // 2)}
            )
        ],
        "stored_as": TARGET,
        "baseline": [
            write_predictions(folder / "baseline.parquet", {"baseline": pixel_counts(tp, fp, fn)})
        ],
        "samples": write_samples(
            folder / "samples.parquet", subjects=[f"s{i // slices:02d}" for i in range(n)]
        ),
        "dataset": write_dataset(
            folder / "dataset.json",
            "segmentation",
            ["background", "anterior", "posterior"],
            demonstration,
        ),
        "output": folder / "target.parquet",
    }


def run(arguments, **changes):
    arguments = {**arguments, **changes}
    evaluate_target(**arguments)
    return pq.read_table(arguments["output"])


def per_seed(table):
    return [row for row in table.to_pylist() if row["seed"] is not None]


def over_all_seeds(table):
    return [row for row in table.to_pylist() if row["seed"] is None]


def with_three_seeds(arguments, folder):
    """Arguments of three seeds: the second and third network are a little worse."""
    changed = {}
    for key in ("predictions", "baseline"):
        changed[key] = list(arguments[key])
        for seed in (1, 2):
            file = pq.ParquetFile(arguments[key][0])
            table = file.read_row_group(file.num_row_groups - 1)  # the target's
            name = "predicted" if "predicted" in table.column_names else "fp"
            values = table.column(name).to_numpy().copy()
            values[: 5 * seed] += 1
            values %= 4 if name == "predicted" else 100
            index = table.column_names.index(name)
            table = table.set_column(index, name, pa.array(values))
            changed[key].append(folder / f"{key}-{seed}.parquet")
            pq.write_table(table, changed[key][-1])
    return {**arguments, **changed, "settings": {**SETTINGS, "seeds": [0, 1, 2]}}


def test_a_target_file_has_the_columns_of_the_summary(classification):
    table = run(classification)
    assert table.schema.equals(TARGET_SCHEMA)
    row = table.to_pylist()[0]
    for key in set(SETTINGS) - {"parameters", "seeds"}:
        assert row[key] == SETTINGS[key]
    assert (row["parameters"], row["draw"], row["p_holm"]) == ("{}", None, None)
    assert (row["seed"], row["seeds"], row["covers"]) == (0, 1, "test sampling only")
    assert (row["status"], row["live_weights"], row["total_weights"]) == ("ok", 7, 9)
    assert row["demonstration"] is False


def test_classification_rows(classification):
    rows = per_seed(run(classification))
    assert [(row["metric"], row["class"]) for row in rows] == [
        ("accuracy", None),
        ("log_prob", None),
        *[("accuracy", name) for name in CLASSES],
    ]
    primary = rows[0]
    assert primary["drop"] == pytest.approx(primary["baseline"] - primary["value"])
    assert primary["drop"] == pytest.approx((primary["b"] - primary["c"]) / 400)
    assert primary["verdict"] == "non-trivial"
    assert [row["verdict"] for row in rows[1:]] == [None] * 5


def test_the_margin_decides_the_verdict(classification):
    rows = per_seed(run(classification, settings={**SETTINGS, "margin": 0.9}))
    assert (rows[0]["verdict"], rows[0]["margin"]) == ("trivial", 0.9)


def test_every_primary_row_is_judged_at_several_margins(classification):
    rows = per_seed(run(classification, settings={**SETTINGS, "margin": 0.3}))
    assert [row["margins"] is not None for row in rows] == [True] + [False] * 5
    by_margin = {at["margin"]: at for at in rows[0]["margins"]}
    assert list(by_margin) == [0.01, 0.02, 0.05, 0.3]
    for name in ("p_nontrivial", "p_trivial", "verdict"):
        assert by_margin[0.3][name] == rows[0][name] is not None
    assert by_margin[0.05]["p_nontrivial"] > by_margin[0.01]["p_nontrivial"]


def test_the_drop_share_and_the_number_of_images_needed(classification):
    table = run(classification)
    labels = pq.read_table(classification["samples"]).column("label").to_numpy()
    rows = per_seed(table)
    chance = np.bincount(labels).max() / 400
    expected = rows[0]["drop"] / (rows[0]["baseline"] - chance)
    assert rows[0]["drop_share"] == pytest.approx(expected)
    assert rows[0]["n_for_trivial"] is None  # 400 are enough at 0.01, but not at 0.001
    strict = per_seed(run(classification, settings={**SETTINGS, "margin": 0.001}))[0]
    assert strict["n_for_trivial"] == n_for_trivial(strict["baseline"], 400, 0.001) > 400
    for name in ("drop_share", "n_for_trivial"):
        assert [row[name] for row in rows[1:]] == [None] * 5


def with_subjects(arguments, subjects):
    labels = pq.read_table(arguments["samples"]).column("label").to_pylist()
    write_samples(arguments["samples"], labels=labels, subjects=subjects)
    return arguments


def test_the_subject_is_the_unit_of_a_classification_that_has_them(classification):
    names = [f"s{i // 20:02d}" for i in range(400)]
    rows = per_seed(run(with_subjects(classification, names)))
    assert {row["unit"] for row in rows} == {"subject"}
    assert rows[0]["n"] == 20
    predicted, baseline = (
        pq.ParquetFile(classification[key][0]).read_row_group(-1 + last)["predicted"].to_numpy()
        for key, last in (("predictions", 2), ("baseline", 1))
    )
    labels = pq.read_table(classification["samples"]).column("label").to_numpy()
    right = (predicted == labels).reshape(20, 20).mean(axis=1)
    before = (baseline == labels).reshape(20, 20).mean(axis=1)
    assert rows[0]["value"] == pytest.approx(right.mean())
    assert rows[0]["drop"] == pytest.approx((before - right).mean())
    assert rows[0]["drop_low"] < rows[0]["drop"] < rows[0]["drop_high"]
    assert rows[0]["b"] is rows[0]["c"] is None
    assert rows[0]["p_value"] == 2 / 200_002 or rows[0]["p_value"] < 0.001


def test_subjects_of_some_samples_only_are_refused(classification):
    arguments = with_subjects(classification, [None] + ["a"] * 399)
    with pytest.raises(UserError, match=r"samples.parquet: column subject has 1 empty fields"):
        run(arguments)


def seeds_with(arguments, folder, status):
    """Arguments of two seeds, of which the second has a status and no predictions."""
    properties = {TARGET: TargetProperties(status, 7, 9)}
    path = folder / f"{status}.parquet"
    PredictionsWriter(path, "classification", properties, {}).close({})
    return {
        **arguments,
        "settings": {**SETTINGS, "seeds": [0, 1]},
        "predictions": [*arguments["predictions"], path],
        "baseline": arguments["baseline"] * 2,
    }


@pytest.mark.parametrize("status", ["undefined", "not_finite"])
def test_a_target_without_predictions_has_no_value(classification, tmp_path, status):
    table = run(seeds_with(classification, tmp_path, status))
    rows = [row for row in table.to_pylist() if row["metric"] == "accuracy" and not row["class"]]
    first, second, both = rows
    assert first["verdict"] == "non-trivial"
    assert (second["status"], both["status"]) == (status, None)
    assert second["baseline"] == first["baseline"] == both["baseline"]
    for row in (second, both):
        for name in ("value", "drop", "drop_low", "p_value", "p_trivial", "verdict", "drop_share"):
            assert row[name] is None
    assert second["n"] == 400
    summary.check(table, lambda row: "file")


def test_only_a_target_that_is_ok_is_tested(classification, tmp_path):
    path = write_predictions(
        tmp_path / "cut.parquet", {TARGET: guesses([0] * 400)}, status={TARGET: "cut"}
    )
    for row in run(classification, predictions=[path]).to_pylist():
        assert row["p_value"] is row["p_nontrivial"] is row["p_trivial"] is row["verdict"] is None
        assert (row["drop_low"] is not None) == (row["metric"] == "accuracy")


def test_a_class_that_training_did_not_learn_is_a_warning(classification, caplog):
    labels = pq.read_table(classification["samples"]).column("label").to_numpy()
    path = classification["baseline"][0]
    write_predictions(path, {"baseline": guesses(np.where(labels == 2, 1, labels))})
    baseline = {"settings": BASELINE, "predictions": [path], "stored_as": "baseline"}
    with caplog.at_level("WARNING"):
        run(classification, **baseline)
    assert [record.message for record in caplog.records] == [
        "paper: c2: recall is 0 in every sample of test: training did not learn this class, so"
        " zeroing cannot lower it"
    ]
    caplog.clear()
    run(classification)  # said once, by the baseline
    assert not caplog.records


def empty_subjects(folder):
    """Arguments of ten subjects, five without foreground; the target predicts nothing."""
    tp, fn = np.zeros((10, 2), int), np.zeros((10, 2), int)
    tp[:5, 1], fn[:5, 1] = 32, 15
    fp = np.full((10, 2), 3)
    nothing = pixel_counts(tp * 0, fp * 0, fn + tp)
    return {
        "settings": SETTINGS,
        "predictions": [write_predictions(folder / "p.parquet", {TARGET: nothing})],
        "stored_as": TARGET,
        "baseline": [
            write_predictions(folder / "b.parquet", {"baseline": pixel_counts(tp, fp, fn)})
        ],
        "samples": write_samples(
            folder / "samples.parquet", subjects=[f"s{i}" for i in range(10)], pixel_ml=0.01
        ),
        "dataset": write_dataset(folder / "dataset.json", "segmentation", ["background", "lesion"]),
        "output": folder / "target.parquet",
    }


def test_predicting_nothing_is_not_rewarded_by_empty_subjects(tmp_path):
    # Over all ten, with 1 for an empty truth and nothing predicted, this was 0.32 and 0.50.
    arguments = empty_subjects(tmp_path)
    row = per_seed(run(arguments))[0]
    assert (row["n"], row["empty"], row["value"]) == (5, 5, 0)
    assert row["baseline"] == pytest.approx(64 / 82)
    assert row["false_positive_ml"] == 0
    assert row["n_for_trivial"] == 6
    own = {"settings": BASELINE, "predictions": arguments["baseline"], "stored_as": "baseline"}
    baseline = run(arguments, **own).to_pylist()[0]
    assert baseline["false_positive_ml"] == pytest.approx(0.03)
    write_samples(arguments["samples"], subjects=[f"s{i}" for i in range(10)])
    assert run(arguments, **own).to_pylist()[0]["false_positive_ml"] is None


def test_a_split_without_foreground_is_refused(tmp_path):
    arguments = empty_subjects(tmp_path)
    empty = pixel_counts(*np.zeros((3, 10, 2), int))
    write_predictions(arguments["predictions"][0], {TARGET: empty})
    write_predictions(arguments["baseline"][0], {"baseline": empty})
    with pytest.raises(UserError, match=r"samples.parquet: no subject has foreground"):
        run(arguments)


def test_seeds_with_another_truth_are_refused(tmp_path):
    arguments = with_three_seeds(segmentation_arguments(tmp_path, subjects=6), tmp_path)
    path = arguments["baseline"][2]
    table = pq.read_table(path)
    fn = table.column("fn").to_numpy() + 1
    pq.write_table(table.set_column(table.column_names.index("fn"), "fn", pa.array(fn)), path)
    with pytest.raises(UserError, match=r"baseline-2.parquet: row 0: .* have another truth"):
        run(arguments)


def test_an_alias_is_read_under_its_stored_name(classification):
    alias = {**SETTINGS, "target": "set-mine", "kind": "set"}
    first = run(classification).drop_columns(["target", "kind"])
    second = run(classification, settings=alias)
    assert set(second.column("target").to_pylist()) == {"set-mine"}
    assert second.drop_columns(["target", "kind"]).equals(first)


def test_the_baseline_has_no_verdict_on_its_drop(classification):
    rows = run(
        classification,
        settings=BASELINE,
        predictions=classification["baseline"],
        stored_as="baseline",
    ).to_pylist()
    assert rows[0]["value_low"] < rows[0]["value"] < rows[0]["value_high"]
    for row in rows:
        assert row["drop"] == 0
        assert row["baseline"] == row["value"]
        for name in ("drop_low", "drop_high", "p_value", "b", "c", "verdict", "order", "block"):
            assert row[name] is None
        for name in ("p_nontrivial", "p_trivial", "drop_share", "df"):
            assert row[name] is None
        assert row["kernels"] == []


def test_segmentation_rows(tmp_path):
    rows = per_seed(run(segmentation_arguments(tmp_path, subjects=20)))
    names = [None, "anterior", "posterior"]
    assert [(row["metric"], row["class"], row["unit"], row["n"]) for row in rows] == [
        *[("dice", name, "subject", 20) for name in names],
        *[("dice_slice", name, "slice", 80) for name in names],
        *[("dice_pooled", name, "pooled", 1) for name in names],
    ]
    assert rows[0]["verdict"] == "non-trivial"
    assert rows[0]["p_value"] == 1 / 100_001
    assert rows[0]["drop_low"] < rows[0]["drop"] < rows[0]["drop_high"]
    assert {row["b"] for row in rows} == {None}


def test_fewer_than_six_subjects_have_no_inference(tmp_path):
    rows = run(segmentation_arguments(tmp_path, subjects=5)).to_pylist()
    for row in rows:
        assert row["value_low"] is row["drop_low"] is row["p_value"] is row["verdict"] is None
        assert row["drop"] > 0


def test_a_demonstration_has_no_inference_and_is_marked(tmp_path):
    arguments = segmentation_arguments(tmp_path, subjects=20, demonstration=True)
    for row in run(arguments).to_pylist():
        assert row["demonstration"] is True
        assert row["drop"] > 0
        for name in ("value_low", "value_high", "drop_low", "drop_high", "p_value", "verdict"):
            assert row[name] is None
        assert row["n_for_trivial"] is None


def test_rows_of_every_seed_come_first_and_those_over_seeds_last(classification, tmp_path):
    arguments = with_three_seeds(classification, tmp_path)
    table = run(arguments)
    assert [row["seed"] for row in table.to_pylist()] == [
        seed for seed in (0, 1, 2, None) for _ in range(2 + len(CLASSES))
    ]
    for seed in (0, 1, 2):
        alone = run(
            {**arguments, "settings": {**SETTINGS, "seeds": [seed]}},
            predictions=arguments["predictions"][seed : seed + 1],
            baseline=arguments["baseline"][seed : seed + 1],
        )
        assert per_seed(alone) == [row for row in per_seed(table) if row["seed"] == seed]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_rows_over_seeds_cover_seeds_and_test_sampling(tmp_path, classification, task):
    arguments = classification
    if task == "segmentation":
        arguments = segmentation_arguments(tmp_path, subjects=20)
    table = run(with_three_seeds(arguments, tmp_path))
    means = over_all_seeds(table)
    for mean in means:
        key = ("metric", "class", "unit")
        rows = [row for row in per_seed(table) if all(row[k] == mean[k] for k in key)]
        assert len(rows) == 3
        assert (mean["seeds"], mean["covers"]) == (3, SEEDS_AND_TEST_SAMPLING)
        for name in ("value", "baseline", "drop"):
            assert mean[name] == pytest.approx(np.mean([row[name] for row in rows]))
        for name in ("value", "drop"):
            values = [row[name] for row in rows]
            assert mean[f"{name}_sd"] == pytest.approx(np.std(values, ddof=1))
            # The made log probabilities do not vary, so they have no interval either.
            if mean["unit"] in ("slice", "pooled") or mean["metric"] == "log_prob":
                assert mean[f"{name}_low"] is None
            else:
                assert mean[f"{name}_low"] < mean[name] < mean[f"{name}_high"]
        assert mean["b"] is None
        assert (mean["p_value"] is None) == (mean["drop_low"] is None)
        for name in ("verdict", "p_nontrivial", "p_trivial", "margins"):
            assert (mean[name] is not None) == (mean is means[0])
        shared = ("experiment", "target", "kernels", "status", "live_weights", "margin", "n")
        assert [mean[name] for name in shared] == [rows[0][name] for name in shared]


def test_two_seeds_have_an_interval_but_no_test_and_no_verdict(classification, tmp_path):
    arguments = with_three_seeds(classification, tmp_path)
    files = {key: arguments[key][:2] for key in ("predictions", "baseline")}
    table = run({**arguments, **files, "settings": {**SETTINGS, "seeds": [0, 1]}})
    mean = over_all_seeds(table)[0]
    assert mean["drop_low"] < mean["drop"] < mean["drop_high"]
    for name in ("verdict", "p_value", "p_nontrivial", "p_trivial", "n_for_trivial"):
        assert mean[name] is None
    assert [at["verdict"] for at in mean["margins"]] == [None] * 3
    assert {row["verdict"] for row in per_seed(table) if row["class"] is None} >= {"non-trivial"}


def test_one_seed_has_its_own_rows_over_seeds(classification):
    table = run(classification)
    assert over_all_seeds(table) == [{**row, "seed": None} for row in per_seed(table)]


def test_the_baseline_over_seeds_has_an_interval_but_no_verdict(classification, tmp_path):
    arguments = with_three_seeds(classification, tmp_path)
    table = run(
        arguments,
        settings={**BASELINE, "seeds": [0, 1, 2]},
        predictions=arguments["baseline"],
        stored_as="baseline",
    )
    mean = over_all_seeds(table)[0]
    assert mean["value_low"] < mean["value"] < mean["value_high"]
    assert mean["drop"] == 0
    assert mean["drop_low"] is mean["drop_sd"] is mean["verdict"] is mean["df"] is None


def test_a_demonstration_over_seeds_has_means_only(tmp_path):
    arguments = segmentation_arguments(tmp_path, subjects=20, demonstration=True)
    for row in over_all_seeds(run(with_three_seeds(arguments, tmp_path))):
        assert row["drop"] > 0
        assert row["drop_low"] is row["value_high"] is row["verdict"] is None


def test_a_status_that_differs_between_seeds_is_null_over_seeds(classification, tmp_path):
    cut = write_predictions(
        tmp_path / "cut.parquet", {TARGET: guesses([0] * 400)}, status={TARGET: "cut"}
    )
    table = run(
        classification,
        settings={**SETTINGS, "seeds": [0, 1]},
        predictions=[*classification["predictions"], cut],
        baseline=classification["baseline"] * 2,
    )
    assert {row["status"] for row in per_seed(table)} == {"ok", "cut"}
    assert {row["status"] for row in over_all_seeds(table)} == {None}


def test_equal_inputs_give_equal_bytes(tmp_path):
    arguments = segmentation_arguments(tmp_path, subjects=20)
    run(arguments, output=tmp_path / "a.parquet")
    run(arguments, output=tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_resamples_depend_on_the_seed(tmp_path):
    arguments = segmentation_arguments(tmp_path, subjects=20)
    first = run(arguments).to_pylist()[0]
    second = run(arguments, settings={**SETTINGS, "seeds": [1]}).to_pylist()[0]
    assert first["drop"] == second["drop"]
    assert first["drop_low"] != second["drop_low"]


def test_one_target_is_read_without_row_group_statistics(classification, tmp_path):
    source = pq.ParquetFile(classification["predictions"][0])
    path = tmp_path / "plain.parquet"
    with pq.ParquetWriter(path, source.schema_arrow, write_statistics=False) as writer:
        for group in range(source.num_row_groups):
            writer.write_table(source.read_row_group(group))
    assert run(classification, predictions=[path]).equals(run(classification))


def test_files_of_prepare_and_predict_are_read(tmp_path):
    arguments = segmentation_arguments(tmp_path, subjects=8)
    expected = run(arguments)
    rows = [samples.Sample(source="v.nii", subject=f"s{i // 4:02d}", slice=i) for i in range(32)]
    samples.write(arguments["samples"], rows)
    for key, name in (("predictions", TARGET), ("baseline", "baseline")):
        (path,) = arguments[key]
        stored = pq.read_table(path)
        counts = {c: stored.column(c).to_numpy().reshape(32, 3) for c in ("tp", "fp", "fn")}
        targets = {"first": TargetProperties("ok", 1, 1), name: TargetProperties("ok", 7, 9)}
        writer = PredictionsWriter(path, "segmentation", targets, {})
        writer.write("first", {c: np.zeros_like(values) for c, values in counts.items()})
        writer.write(name, counts)
        writer.close({"first": 0.1, name: 0.1})
    assert run(arguments).equals(expected)


def test_the_status_comes_from_the_predictions(classification, tmp_path):
    path = write_predictions(
        tmp_path / "cut.parquet", {TARGET: guesses([0] * 400)}, status={TARGET: "cut"}
    )
    assert set(run(classification, predictions=[path]).column("status").to_pylist()) == {"cut"}


def test_the_program_runs_without_pandas_and_reports_in_one_line(classification):
    names = {"stored_as": "--stored-as"}
    command = [sys.executable, program.__file__, "--settings", json.dumps(SETTINGS)]
    for key in ("predictions", "stored_as", "baseline", "samples", "dataset", "output"):
        value = classification[key]
        values = value if isinstance(value, list) else [value]
        command += [names.get(key, f"--{key}"), *map(str, values)]
    environment = {"PYTHONVERBOSE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {
        line.split("'")[1].split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import '")
    }
    assert "numpy" in imported
    assert not imported & {"pandas", "scipy", "torch"}
    expected = pq.read_table(classification["output"])
    assert run(classification).equals(expected)

    classification["predictions"][0].unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "layers-1.parquet: no such file" in done.stderr


class TestBadInput:
    def refuse(self, arguments, message, **changes):
        with pytest.raises(UserError, match=message) as caught:
            run(arguments, **changes)
        assert "\n" not in str(caught.value)
        assert not arguments["output"].exists()

    def rewrite(self, path, columns):
        write_predictions(path, {TARGET: columns})

    def test_truncated_predictions(self, classification):
        (path,) = classification["predictions"]
        path.write_bytes(path.read_bytes()[:-100])
        self.refuse(classification, r"layers-1.parquet: not a readable Parquet file")

    def test_damaged_pages(self, classification):
        (path,) = classification["predictions"]
        content = bytearray(path.read_bytes())
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
        path.write_bytes(content)
        self.refuse(classification, r"layers-1.parquet: not a readable Parquet file")

    def test_empty_file(self, classification):
        classification["samples"].write_bytes(b"")
        self.refuse(classification, r"samples.parquet: not a readable Parquet file")

    def test_missing_file(self, classification):
        classification["baseline"][0].unlink()
        self.refuse(classification, r"baseline.parquet: no such file; run the workflow")

    @pytest.mark.parametrize("column", ["sample", "predicted", "log_prob"])
    def test_missing_column(self, classification, column):
        columns = guesses([0] * 400)
        del columns[column]
        self.rewrite(classification["predictions"][0], columns)
        self.refuse(classification, f"layers-1.parquet: no column {column}")

    def test_missing_column_of_the_samples(self, classification):
        pq.write_table(pa.table({"sample": [0]}), classification["samples"])
        self.refuse(classification, r"samples.parquet: no column label")

    def test_unknown_target(self, classification):
        self.refuse(
            classification,
            r"does not contain target layer-x \(it contains layer-other",
            stored_as="layer-x",
        )

    def test_target_without_rows(self, classification):
        (path,) = classification["predictions"]
        columns = guesses([0] * 400)
        table = pa.table(
            {
                "target": pa.array([], pa.string()),
                **{k: pa.array(v[:0]) for k, v in columns.items()},
            }
        )
        targets = {TARGET: {"status": "ok", "live_weights": 1, "total_weights": 1}}
        table = table.replace_schema_metadata({b"nontrivial": json.dumps({"targets": targets})})
        pq.write_table(table, path)
        self.refuse(classification, "no rows for target")

    def test_no_description_of_targets(self, classification):
        (path,) = classification["predictions"]
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
        self.refuse(classification, "no description of its targets")

    @pytest.mark.parametrize("label", [-1, 4])
    def test_label_outside_the_classes(self, classification, label):
        labels = [0, 1, label] + [0] * 397
        write_samples(classification["samples"], labels=labels)
        self.refuse(
            classification, rf"samples.parquet: label of row 2 is {label}, outside the 4 classes"
        )

    def test_prediction_outside_the_classes(self, classification):
        self.rewrite(classification["predictions"][0], guesses([0] * 399 + [7]))
        self.refuse(classification, "predicted of row 399 is 7, outside the 4 classes")

    def test_empty_labels(self, classification):
        write_samples(classification["samples"], labels=[0, None] + [1] * 398)
        self.refuse(classification, "samples.parquet: column label has 1 empty fields")

    def test_number_of_samples(self, classification):
        self.rewrite(classification["predictions"][0], guesses([0] * 399))
        self.refuse(classification, r"its 399 rows are not the samples of .*\(400 rows expected\)")

    def test_order_of_samples(self, classification):
        columns = guesses([0] * 400)
        columns["sample"] = columns["sample"][::-1]
        self.rewrite(classification["predictions"][0], columns)
        self.refuse(classification, "are not the samples of .* in their order")

    def test_baseline_of_other_samples(self, classification):
        columns = guesses([0] * 400)
        columns["sample"] = columns["sample"] + 1
        write_predictions(classification["baseline"][0], {"baseline": columns})
        self.refuse(classification, "baseline.parquet: its 400 rows are not the samples")

    def test_classes_of_a_segmentation(self, tmp_path):
        arguments = segmentation_arguments(tmp_path, subjects=6)
        names = ["background", "anterior", "posterior"]
        write_dataset(arguments["dataset"], "segmentation", names[:2])
        self.refuse(arguments, "are not the samples of")
        columns = pixel_counts(*np.zeros((3, 24, 3)))
        columns["class"] = columns["class"][::-1]
        self.rewrite(arguments["predictions"][0], columns)
        write_dataset(arguments["dataset"], "segmentation", names)
        self.refuse(arguments, "are not classes 0 to 2 of every sample")

    def test_segmentation_without_subjects(self, tmp_path):
        arguments = segmentation_arguments(tmp_path, subjects=6)
        write_samples(arguments["samples"], labels=[None] * 24)
        self.refuse(arguments, "column subject has 24 empty fields")

    def test_missing_settings(self, classification):
        settings = {key: value for key, value in SETTINGS.items() if key != "margin"}
        self.refuse(classification, "--settings: missing margin", settings=settings)

    @pytest.mark.parametrize("name", ["predictions", "baseline"])
    def test_another_number_of_files_than_seeds(self, classification, name):
        files = classification[name] * 2
        self.refuse(classification, f"--{name}: 2 files for 1 seeds", **{name: files})

    def test_predictions_of_the_other_task(self, classification):
        write_dataset(Path(classification["dataset"]), "segmentation", CLASSES)
        write_samples(classification["samples"], subjects=["s"] * 400)
        self.refuse(classification, "no column class, tp, fp, fn")
