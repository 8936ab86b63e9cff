"""What holds for every row of results, so that a damaged table is noticed and not believed."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.errors import UserError
from nontrivial.formats.summary import METRICS_IN_SHARES, PRIMARY

ROUNDING = 1e-9  # of a difference of means, where they are beyond 1 as a share of them
REQUIRED = (
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
    "kernels",
    "status",
    "metric",
    "unit",
    "n",
    "margin",
    "demonstration",
)
# Rows that agree in these are one row twice.
IDENTITY = (
    "experiment",
    "seed",
    "split",
    "intervention",
    "parameters",
    "draw",
    "target",
    "metric",
    "class",
    "unit",
)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema, in its types and order.

    Raises:
        ValueError: a column is missing or cannot be of its type; says which.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    columns = []
    for field in schema:
        if pa.types.is_string(field.type) and not _is_text(table.schema.field(field.name).type):
            raise ValueError(f"column {field.name} has another type (no text)")
        try:
            columns.append(table.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"column {field.name} has another type ({reason})") from error
    return pa.table(columns, schema=schema)


def require_sound(table: pa.Table, source: Callable[[int], object]) -> None:
    """Refuse rows of the summary, or of the table over seeds, that cannot be right.

    Args:
        table: the rows.
        source: from a row's number to the file that it comes from, for the error.

    Raises:
        UserError: a field that every row has is empty, a number is not finite or out of its
            range, a drop is not baseline - value, an interval is upside down, or a row stands
            there twice.
    """
    for problem, wrong in _problems(table):
        row = pc.index(pc.fill_null(wrong, False), True).as_py()
        if row >= 0:
            raise UserError(
                f"{source(row)}: row of target {table['target'][row]}: {problem};"
                " delete the file and run again"
            )
    keys = [name for name in IDENTITY if name in table.column_names]
    counts = table.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    row = pc.index(pc.greater(counts["count_all"], 1), True).as_py()
    if row >= 0:
        twice = counts.slice(row, 1).select(keys).to_pylist()[0]
        places = [i for i, other in enumerate(table.select(keys).to_pylist()) if other == twice]
        raise UserError(
            f"{source(places[-1])}: target {twice['target']} has two rows of {twice['metric']}"
            f" ({twice['class'] or 'all classes'}); delete the file and run again"
        )


def _problems(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield what may be wrong and the rows where it is; null where it does not apply."""
    present = set(table.column_names)
    for name in REQUIRED:
        if name in present:
            yield f"{name} is empty", pc.is_null(table[name])
    is_primary = pc.and_(
        pc.is_in(table["metric"], pa.array(list(PRIMARY.values()))), pc.is_null(table["class"])
    )
    for name in ("value", "baseline", "drop"):
        yield f"{name} is empty", pc.and_(is_primary, pc.is_null(table[name]))
    for field in table.schema:
        if pa.types.is_floating(field.type):
            yield f"{field.name} is not a finite number", pc.invert(pc.is_finite(table[field.name]))
    is_share = pc.is_in(table["metric"], pa.array(METRICS_IN_SHARES))
    for name in ("value", "baseline"):
        wrong = pc.and_(is_share, _outside(table[name], -ROUNDING, 1 + ROUNDING))
        yield f"{name} is not between 0 and 1", wrong
    for name in ("p_value", "p_holm"):
        if name in present:
            yield f"{name} is not between 0 and 1", _outside(table[name], 0, 1)
    expected = pc.subtract(table["baseline"], table["value"])
    distance = pc.abs(pc.subtract(table["drop"], expected))
    scale = pc.max_element_wise(1.0, pc.abs(table["value"]), pc.abs(table["baseline"]))
    yield "drop is not baseline - value", pc.greater(distance, pc.multiply(scale, ROUNDING))
    for name in ("value", "drop"):
        upside_down = pc.greater(table[f"{name}_low"], table[f"{name}_high"])
        yield f"the interval of {name} is upside down", upside_down
    yield "n is negative", pc.less(table["n"], 0)
    if "b" in present:
        yield "b or c is negative", pc.less(pc.min_element_wise(table["b"], table["c"]), 0)
        changed = pc.add(table["b"], table["c"])
        yield "b and c are more than n", pc.greater(changed, table["n"])


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_null(kind)


def _outside(column: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    return pc.or_(pc.less(column, low), pc.greater(column, high))
