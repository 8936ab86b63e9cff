import pytest

from nontrivial.errors import UserError
from nontrivial.formats.history import Epoch, read_curves, write_history


def epoch(number, **changes):
    values = {
        "epoch": number,
        "learning_rate": 0.1,
        "loss": 2.0 / number,
        "val": 0.1 * number,
        "seconds": 3.0,
        "samples_per_second": 50.0,
        "device": "cpu",
        "versions": "{}",
        "resumed": 0,
    }
    return Epoch(**{**values, **changes})


def write(path, *epochs):
    write_history(path, epochs, metric="accuracy", test=0.7, threads=2, precision="fp32")
    return path


def test_curves_read_back_with_the_test_metric_in_the_last_row(tmp_path):
    path = write(tmp_path / "training.parquet", epoch(1), epoch(2))
    assert read_curves(path) == {
        "epoch": [1, 2],
        "loss": [2.0, 1.0],
        "metric": ["accuracy"] * 2,
        "val": [0.1, 0.2],
        "test": [None, 0.7],
    }


def test_a_history_without_epochs_or_with_nulls_is_refused(tmp_path):
    with pytest.raises(UserError, match="the history has no epoch"):
        read_curves(write(tmp_path / "a.parquet"))
    with pytest.raises(UserError, match="column loss has empty fields"):
        read_curves(write(tmp_path / "b.parquet", epoch(1, loss=None), epoch(2)))
