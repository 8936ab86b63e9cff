"""The columns of the results: one definition for targets, summary and the table over seeds.

A target's file and ``summary.parquet`` hold the same columns; the summary is all targets of
all experiments, with ``p_holm`` filled in. All intervals are at 95%.
"""

import pyarrow as pa

# The metric that carries the verdict and enters the family of tests, by task.
PRIMARY = {"classification": "accuracy", "segmentation": "dice"}
METRICS_IN_SHARES = ["accuracy", "dice", "dice_slice", "dice_pooled"]  # from 0 to 1

# What names a target and holds for it whatever the seed.
_IDENTITY = [
    ("experiment", pa.string()),
    ("training", pa.string()),
    ("dataset", pa.string()),
    ("network", pa.string()),
    ("stem", pa.string()),
]
_TARGET = [
    ("split", pa.string()),
    ("intervention", pa.string()),
    ("parameters", pa.string()),  # canonical JSON, {} for zeroing
    ("draw", pa.int32()),  # null but for repeated random interventions
    ("target", pa.string()),
    ("kind", pa.string()),  # baseline, layer, block, shortcut, set
    ("reading", pa.string()),
    ("kernels", pa.list_(pa.string())),
    ("order", pa.int32()),  # of the first kernel in forward order, from 0
    ("role", pa.string()),
    ("block", pa.int32()),
    ("live_weights", pa.int64()),
    ("total_weights", pa.int64()),
    ("status", pa.string()),  # ok, cut, no_effect
    ("metric", pa.string()),
    ("class", pa.string()),  # null: all classes
    ("unit", pa.string()),  # sample, subject, slice, pooled
]

SUMMARY = pa.schema(
    [
        *_IDENTITY,
        ("seed", pa.int64()),
        *_TARGET,
        ("n", pa.int64()),  # number of units
        ("value", pa.float64()),
        ("value_low", pa.float64()),
        ("value_high", pa.float64()),
        ("baseline", pa.float64()),
        ("drop", pa.float64()),  # baseline - value: positive is worse
        ("drop_low", pa.float64()),
        ("drop_high", pa.float64()),
        ("p_value", pa.float64()),
        ("p_holm", pa.float64()),
        ("verdict", pa.string()),  # non-trivial, trivial, undecided
        ("b", pa.int64()),  # right at baseline, wrong here
        ("c", pa.int64()),  # wrong at baseline, right here
        ("margin", pa.float64()),
        ("demonstration", pa.bool_()),  # the data allow no inference
    ]
)

ACROSS_SEEDS = pa.schema(
    [
        *_IDENTITY,
        *_TARGET,
        ("n", pa.int64()),  # number of seeds
        ("n_units", pa.int64()),  # per seed; null where the seeds differ in it
        ("value", pa.float64()),  # mean over seeds, like baseline and drop
        ("value_sd", pa.float64()),
        ("value_low", pa.float64()),
        ("value_high", pa.float64()),
        ("baseline", pa.float64()),
        ("drop", pa.float64()),
        ("drop_sd", pa.float64()),
        ("drop_low", pa.float64()),
        ("drop_high", pa.float64()),
        ("verdict", pa.string()),
        ("covers", pa.string()),  # training seeds, test sampling only
        ("margin", pa.float64()),
        ("demonstration", pa.bool_()),
    ]
)


def is_primary(metric: str, class_name: str | None) -> bool:
    """Tell whether a row carries its target's verdict: accuracy or Dice over all classes."""
    return class_name is None and metric in PRIMARY.values()
