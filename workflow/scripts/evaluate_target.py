"""Turn one target's stored predictions into metrics, intervals, a paired test and a verdict.

It starts once per target, so it imports numpy and pyarrow only.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from nontrivial.data.prepared import Description, read_description
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.lean_arrow import without_pandas
from nontrivial.formats import checked_parquet
from nontrivial.formats.canonical import canonical
from nontrivial.formats.parquet_columns import INTEGER, NUMBER, TEXT, read_columns
from nontrivial.formats.stored_predictions import StoredTarget, read_target
from nontrivial.formats.summary import SUMMARY, is_primary
from nontrivial.inference.classification_metrics import (
    accuracy_measurements,
    log_probability_measurement,
)
from nontrivial.inference.measurement import Measurement
from nontrivial.inference.random_streams import generator
from nontrivial.inference.segmentation_metrics import (
    Counts,
    pooled_measurements,
    slice_measurements,
    subject_measurements,
)
from nontrivial.inference.verdict import verdict

SETTINGS = (
    "experiment",
    "training",
    "dataset",
    "network",
    "stem",
    "seed",
    "split",
    "intervention",
    "parameters",
    "target",
    "kind",
    "reading",
    "kernels",
    "order",
    "role",
    "block",
    "margin",
)
PREDICTED = {
    "classification": {"sample": INTEGER, "predicted": INTEGER, "log_prob": NUMBER},
    "segmentation": dict.fromkeys(["sample", "class", "tp", "fp", "fn"], INTEGER),
}
SAMPLES = {
    "classification": {"sample": INTEGER, "label": INTEGER},
    "segmentation": {"sample": INTEGER, "subject": TEXT},
}
# Plain columns: of a dozen rows, dictionaries and compression save no room and cost the reader of
# many files a quarter of its time.
FEW_ROWS = {"use_dictionary": False, "compression": "none", "write_statistics": False}
LARGEST_LOG_PROBABILITY = 1e-3  # 0, and what float32 may round to


def evaluate_target(
    settings: dict,
    predictions: Path,
    stored_as: str,
    baseline: Path,
    samples: Path,
    dataset: Path,
    output: Path,
) -> None:
    """Write the rows of one target; ``p_holm`` stays empty until all targets are there.

    Args:
        settings: the target's own columns (:data:`SETTINGS`).
        predictions: Parquet file that holds the target.
        stored_as: the name under which it does (a target may equal an earlier one).
        baseline: Parquet file that holds the target ``baseline``.
        samples: ``samples.parquet`` of the split.
        dataset: ``dataset.json``.
        output: Parquet file to write, with the columns of
            :data:`nontrivial.formats.summary.SUMMARY`.

    Raises:
        UserError: a file cannot be read, or the files do not fit each other.
    """
    missing = [key for key in SETTINGS if key not in settings]
    if missing:
        raise UserError(
            f"--settings: no {', '.join(missing)}; give every key (null if it is empty)"
        )
    description = read_description(dataset)
    columns = PREDICTED[description.task]
    changed = read_target(predictions, stored_as, columns)
    clean = read_target(baseline, "baseline", columns)
    table = read_columns(samples, SAMPLES[description.task])
    if not np.array_equal(table["sample"], np.arange(len(table["sample"]))):
        raise UserError(f"{samples}: its samples are not numbered from 0; prepare the data again")
    _require_same_samples(changed, table, predictions, samples, description)
    _require_same_samples(clean, table, baseline, samples, description)
    if description.task == "classification":
        _require_classes(table["label"], description, f"{samples}: label")
        for stored, path in ((clean, baseline), (changed, predictions)):
            _require_classes(stored.columns["predicted"], description, f"{path}: predicted")
            _require_log_probabilities(stored, path)
        measurements = _classification(table["label"], changed, clean, description)
    else:
        for stored, path in ((clean, baseline), (changed, predictions)):
            _require_counts(stored, clean, path, description)
        measurements = _segmentation(table["subject"], changed, clean, description, settings)
    if settings["kind"] == "baseline":
        measurements = [_without_comparison(row) for row in measurements]
    if description.demonstration:
        measurements = [_without_inference(row) for row in measurements]
    rows = [_row(settings, description, changed, row) for row in measurements]
    with replacing(output) as temporary:
        checked_parquet.write(pa.Table.from_pylist(rows, schema=SUMMARY), temporary, **FEW_ROWS)


def _classification(
    labels: np.ndarray, changed: StoredTarget, clean: StoredTarget, description: Description
) -> list[Measurement]:
    overall, *per_class = accuracy_measurements(
        labels, changed.columns["predicted"], clean.columns["predicted"], description.classes
    )
    certainty = log_probability_measurement(changed.columns["log_prob"], clean.columns["log_prob"])
    return [overall, certainty, *per_class]


def _segmentation(
    subjects: np.ndarray,
    changed: StoredTarget,
    clean: StoredTarget,
    description: Description,
    settings: dict,
) -> list[Measurement]:
    classes = description.classes
    counts, before = _counts(changed, len(classes)), _counts(clean, len(classes))
    resampling, flips = (
        generator(settings["seed"], settings["kernels"], purpose)
        for purpose in ("bootstrap", "sign flip")
    )
    return [
        *subject_measurements(subjects, counts, before, classes, resampling, flips),
        *slice_measurements(counts, before, classes),
        *pooled_measurements(counts, before, classes),
    ]


def _counts(stored: StoredTarget, classes: int) -> Counts:
    return Counts(*(stored.columns[name].reshape(-1, classes) for name in ("tp", "fp", "fn")))


def _require_same_samples(
    stored: StoredTarget, table: dict, path: Path, samples: Path, description: Description
) -> None:
    """Refuse predictions that are not of exactly these samples in this order."""
    expected = table["sample"]
    if description.task == "segmentation":
        classes = np.arange(len(description.classes))
        wanted_classes = np.tile(classes, len(expected))
        expected = np.repeat(expected, len(classes))
        classes_fit = np.array_equal(stored.columns["class"], wanted_classes)
    else:
        classes_fit = True
    if not np.array_equal(stored.columns["sample"], expected):
        raise UserError(
            f"{path}: its {len(stored.columns['sample'])} rows are not the samples of {samples} "
            f"in their order ({len(expected)} rows expected); predict again"
        )
    if not classes_fit:
        raise UserError(
            f"{path}: its rows are not classes 0 to {len(description.classes) - 1} for every "
            "sample; predict again"
        )


def _require_classes(numbers: np.ndarray, description: Description, where: str) -> None:
    outside = (numbers < 0) | (numbers >= len(description.classes))
    if outside.any():
        row = int(np.argmax(outside))
        raise UserError(
            f"{where} of row {row} is {numbers[row]}, outside the {len(description.classes)} "
            "classes of dataset.json; prepare the data and predict again"
        )


def _require_log_probabilities(stored: StoredTarget, path: Path) -> None:
    numbers = stored.columns["log_prob"]
    wrong = ~(np.isfinite(numbers) & (numbers <= LARGEST_LOG_PROBABILITY))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}: log_prob of row {row} is {numbers[row]:g}, which is no log probability; the "
            "network gives no numbers (train it again) or the file is damaged (predict again)"
        )


def _require_counts(
    stored: StoredTarget, clean: StoredTarget, path: Path, description: Description
) -> None:
    """Refuse counts of pixels that no slice can have, or of another truth than the baseline's."""
    tp, fp, fn = (stored.columns[name].astype(np.int64) for name in ("tp", "fp", "fn"))
    truth = clean.columns["tp"].astype(np.int64) + clean.columns["fn"]
    pixels = math.prod(description.size)
    impossible = (np.minimum(np.minimum(tp, fp), fn) < 0) | (tp + fp + fn > pixels)
    for wrong, what in (
        (impossible, f"cannot be of {pixels} pixels"),
        (tp + fn != truth, "are of another truth than the baseline's"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"{path}: row {row}: tp {tp[row]}, fp {fp[row]}, fn {fn[row]} {what}; predict again"
            )


def _without_comparison(row: Measurement) -> Measurement:
    """Return a row of the baseline itself: its drop is 0, and there is nothing to test."""
    return dataclasses.replace(row, drop_low=None, drop_high=None, p_value=None, b=None, c=None)


def _without_inference(row: Measurement) -> Measurement:
    """Return a row of a demonstration: figures that stand for nothing beyond its own data."""
    return dataclasses.replace(
        row, value_low=None, value_high=None, drop_low=None, drop_high=None, p_value=None
    )


def _row(
    settings: dict, description: Description, stored: StoredTarget, measurement: Measurement
) -> dict:
    row = dataclasses.asdict(measurement)
    row["class"] = row.pop("class_name")
    judged = is_primary(measurement.metric, measurement.class_name)
    margin = settings["margin"]
    return {
        **{key: settings[key] for key in SETTINGS},
        "parameters": canonical(settings["parameters"]),
        "live_weights": stored.live_weights,
        "total_weights": stored.total_weights,
        "status": stored.status,
        **row,
        "verdict": verdict(row["drop_low"], row["drop_high"], margin) if judged else None,
        "demonstration": description.demonstration,
    }


if __name__ == "__main__":
    without_pandas()
    command_line.run(evaluate_target)
