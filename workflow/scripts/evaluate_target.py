"""Evaluate one target: metrics with intervals, paired tests and verdicts, from predictions.

The workflow starts this program once per target, so it imports numpy and pyarrow only.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.without_pandas import block_pandas
from nontrivial.formats import samples as sample_tables
from nontrivial.formats.canonical import canonical
from nontrivial.formats.dataset import Description, read_description
from nontrivial.formats.predictions import TargetProperties, read_target
from nontrivial.formats.summary import Flag, is_primary, names, write_target
from nontrivial.inference.across_seeds import over_seeds
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

SETTINGS = ("seeds", *names(Flag.SETTING))
PREDICTED = {
    "classification": ("sample", "predicted", "log_prob"),
    "segmentation": ("sample", "class", "tp", "fp", "fn"),
}
SAMPLES = {"classification": ("label",), "segmentation": ("subject",)}
MARGINS = (0.01, 0.02, 0.05)  # beside the configured one
LARGEST_LOG_PROBABILITY = 1e-3  # 0, with room for float32 rounding

Columns = dict[str, np.ndarray]


def evaluate_target(
    settings: dict,
    predictions: list[Path],
    stored_as: str,
    baseline: list[Path],
    samples: Path,
    dataset: Path,
    output: Path,
) -> None:
    """Write the rows of one target: per seed, then over all seeds.

    ``p_holm`` is null, because it depends on the other targets.

    Args:
        settings: ``seeds``, and the target's own columns of the summary (:data:`SETTINGS`).
        predictions: Parquet files that contain the target, one per seed, in the order of seeds.
        stored_as: name of the target in them. Targets with equal kernels are stored once.
        baseline: Parquet files that contain the target ``baseline``, likewise.
        samples: ``samples.parquet`` of the split.
        dataset: ``dataset.json``.
        output: Parquet file to write, with the columns of the summary.

    Raises:
        UserError: a file cannot be read, or the files do not belong together.
    """
    _require_settings(settings, predictions, baseline)
    description = read_description(dataset)
    table = sample_tables.read_columns(samples, SAMPLES[description.task])
    if description.task == "classification":
        _require_classes(table["label"], description, f"{samples}: label")
    seeds = settings["seeds"]
    stored, measured = [], []
    for seed, changed_path, clean_path in zip(seeds, predictions, baseline, strict=True):
        properties, changed = _read(changed_path, stored_as, table, samples, description)
        _, clean = _read(clean_path, "baseline", table, samples, description)
        stored.append(properties)
        if description.task == "classification":
            measured.append(_classification(table["label"], changed, clean, description))
        else:
            _require_same_truth(changed, clean, changed_path)
            measured.append(
                _segmentation(table["subject"], changed, clean, description, settings, seed)
            )
    groups = [
        *zip(seeds, map(dataclasses.asdict, stored), measured, strict=True),
        (None, _common(stored), [over_seeds(rows) for rows in zip(*measured, strict=True)]),
    ]
    rows = [
        _row(settings, description, properties, seed, _reported(measurement, settings, description))
        for seed, properties, measurements in groups
        for measurement in measurements
    ]
    with replacing(output) as temporary:
        write_target(temporary, rows)


def _require_settings(settings: dict, predictions: list[Path], baseline: list[Path]) -> None:
    missing = [key for key in SETTINGS if key not in settings]
    if missing:
        raise UserError(
            f"--settings: missing {', '.join(missing)}; give every key (null if it has no value)"
        )
    for name, files in (("predictions", predictions), ("baseline", baseline)):
        if len(files) != len(settings["seeds"]):
            raise UserError(
                f"--{name}: {len(files)} files for {len(settings['seeds'])} seeds; give one per"
                " seed, in their order"
            )


def _read(
    path: Path, target: str, table: Columns, samples: Path, description: Description
) -> tuple[TargetProperties, Columns]:
    """Read a target and refuse predictions of other samples, or impossible ones."""
    task = description.task
    properties, columns = read_target(path, target, task, PREDICTED[task])
    expected = table["sample"]
    classes = len(description.classes)
    if task == "segmentation":
        expected = np.repeat(expected, classes)
    if not np.array_equal(columns["sample"], expected):
        raise UserError(
            f"{path}: its {len(columns['sample'])} rows are not the samples of {samples} in their"
            f" order ({len(expected)} rows expected); predict again"
        )
    if task == "classification":
        _require_classes(columns["predicted"], description, f"{path}: predicted")
        _require_log_probabilities(columns["log_prob"], path)
    else:
        if not np.array_equal(columns["class"], np.tile(np.arange(classes), len(table["sample"]))):
            raise UserError(
                f"{path}: its rows are not classes 0 to {classes - 1} of every sample; predict"
                " again"
            )
        _require_counts(columns, path, description)
    return properties, columns


def _classification(
    labels: np.ndarray, changed: Columns, clean: Columns, description: Description
) -> list[Measurement]:
    overall, *per_class = accuracy_measurements(
        labels, changed["predicted"], clean["predicted"], description.classes
    )
    certainty = log_probability_measurement(changed["log_prob"], clean["log_prob"])
    return [overall, certainty, *per_class]


def _segmentation(
    subjects: np.ndarray,
    changed: Columns,
    clean: Columns,
    description: Description,
    settings: dict,
    seed: int,
) -> list[Measurement]:
    classes = description.classes
    counts, before = _counts(changed, len(classes)), _counts(clean, len(classes))
    resampling, flips = (
        generator(seed, settings["kernels"], purpose) for purpose in ("bootstrap", "sign flip")
    )
    return [
        *subject_measurements(subjects, counts, before, classes, resampling, flips),
        *slice_measurements(counts, before, classes),
        *pooled_measurements(counts, before, classes),
    ]


def _counts(columns: Columns, classes: int) -> Counts:
    return Counts(*(columns[name].reshape(-1, classes) for name in ("tp", "fp", "fn")))


def _require_classes(numbers: np.ndarray, description: Description, where: str) -> None:
    outside = (numbers < 0) | (numbers >= len(description.classes))
    if outside.any():
        row = int(np.argmax(outside))
        raise UserError(
            f"{where} of row {row} is {numbers[row]}, outside the {len(description.classes)}"
            " classes of dataset.json; prepare the data and predict again"
        )


def _require_log_probabilities(numbers: np.ndarray, path: Path) -> None:
    wrong = ~(np.isfinite(numbers) & (numbers <= LARGEST_LOG_PROBABILITY))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}: log_prob of row {row} is {numbers[row]:g}, which is not a log probability;"
            " train again if the network's outputs are not finite, else predict again"
        )


def _require_counts(columns: Columns, path: Path, description: Description) -> None:
    tp, fp, fn = (columns[name].astype(np.int64) for name in ("tp", "fp", "fn"))
    pixels = math.prod(description.size)
    impossible = (np.minimum(np.minimum(tp, fp), fn) < 0) | (tp + fp + fn > pixels)
    _refuse_counts(impossible, columns, path, f"are impossible with {pixels} pixels")


def _require_same_truth(changed: Columns, clean: Columns, path: Path) -> None:
    truth, expected = (
        columns["tp"].astype(np.int64) + columns["fn"] for columns in (changed, clean)
    )
    _refuse_counts(truth != expected, changed, path, "have another truth than the baseline's")


def _refuse_counts(wrong: np.ndarray, columns: Columns, path: Path, problem: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        tp, fp, fn = (columns[name][row] for name in ("tp", "fp", "fn"))
        raise UserError(f"{path}: row {row}: tp {tp}, fp {fp}, fn {fn} {problem}; predict again")


def _common(stored: Sequence[TargetProperties]) -> dict:
    """Return the target's properties over all seeds; the status is None where seeds differ."""
    first = dataclasses.asdict(stored[0])
    same = all(one.status == stored[0].status for one in stored)
    return first if same else {**first, "status": None}


