"""The columns of the results, and checks that hold for every row.

Target files, ``summary.parquet`` and ``across_seeds.parquet`` have the same columns. A target
file holds the rows of one target: one per seed, metric, class and unit, and the same over all
seeds, where ``seed`` is null. The summary holds the rows per seed of all targets of all
experiments, ``across_seeds.parquet`` the rows over seeds. All intervals are at 95%.

``margins.parquet`` holds the one-sided tests and the verdict of every primary row at several
margins. Until they are collected, they are in the column ``margins`` of the target files.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.formats import parquet


class Flag(enum.Flag):
    """A property of a column."""

    REQUIRED = enum.auto()  # never null
    REQUIRED_PER_SEED = enum.auto()  # null in rows over seeds only
    IDENTITY = enum.auto()  # no two rows agree in all of these
    SHARED = enum.auto()  # the same in all rows of a target
    FAMILY = enum.auto()  # tests with the same values are corrected together
    HYPOTHESIS = enum.auto()  # within a family, tests with the same values count once
    SETTING = enum.auto()  # comes from the configuration
    SHARE = enum.auto()  # between 0 and 1


NO_FLAGS = Flag(0)


@dataclass(frozen=True)
class Field:
    """One column: its name, type and flags."""

    name: str
    type: pa.DataType
    flags: Flag = NO_FLAGS


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_REAL, _INDEX, _COUNT = pa.float64(), pa.int32(), pa.int64()
_NAMED = Flag.REQUIRED | Flag.SHARED | Flag.SETTING
_OPTIONAL = Flag.SHARED | Flag.SETTING

STATUSES = ("ok", "cut", "no_effect", "undefined", "not_finite")
WITHOUT_VALUE = ("undefined", "not_finite")  # such a target has no predictions and no value
VERDICTS = ("non-trivial", "trivial", "harmful", "undecided")

# "Null for now": no program fills the column yet.
FIELDS = (
    Field("experiment", _TEXT, _NAMED | Flag.IDENTITY | Flag.FAMILY),
    Field("training", _TEXT, _NAMED),
    Field("dataset", _TEXT, _NAMED),
    Field("network", _TEXT, _NAMED),
    Field("stem", _TEXT, _NAMED),
    Field("seed", _COUNT, Flag.REQUIRED_PER_SEED | Flag.IDENTITY | Flag.FAMILY),
    Field("split", _TEXT, _NAMED | Flag.IDENTITY | Flag.FAMILY),
    Field("intervention", _TEXT, _NAMED | Flag.IDENTITY | Flag.FAMILY),
    Field("parameters", _TEXT, _NAMED | Flag.HYPOTHESIS),  # canonical JSON, {} for zeroing
    Field("draw", pa.int16(), Flag.IDENTITY | Flag.HYPOTHESIS),  # null for zeroing
    Field("part", _TEXT, Flag.IDENTITY | Flag.HYPOTHESIS),  # level or channel; null for zeroing
    Field("target", _TEXT, _NAMED | Flag.IDENTITY),
    Field("kind", _TEXT, _NAMED),  # baseline, layer, block, shortcut, set
    Field("reading", _TEXT, _OPTIONAL),
    Field("kernels", _TEXTS, _NAMED | Flag.HYPOTHESIS),
    Field("sites", _TEXTS),  # null for now
    Field("order", _INDEX, _OPTIONAL),  # of the first kernel in forward order, from 0
    Field("role", _TEXT, _OPTIONAL),
    Field("block", _INDEX, _OPTIONAL),
    Field("live_weights", _COUNT, Flag.SHARED),
    Field("total_weights", _COUNT, Flag.SHARED),
    Field("status", _TEXT, Flag.REQUIRED_PER_SEED),  # one of STATUSES; null over seeds that differ
    Field("metric", _TEXT, Flag.REQUIRED | Flag.IDENTITY | Flag.FAMILY),
    Field("class", _TEXT, Flag.IDENTITY),  # null: all classes
    Field("unit", _TEXT, Flag.REQUIRED | Flag.IDENTITY),  # sample, subject, slice, pooled
    Field("n", _COUNT, Flag.REQUIRED_PER_SEED),  # units; null over seeds that differ in it
    Field("value", _REAL),  # over seeds the mean, like baseline and drop
    Field("value_low", _REAL),
    Field("value_high", _REAL),
    Field("baseline", _REAL),
    Field("drop", _REAL),  # baseline - value: positive is worse
    Field("drop_low", _REAL),
    Field("drop_high", _REAL),
    Field("drop_share", _REAL),  # drop / (baseline - chance)
    Field("df", _REAL),  # degrees of freedom of a t interval of the drop
    Field("p_value", _REAL, Flag.SHARE),
    Field("p_holm", _REAL, Flag.SHARE),  # corrected p are null in target files
    Field("margin", _REAL, _NAMED),
    Field("epoch", _INDEX, Flag.SHARED | Flag.IDENTITY | Flag.FAMILY),  # of a snapshot; null: last
    Field("p_nontrivial", _REAL, Flag.SHARE),  # of the test that drop <= margin
    Field("p_nontrivial_holm", _REAL, Flag.SHARE),
    Field("p_trivial", _REAL, Flag.SHARE),  # of the test that drop >= margin
    Field("p_trivial_holm", _REAL, Flag.SHARE),
    Field("verdict", _TEXT),  # non-trivial, trivial, harmful, undecided
    Field("b", _COUNT),  # samples right at baseline and wrong here
    Field("c", _COUNT),  # samples wrong at baseline and right here
    Field("demonstration", pa.bool_(), Flag.REQUIRED | Flag.SHARED),  # data that allow no inference
    Field("seeds", _COUNT, Flag.REQUIRED),  # number of seeds behind the row
    Field("covers", _TEXT, Flag.REQUIRED),  # which randomness the intervals cover
    Field("value_sd", _REAL),  # standard deviation over seeds
    Field("drop_sd", _REAL),
    Field("empty", _COUNT),  # subjects without foreground (of the class), left out of Dice
    Field("false_positive_ml", _REAL),  # predicted foreground in an empty subject, mean
    Field("n_for_trivial", _COUNT),  # units needed for a trivial target; null where n suffices
)
SCHEMA = pa.schema([(field.name, field.type) for field in FIELDS])

_P_BY_MARGIN = ("p_nontrivial", "p_trivial")
MARGIN_LIST = pa.list_(
    pa.struct([("margin", _REAL), *((name, _REAL) for name in _P_BY_MARGIN), ("verdict", _TEXT)])
)
TARGET_SCHEMA = SCHEMA.append(pa.field("margins", MARGIN_LIST))  # null but in primary rows

# The metric that carries the verdict and is tested, by task.
PRIMARY = {"classification": "accuracy", "segmentation": "dice"}
METRICS_IN_SHARES = ("accuracy", "dice", "dice_slice", "dice_pooled")  # between 0 and 1
ROUNDING = 1e-9  # tolerated in drop = baseline - value, relative to values beyond 1

# Plain columns: in a dozen rows dictionaries and compression save no space, and they cost the
# reader of many files a quarter of its time.
FEW_ROWS = {"use_dictionary": False, "compression": "none", "write_statistics": False}


def names(*flags: Flag) -> list[str]:
    """Return the columns that have all of these flags, in order.

    >>> names(Flag.IDENTITY, Flag.SHARED)
    ['experiment', 'split', 'intervention', 'target', 'epoch']
    """
    return [field.name for field in FIELDS if all(flag in field.flags for flag in flags)]


def is_primary(metric: str, class_name: str | None) -> bool:
    """Tell whether a row carries its target's verdict: accuracy or Dice over all classes."""
    return class_name is None and metric in PRIMARY.values()


