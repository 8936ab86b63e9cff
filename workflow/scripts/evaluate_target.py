"""Evaluate one target: metrics with intervals, paired tests and verdicts, from predictions.

The workflow starts this program once per target, so it imports numpy and pyarrow only.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.command_line import log
from nontrivial.execution.without_pandas import block_pandas
from nontrivial.formats import parquet
from nontrivial.formats import samples as sample_tables
from nontrivial.formats.canonical import canonical
from nontrivial.formats.dataset import Description, read_description
from nontrivial.formats.predictions import TargetProperties, read_target
from nontrivial.formats.summary import Flag, is_primary, names, write_target
from nontrivial.inference.classification_metrics import (
    classification_scores,
    log_probability_scores,
)
from nontrivial.inference.comparison import compare, margins_beside
from nontrivial.inference.measurement import Measurement
from nontrivial.inference.random_streams import generator
from nontrivial.inference.scores import Scores
from nontrivial.inference.segmentation_metrics import (
    Counts,
    pooled_scores,
    slice_scores,
    subject_scores,
)

SETTINGS = ("seeds", *names(Flag.SETTING))
PREDICTED = {
    "classification": ("sample", "predicted", "log_prob"),
    "segmentation": ("sample", "class", "tp", "fp", "fn"),
}
LARGEST_LOG_PROBABILITY = 1e-3  # 0, with room for float32 rounding
OF_DROP = ("drop_low", "drop_high", "drop_share", "drop_sd", "df", "b", "c")

Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of the evaluated split.

    Attributes:
        sample: row numbers, (N,).
        label: true class numbers; None for a segmentation.
        subject: subject of each sample; None where there are no subjects.
        pixel_ml: volume of a pixel in ml; NaN where it is not known.
    """

    sample: np.ndarray
    label: np.ndarray | None
    subject: np.ndarray | None
    pixel_ml: np.ndarray


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

    Corrected p-values are null, because they depend on the other targets.

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
    table = _samples(samples, description)
    seeds = settings["seeds"]
    read = partial(_read, table=table, samples=samples, description=description)
    stored, changed, clean = [], [], []
    for changed_path, clean_path in zip(predictions, baseline, strict=True):
        properties, columns = read(changed_path, stored_as)
        stored.append(properties)
        changed.append(columns)
        _, columns = read(clean_path, "baseline")
        if columns is None:
            raise UserError(
                f"{clean_path}: the unchanged network has no predictions; train it again"
            )
        clean.append(columns)
    if description.task == "classification":
        scores = _classification(table, changed, clean, description)
    else:
        for path, one in zip([*predictions, *baseline], [*changed, *clean], strict=True):
            if one is not None:
                _require_same_truth(one, clean[0], path, baseline[0])
        scores = _segmentation(table, changed, clean, description, samples)
    if settings["kind"] == "baseline":
        _warn_of_unlearned(scores, settings)
    measured = [
        compare([one.of_seed(i) for one in scores], settings["margin"], _randomness(settings, seed))
        for i, seed in enumerate(seeds)
    ]
    over_seeds = measured[0]
    if len(seeds) > 1:
        over_seeds = compare(scores, settings["margin"], _randomness(settings, seeds))
    groups = [
        *zip(seeds, map(dataclasses.asdict, stored), measured, strict=True),
        (None, _common(stored), over_seeds),
    ]
    rows = [
        _row(settings, description, properties, seed, measurement)
        for seed, properties, measurements in groups
        for measurement in measurements
    ]
    with replacing(output) as temporary:
        write_target(temporary, rows)


def _samples(path: Path, description: Description) -> Samples:
    is_classification = description.task == "classification"
    columns = sample_tables.read_columns(path, ("label",) if is_classification else ())
    if is_classification:
        _require_classes(columns["label"], description, f"{path}: label")
    optional = parquet.select(sample_tables.SCHEMA, ["subject", "pixel_ml"])
    table = parquet.read(path, optional)
    missing = table["subject"].null_count
    if missing and (not is_classification or missing < table.num_rows):
        raise UserError(
            f"{path}: column subject has {missing} empty fields of {table.num_rows}; give every"
            f" sample its subject{', or none' if is_classification else ''}, and prepare again"
        )
    return Samples(
        columns["sample"],
        columns.get("label"),
        None if missing else table["subject"].to_numpy(),
        table["pixel_ml"].to_numpy(),  # null becomes NaN
    )


