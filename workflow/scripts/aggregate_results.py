"""Collect the rows of all targets into two tables and correct their tests for multiplicity."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.without_pandas import block_pandas
from nontrivial.formats import parquet
from nontrivial.formats.summary import SCHEMA, Flag, names, primary_rows
from nontrivial.formats.target_files import read_targets
from nontrivial.formats.target_spec import read_list
from nontrivial.inference.holm import holm_by_family


def aggregate_results(targets: Path, output: Path, across_seeds: Path, threads: int = 1) -> None:
    """Write ``summary.parquet`` and ``across_seeds.parquet``.

    Args:
        targets: JSON file ``{"files": [...]}``: the target files in canonical order.
        output: the rows per seed, sorted by experiment, training, seed, then canonical order.
        across_seeds: the rows over seeds, sorted by experiment, training, then canonical order.
        threads: number of processes that read at the same time.

    Raises:
        UserError: a file is missing or damaged, or is not a target file.
    """
    table = read_targets(read_list(targets), threads)
    place = SCHEMA.get_field_index("p_holm")
    table = table.set_column(place, "p_holm", pa.array(corrected(table)))
    is_over_seeds = pc.is_null(table["seed"])
    for path, chosen in ((output, pc.invert(is_over_seeds)), (across_seeds, is_over_seeds)):
        rows = table.filter(chosen)
        order = [(name, "ascending") for name in ("experiment", "training", "seed")]
        rows = rows.take(pc.sort_indices(rows, order))  # stable: keeps the canonical order
        with replacing(path) as temporary:
            parquet.write(rows.combine_chunks(), temporary)


def corrected(table: pa.Table) -> pa.Array:
    """Return the Holm-adjusted p-value of every row; null where nothing is tested.

    A family is all tests of the primary metric in one experiment, seed, split and intervention.
    The baseline, and targets that are ``cut`` or have ``no_effect``, test nothing. Equal kernel
    sets are one hypothesis: it counts once, and each of its rows gets its result.
    """
    is_tested = pc.and_(
        pc.and_(primary_rows(table), pc.is_valid(table["p_value"])),
        pc.and_(pc.not_equal(table["kind"], "baseline"), pc.equal(table["status"], "ok")),
    )
    rows = np.flatnonzero(pc.fill_null(is_tested, False).to_numpy())
    tested = table.take(pa.array(rows))
    families = _tuples(tested, names(Flag.FAMILY))
    hypotheses = _tuples(tested, names(Flag.HYPOTHESIS))
    adjusted = np.full(table.num_rows, np.nan)
    adjusted[rows] = holm_by_family(families, hypotheses, tested["p_value"].to_pylist())
    return pa.array(adjusted, from_pandas=True)  # NaN becomes null


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
