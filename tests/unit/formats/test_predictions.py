import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from nontrivial.errors import UserError
from nontrivial.formats.predictions import (
    METADATA,
    SCHEMAS,
    PredictionsWriter,
    TargetProperties,
    read_target,
)

TARGETS = {"baseline": TargetProperties("ok", 0, 0), "layer-a": TargetProperties("cut", 7, 9)}


def classification(shift=0):
    return {
        "predicted": np.arange(5, dtype=np.int16) + shift,
        "margin": np.ones(5, np.float32),
        "log_prob": np.full(5, -0.5, np.float32),
    }


def write(path, task="classification", columns=classification, provenance="same"):
    writer = PredictionsWriter(path, task, TARGETS, {"device": provenance})
    for shift, name in enumerate(TARGETS):
        writer.write(name, columns(shift))
    return writer.close({"seconds": 1.0})


def pixels(shift):
    return {name: np.full((4, 3), shift + i, np.int32) for i, name in enumerate(("tp", "fp", "fn"))}


@pytest.mark.parametrize(
    ("task", "columns"), [("classification", classification), ("segmentation", pixels)]
)
def test_every_target_is_a_row_group_that_reads_back(tmp_path, task, columns):
    path = tmp_path / "p.parquet"
    write(path, task, columns)
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 2
        assert file.schema_arrow.equals(SCHEMAS[task])
    for shift, (name, properties) in enumerate(TARGETS.items()):
        wanted = columns(shift)
        found_properties, found = read_target(path, name, task, list(wanted))
        assert found_properties == properties
        for column, values in wanted.items():
            assert np.array_equal(found[column], values.ravel())
            assert found[column].dtype == values.dtype


def test_samples_and_classes_are_numbered(tmp_path):
    write(tmp_path / "p.parquet", "segmentation", pixels)
    _, found = read_target(tmp_path / "p.parquet", "layer-a", "segmentation", ["class", "sample"])
    assert found["sample"].tolist() == np.repeat(range(4), 3).tolist()
    assert found["class"].tolist() == [0, 1, 2] * 4


def test_columns_that_nothing_fills_are_null(tmp_path):
    write(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    for name in ("draw", "part", "kl"):
        assert table[name].null_count == table.num_rows == 10
    with pytest.raises(UserError, match="column kl has 5 empty fields"):
        read_target(tmp_path / "p.parquet", "layer-a", "classification", ["kl"])


def test_the_content_digest_covers_predictions_and_not_provenance(tmp_path):
    first = write(tmp_path / "1.parquet")
    assert write(tmp_path / "2.parquet", provenance="elsewhere") == first
    other = write(tmp_path / "3.parquet", columns=lambda shift: classification(2 * shift))
    assert other != first


def test_metadata_describe_the_targets_in_order(tmp_path):
    write(tmp_path / "p.parquet")
    metadata = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[METADATA.encode()])
    assert list(metadata["targets"]) == list(TARGETS)
    assert metadata["targets"]["layer-a"] == {
        "status": "cut",
        "live_weights": 7,
        "total_weights": 9,
    }


@pytest.mark.parametrize("status", ["undefined", "not_finite"])
def test_a_target_whose_status_says_so_has_no_predictions(tmp_path, status):
    targets = {"layer-a": TargetProperties(status, 7, 9), "layer-b": TargetProperties("ok", 7, 9)}
    writer = PredictionsWriter(tmp_path / "p.parquet", "classification", targets, {})
    writer.write("layer-b", classification())
    writer.close({})
    found = read_target(tmp_path / "p.parquet", "layer-a", "classification", ["predicted"])
    assert found == (targets["layer-a"], None)