def _reported(row: Measurement, settings: dict, description: Description) -> Measurement:
    """Leave out what the data do not allow to say."""
    if settings["kind"] == "baseline":  # its drop is 0 by definition
        row = dataclasses.replace(
            row, drop_low=None, drop_high=None, drop_sd=None, p_value=None, b=None, c=None
        )
    if description.demonstration:
        row = dataclasses.replace(
            row, value_low=None, value_high=None, drop_low=None, drop_high=None, p_value=None
        )
    return row


def _row(
    settings: dict,
    description: Description,
    properties: dict,
    seed: int | None,
    measurement: Measurement,
) -> dict:
    row = dataclasses.asdict(measurement)
    row["class"] = row.pop("class_name")
    judged = is_primary(row["metric"], row["class"])
    return {
        **{key: settings[key] for key in names(Flag.SETTING)},
        "parameters": canonical(settings["parameters"]),
        "seed": seed,
        **properties,
        **row,
        "verdict": verdict(row["drop_low"], row["drop_high"], settings["margin"])
        if judged
        else None,
        "margins": [
            {"margin": margin, "verdict": verdict(row["drop_low"], row["drop_high"], margin)}
            for margin in sorted({*MARGINS, settings["margin"]})
        ]
        if judged
        else None,
        "demonstration": description.demonstration,
    }


if __name__ == "__main__":
    block_pandas()
    command_line.run(evaluate_target)
