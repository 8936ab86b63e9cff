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
from nontrivial.formats import samples
from nontrivial.formats.predictions import PredictionsWriter, TargetProperties
from nontrivial.formats.summary import TARGET_SCHEMA
from nontrivial.inference.across_seeds import t_interval

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
def test_rows_over_seeds_have_means_t_intervals_and_a_verdict(tmp_path, classification, task):
    arguments = classification
    if task == "segmentation":
        arguments = segmentation_arguments(tmp_path, subjects=20)
    table = run(with_three_seeds(arguments, tmp_path))
    means = over_all_seeds(table)
    for mean in means:
        key = ("metric", "class", "unit")
        rows = [row for row in per_seed(table) if all(row[k] == mean[k] for k in key)]
        assert len(rows) == 3
        assert (mean["seeds"], mean["covers"]) == (3, "training seeds")
        for name in ("value", "baseline", "drop"):
            assert mean[name] == pytest.approx(np.mean([row[name] for row in rows]))
        for name in ("value", "drop"):
            values = [row[name] for row in rows]
            assert (mean[f"{name}_low"], mean[f"{name}_high"]) == t_interval(values)
            assert mean[f"{name}_sd"] == pytest.approx(np.std(values, ddof=1))
        assert mean["p_value"] is mean["b"] is None
        assert (mean["verdict"] is not None) == (mean is means[0])
        shared = ("experiment", "target", "kernels", "status", "live_weights", "margin", "n")
        assert [mean[name] for name in shared] == [rows[0][name] for name in shared]


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
    assert mean["drop_low"] is mean["drop_sd"] is mean["verdict"] is None


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
