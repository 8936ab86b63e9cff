"""The outputs of a finished run of the real workflow agree with each other."""

import json
import re

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from conftest import CONFIG

from nontrivial.formats.summary import SCHEMA

EXPECTED_TARGETS = {"digits": 20 + 4 + 3 + 1, "t1": 4 + 3 + 1}


@pytest.fixture(scope="module")
def summary(finished_once):
    return pandas.read_parquet(finished_once.path("results/summary.parquet"))


def primary(summary, experiment):
    rows = summary[(summary.experiment == experiment) & summary["class"].isna()]
    return rows[rows.metric.isin(["accuracy", "dice"])].set_index("target")


def test_summary_has_every_target_once(finished_once, summary):
    schema = pq.read_schema(finished_once.path("results/summary.parquet"))
    assert schema.names == SCHEMA.names
    for experiment, count in EXPECTED_TARGETS.items():
        rows = primary(summary, experiment)
        assert len(rows) == rows.index.nunique() == count
    seeds = pq.read_table(finished_once.path("results/across_seeds.parquet"))
    assert seeds.schema.names == SCHEMA.names
    margins = pandas.read_parquet(finished_once.path("results/margins.parquet"))
    assert len(margins) == 3 * 2 * sum(EXPECTED_TARGETS.values())


def test_verdicts_follow_from_the_intervals_at_every_margin(finished_once, summary):
    margins = pandas.read_parquet(finished_once.path("results/margins.parquet"))
    rows = primary(summary, "digits")
    found = margins[(margins.experiment == "digits") & margins.seed.notna()]
    assert set(found.margin) == {0.01, 0.02, 0.05}
    for row in found.itertuples():
        result = rows.loc[row.target]
        if row.target == "baseline" or result.status != "ok":
            assert pandas.isna(row.verdict)
            assert pandas.isna(row.p_trivial)
        else:
            assert (row.verdict == "non-trivial") == (result.drop_low > row.margin)
            assert (row.verdict == "non-trivial") == (row.p_nontrivial < 0.025)
            assert row.p_nontrivial_holm >= row.p_nontrivial


def test_drop_is_baseline_minus_value(summary):
    rows = summary.dropna(subset=["value", "baseline"])
    assert np.allclose(rows["drop"], rows.baseline - rows.value)


@pytest.mark.parametrize(
    ("experiment", "training"), [("digits", "digits-resnet18"), ("t1", "t1-pspnet")]
)
def test_baseline_equals_the_test_score_of_training(finished_once, summary, experiment, training):
    folder = finished_once.path(f"results/networks/{training}/seed0")
    history = pandas.read_parquet(folder / "training.parquet")
    tested = history.test.iloc[-1]
    # Another batch size changes the last bits, so one or two predictions may differ.
    baseline = primary(summary, experiment).loc["baseline"]
    assert baseline.value == pytest.approx(tested, abs=0.005)


def test_targets_with_the_same_kernels_have_the_same_result(summary):
    rows = primary(summary, "digits")
    for n in (2, 3, 4):
        shortcut, layer = rows.loc[f"shortcut-{n}"], rows.loc[f"layer-layer{n}.0.downsample.0"]
        for column in ("value", "drop", "drop_low", "drop_high", "p_value", "p_holm", "verdict"):
            assert shortcut[column] == layer[column] or pandas.isna(shortcut[column])


def test_the_stem_is_cut_and_not_tested(summary):
    stem = primary(summary, "digits").loc["layer-conv1"]
    assert stem.status == "cut"
    assert pandas.isna(stem.p_holm)
    others = primary(summary, "digits").drop(["layer-conv1", "baseline"])
    assert (others.status == "ok").all()
    assert others.p_holm.notna().all()


def test_too_few_subjects_get_no_interval(summary):
    rows = primary(summary, "t1")
    assert (rows.unit == "subject").all()
    assert rows.n.unique().tolist() == [2]
    assert rows[["value_low", "drop_low", "p_value", "verdict"]].isna().all(axis=None)


