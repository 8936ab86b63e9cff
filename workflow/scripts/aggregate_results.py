"""Collect the rows of all targets into tables and correct their tests for multiplicity."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.without_pandas import block_pandas
from nontrivial.formats import parquet
from nontrivial.formats.summary import MARGINS_SCHEMA, SCHEMA, Flag, names, primary_rows
from nontrivial.formats.target_files import read_targets
from nontrivial.formats.target_spec import read_list
from nontrivial.inference.holm import holm_by_family

# The correction of a p-value, by name.
CORRECTED = {
    "p_value": "p_holm",
    "p_nontrivial": "p_nontrivial_holm",
    "p_trivial": "p_trivial_holm",
}
APART = ("unit", "skip", "pair")  # kinds that are families of their own; the others are one


def aggregate_results(
    targets: Path, output: Path, across_seeds: Path, margins: Path, threads: int = 1
) -> None:
    """Write ``summary.parquet``, ``across_seeds.parquet`` and ``margins.parquet``.

    Args:
        targets: JSON file ``{"files": [...]}``: the target files in canonical order.
        output: the rows per seed, sorted by experiment, training, seed, then canonical order.
        across_seeds: the rows over seeds, sorted by experiment, training, then canonical order.
        margins: the tests and verdicts of the primary rows of both at several margins, first those
            per seed, in the order of their tables, then by margin.
        threads: number of processes that read at the same time.

    Raises:
        UserError: a file is missing or damaged, or is not a target file.
    """
    table = read_targets(read_list(targets), threads)
    order = [(name, "ascending") for name in ("experiment", "training", "seed")]
    # Stable, which keeps the canonical order; rows over seeds, whose seed is null, come last.
    table = table.take(pc.sort_indices(table, order))
    table = _with_corrected(table)
    is_over_seeds = pc.is_null(table["seed"])
    parts = [table.filter(pc.invert(is_over_seeds)), table.filter(is_over_seeds)]
    by_margin = pa.concat_tables([at_margins(part) for part in parts])
    tables = [part.select(SCHEMA.names) for part in parts]
    for path, rows in zip((output, across_seeds, margins), [*tables, by_margin], strict=True):
        with replacing(path) as temporary:
            parquet.write(rows.combine_chunks(), temporary)


def at_margins(table: pa.Table) -> pa.Table:
    """Return a row per primary row and margin, with the corrected tests at that margin."""
    listed = table["margins"].combine_chunks()
    rows = table.drop_columns(["margins"]).take(pc.list_parent_indices(listed))
    tests = pc.list_flatten(listed)
    for field in tests.type:
        place = rows.schema.get_field_index(field.name)
        rows = rows.set_column(place, field.name, pc.struct_field(tests, field.name))
    rows = _with_corrected(rows)
    return rows.select(MARGINS_SCHEMA.names).cast(MARGINS_SCHEMA)


def corrected(table: pa.Table, name: str) -> pa.Array:
    """Return the Holm-adjusted p-value of every row; null where the row has none.

    A family is all tests of the primary metric in one experiment, seed, split, intervention and
    margin: those of layers, shortcuts, blocks and named sets together, those of any other kind
    apart. The baseline, and targets whose status is not ``ok``, test nothing. All other targets
    count, those without a p-value with 1: how many do not vary depends on the data, and the number
    of tests must not. Equal kernel sets are one hypothesis: it counts once, and each of its rows
    gets its result.

    Args:
        table: rows with the columns of the summary.
        name: the column with the p-value.
    """
    is_tested = pc.and_(
        primary_rows(table),
        pc.and_(pc.not_equal(table["kind"], "baseline"), pc.equal(table["status"], "ok")),
    )
    rows = np.flatnonzero(pc.fill_null(is_tested, False).to_numpy())
    tested = table.take(pa.array(rows))
    groups = [kind if kind in APART else "layers" for kind in tested["kind"].to_pylist()]
    families = list(zip(groups, _tuples(tested, [*names(Flag.FAMILY), "margin"]), strict=True))
    hypotheses = _tuples(tested, names(Flag.HYPOTHESIS))
    p_values = pc.fill_null(tested[name], 1.0).to_pylist()
    adjusted = np.full(table.num_rows, np.nan)
    adjusted[rows] = holm_by_family(families, hypotheses, p_values)
    adjusted[table[name].is_null().to_numpy()] = np.nan
    return pa.array(adjusted, from_pandas=True)  # NaN becomes null


def _with_corrected(table: pa.Table) -> pa.Table:
    for name, adjusted in CORRECTED.items():
        place = table.schema.get_field_index(adjusted)
        table = table.set_column(place, adjusted, corrected(table, name))
    return table


def _tuples(table: pa.Table, columns: list[str]) -> list[tuple]:
    """Return a tuple per row; a list becomes a set, which ignores order."""
    values = [
        map(frozenset, column.to_pylist()) if pa.types.is_list(column.type) else column.to_pylist()
        for column in table.select(columns).columns
    ]
    return list(zip(*values, strict=True))


if __name__ == "__main__":
    block_pandas()
    command_line.run(aggregate_results)