def primary_rows(table: pa.Table) -> pa.ChunkedArray:
    """Return for each row whether it is primary, as :func:`is_primary` does.

    >>> rows = {"metric": ["dice", "dice", "dice_slice"], "class": [None, "bright", None]}
    >>> primary_rows(pa.table(rows)).to_pylist()
    [True, False, False]
    """
    is_metric = pc.is_in(table["metric"], pa.array(list(PRIMARY.values())))
    return pc.and_(is_metric, pc.is_null(table["class"]))


MARGINS_SCHEMA = parquet.select(
    SCHEMA,
    [
        *names(Flag.IDENTITY),
        "margin",
        *("p_nontrivial", "p_nontrivial_holm", "p_trivial", "p_trivial_holm", "verdict"),
    ],
)


def write_target(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a target file; columns that a row lacks are null."""
    parquet.write(pa.Table.from_pylist(rows, schema=TARGET_SCHEMA), path, **FEW_ROWS)


def read(path: Path) -> pa.Table:
    """Read ``summary.parquet`` or ``across_seeds.parquet`` and check its rows.

    Raises:
        UserError: the file cannot be read, lacks a column, or has an impossible row.
    """
    table = parquet.read(path, SCHEMA)
    check(table, lambda row: path)
    return table


def read_margins(path: Path) -> pa.Table:
    """Read ``margins.parquet``: a row per primary row of the results and margin.

    Raises:
        UserError: the file cannot be read, lacks a column, has a p-value that is not between 0
            and 1, or has a margin twice.
    """
    table = parquet.read(path, MARGINS_SCHEMA)
    for name in ("margin", "p_nontrivial", "p_nontrivial_holm", "p_trivial", "p_trivial_holm"):
        if pc.any(pc.invert(_is_within(table[name], 0, 1))).as_py():
            raise UserError(f"{path}: {name} is not between 0 and 1; {parquet.REMEDY}")
    keys = [*names(Flag.IDENTITY), "margin"]
    if len(table.group_by(keys, use_threads=False).aggregate([])) < len(table):
        raise UserError(f"{path}: a target has two rows of one margin; {parquet.REMEDY}")
    return table


def check(table: pa.Table, source: Callable[[int], object]) -> None:
    """Refuse impossible rows, which mean that a file is damaged.

    Args:
        table: rows with the columns of :data:`SCHEMA`.
        source: returns the file of a row's number, for the error.

    Raises:
        UserError: a required field is null, a number is not finite or out of range, a drop is
            not baseline - value, an interval is reversed, or two rows are one.
    """
    for problem, wrong in _problems(table):
        row = pc.index(pc.fill_null(wrong, False), True).as_py()
        if row >= 0:
            raise UserError(
                f"{source(row)}: row of target {table['target'][row]}: {problem}; {parquet.REMEDY}"
            )
    keys = names(Flag.IDENTITY)
    counts = table.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    row = pc.index(pc.greater(counts["count_all"], 1), True).as_py()
    if row >= 0:
        twice = counts.slice(row, 1).select(keys).to_pylist()[0]
        places = [i for i, other in enumerate(table.select(keys).to_pylist()) if other == twice]
        raise UserError(
            f"{source(places[-1])}: target {twice['target']} has two rows of {twice['metric']}"
            f" ({twice['class'] or 'all classes'}); {parquet.REMEDY}"
        )


def _problems(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield a problem and the rows that have it; null where it does not apply."""
    per_seed = pc.is_valid(table["seed"])
    for name in names(Flag.REQUIRED):
        yield f"{name} is empty", pc.is_null(table[name])
    for name in names(Flag.REQUIRED_PER_SEED):
        yield f"{name} is empty", pc.and_(per_seed, pc.is_null(table[name]))
    for name in ("status", "verdict"):
        known = pa.array(STATUSES if name == "status" else VERDICTS)
        unknown = pc.and_(pc.is_valid(table[name]), pc.invert(pc.is_in(table[name], known)))
        yield f"{name} is not one of {', '.join(known.to_pylist())}", unknown
    is_primary = primary_rows(table)
    # Over seeds that differ in the status it is null, and one of them may lack a value.
    may_lack = pc.or_(
        pc.is_null(table["status"]), pc.is_in(table["status"], pa.array(WITHOUT_VALUE))
    )
    has_value = pc.and_(is_primary, pc.invert(may_lack))
    for name, rows in (("value", has_value), ("baseline", is_primary), ("drop", has_value)):
        yield f"{name} is empty", pc.and_(rows, pc.is_null(table[name]))
    for field in SCHEMA:
        if pa.types.is_floating(field.type):
            yield f"{field.name} is not a finite number", pc.invert(pc.is_finite(table[field.name]))
    is_share = pc.is_in(table["metric"], pa.array(METRICS_IN_SHARES))
    for name in ("value", "baseline"):
        wrong = pc.and_(is_share, _outside(table[name], -ROUNDING, 1 + ROUNDING))
        yield f"{name} is not between 0 and 1", wrong
    for name in names(Flag.SHARE):
        yield f"{name} is not between 0 and 1", _outside(table[name], 0, 1)
    expected = pc.subtract(table["baseline"], table["value"])
    distance = pc.abs(pc.subtract(table["drop"], expected))
    scale = pc.max_element_wise(1.0, pc.abs(table["value"]), pc.abs(table["baseline"]))
    yield "drop is not baseline - value", pc.greater(distance, pc.multiply(scale, ROUNDING))
    for name in ("value", "drop"):
        reversed_ = pc.greater(table[f"{name}_low"], table[f"{name}_high"])
        yield f"the interval of {name} is reversed", reversed_
    for name in ("n", "empty", "false_positive_ml", "n_for_trivial"):
        yield f"{name} is negative", pc.less(table[name], 0)
    yield "seeds is less than 1", pc.less(table["seeds"], 1)
    yield "b or c is negative", pc.less(pc.min_element_wise(table["b"], table["c"]), 0)
    changed = pc.add(table["b"], table["c"])
    yield "b and c are more than n", pc.greater(changed, table["n"])


def _is_within(column: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    """Tell where a value is in the range; null where it is null, False where it is NaN."""
    return pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))


def _outside(column: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    return pc.or_(pc.less(column, low), pc.greater(column, high))