def _randomness(settings: dict, seed: int | Sequence[int]) -> Callable[[str], np.random.Generator]:
    """Return the random generator of each purpose."""
    return partial(generator, seed, settings["kernels"])


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
    path: Path, target: str, table: Samples, samples: Path, description: Description
) -> tuple[TargetProperties, Columns | None]:
    """Read a target and refuse predictions of other samples, or impossible ones.

    The columns are None where the target's status says that it has no predictions.
    """
    task = description.task
    properties, columns = read_target(path, target, task, PREDICTED[task])
    if columns is None:
        return properties, None
    expected = table.sample
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
        if not np.array_equal(columns["class"], np.tile(np.arange(classes), len(table.sample))):
            raise UserError(
                f"{path}: its rows are not classes 0 to {classes - 1} of every sample; predict"
                " again"
            )
        _require_counts(columns, path, description)
    return properties, columns


def _classification(
    table: Samples,
    changed: Sequence[Columns | None],
    clean: Sequence[Columns],
    description: Description,
) -> list[Scores]:
    assert table.label is not None

    def stacked(seeds: Sequence[Columns | None], name: str) -> np.ndarray:
        empty = np.full(len(table.sample), np.nan)
        return np.stack([empty if one is None else one[name] for one in seeds]).astype(float)

    def right(seeds: Sequence[Columns | None]) -> np.ndarray:
        predicted = stacked(seeds, "predicted")
        return np.where(np.isnan(predicted), np.nan, predicted == table.label)

    overall, *per_class = classification_scores(
        table.label, right(changed), right(clean), description.classes, table.subject
    )
    certainty = log_probability_scores(
        stacked(changed, "log_prob"), stacked(clean, "log_prob"), table.subject
    )
    return [overall, certainty, *per_class]


def _segmentation(
    table: Samples,
    changed: Sequence[Columns | None],
    clean: Sequence[Columns],
    description: Description,
    samples: Path,
) -> list[Scores]:
    assert table.subject is not None
    classes = description.classes
    counts = [None if one is None else _counts(one, len(classes)) for one in changed]
    before = [_counts(one, len(classes)) for one in clean]
    of_subjects = subject_scores(table.subject, counts, before, classes, table.pixel_ml)
    if not of_subjects[0].units:
        raise UserError(f"{samples}: no subject has foreground; change how the data are split")
    return [
        *of_subjects,
        *slice_scores(counts, before, classes),
        *pooled_scores(counts, before, classes),
    ]


def _warn_of_unlearned(scores: Sequence[Scores], settings: dict) -> None:
    for row in scores:
        if row.class_name and row.metric in ("accuracy", "dice") and not row.baseline.any():
            what = "recall" if row.metric == "accuracy" else "Dice"
            log.warning(
                "%s: %s: %s is 0 in every %s of %s: training did not learn this class, so"
                " zeroing cannot lower it",
                settings["experiment"],
                row.class_name,
                what,
                row.unit,
                settings["split"],
            )


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


def _require_same_truth(changed: Columns, clean: Columns, path: Path, baseline: Path) -> None:
    truth, expected = (
        columns["tp"].astype(np.int64) + columns["fn"] for columns in (changed, clean)
    )
    _refuse_counts(truth != expected, changed, path, f"have another truth than {baseline}")


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


def _row(
    settings: dict,
    description: Description,
    properties: dict,
    seed: int | None,
    measurement: Measurement,
) -> dict:
    row = dataclasses.asdict(measurement)
    row["class"] = row.pop("class_name")
    judged = {at["margin"]: at for at in row.pop("at_margins")}
    # Leave out what the data cannot support.
    is_baseline = settings["kind"] == "baseline"  # its drop is 0 by definition
    if is_baseline:
        row |= dict.fromkeys(OF_DROP)
    if description.demonstration:
        row |= dict.fromkeys(
            ["value_low", "value_high", "drop_low", "drop_high", "df", "n_for_trivial"]
        )
    if is_baseline or description.demonstration or properties["status"] != "ok":
        row["p_value"] = None
        judged = {}
    margins = None
    if is_primary(row["metric"], row["class"]):
        margins = [
            judged.get(margin, {"margin": margin}) for margin in margins_beside(settings["margin"])
        ]
        at = next(one for one in margins if one["margin"] == settings["margin"])
        row |= {name: at.get(name) for name in ("p_nontrivial", "p_trivial", "verdict")}
    return {
        **{key: settings[key] for key in names(Flag.SETTING)},
        "parameters": canonical(settings["parameters"]),
        "seed": seed,
        **properties,
        **row,
        "margins": margins,
        "demonstration": description.demonstration,
    }


if __name__ == "__main__":
    block_pandas()
    command_line.run(evaluate_target)