def test_recorded_digests_match_the_files(finished_once):
    from nontrivial.formats.canonical import file_digest

    for folder in finished_once.path("results/networks").glob("*/seed*"):
        recorded = json.loads((folder / "model.json").read_text())["sha256"]
        assert recorded == file_digest(folder / "model.safetensors")
    for description in finished_once.path("results/data").glob("*/dataset.json"):
        for name, recorded in json.loads(description.read_text())["sha256"].items():
            assert recorded == file_digest(description.parent / name)


def test_each_subject_is_in_one_split(finished_once):
    folder = finished_once.path("results/data/t1")
    splits = [
        set(pandas.read_parquet(folder / split / "samples.parquet").subject)
        for split in ("train", "val", "test")
    ]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 12


def test_the_data_are_summarized(finished_once):
    for name, row in (("t1", "| test | 2 | 2 | 2 | 12 | 8 (66.7%) |"), ("digits", "| test | ")):
        folder = finished_once.path(f"results/data/{name}")
        assert row in (folder / "summary.md").read_text()
        assert (folder / "summary.png").read_bytes().startswith(b"\x89PNG")
    warning = "The test split has 2 subjects. With fewer than 6"
    assert warning in (finished_once.path("results/data/t1/summary.md")).read_text()
    assert warning in finished_once.path("results/logs/prepare/t1.log").read_text()


def test_tables_and_figures_are_complete(finished_once):
    figures = finished_once.path("results/figures")
    for svg in figures.glob("*.svg"):
        assert svg.read_text().rstrip().endswith("</svg>")
        assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    names = {path.stem for path in figures.glob("*.svg")}
    assert names == {
        "layers-digits",
        "map-digits",
        "interventions-digits",
        "interventions-t1",
        "slices-t1",
        "learning-digits-resnet18",
        "learning-t1-pspnet",
    }
    claims = pandas.read_csv(finished_once.path("results/tables/claims.csv"))
    assert claims.claim.nunique() == 10
    for name in ("paper", "claims", "targets-digits", "targets-t1"):
        for suffix in ("csv", "md", "html"):
            assert finished_once.path(f"results/tables/{name}.{suffix}").stat().st_size > 0


def test_no_temporary_file_is_left(finished_once):
    leftovers = [p.name for p in finished_once.path("results").rglob("*") if ".part" in p.name]
    assert leftovers == []


def test_logs_have_no_control_characters(finished_once):
    log = finished_once.path("results/logs/train/digits-resnet18-seed0.log").read_text()
    assert re.search(r"^epoch 1/1: loss [\d.]+, val accuracy [\d.]+", log, re.MULTILINE)
    assert "\r" not in log
    assert "\x1b" not in log


def test_the_report_is_one_offline_file(finished):
    finished.run("--report", "results/report.html")
    text = finished.path("results/report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?://", text)
    for label in (
        "summary.md",
        "summary.png",
        "Each kernel alone",
        "Map of the network",
        "Tables 1 to 4",
        "Learning curves",
    ):
        assert label in text


def test_a_failed_job_reports_one_line_and_leaves_earlier_results_reusable(finished):
    config = finished.config
    config["trainings"]["digits-resnet18"]["recipe"]["learning_rate"] = 1e9
    finished.config = config
    weights = finished.path("results/networks/digits-resnet18/seed0/model.safetensors")
    history = weights.with_name("training.parquet")
    # The history records seconds, so a network that is trained again has another one.
    before = weights.read_bytes(), history.read_bytes()
    done = finished.snakemake("--cores", "2", "networks")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(r"^error: .*not finite", output, re.MULTILINE)
    assert "Traceback" not in output
    assert "train digits-resnet18 0" in finished.stale()
    finished.config = CONFIG
    finished.run("networks")
    assert (weights.read_bytes(), history.read_bytes()) == before
    assert finished.stale() == set()
