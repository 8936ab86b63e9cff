"""Collect all targets' rows into one table, correct their tests, and average over seeds."""

from pathlib import Path

import pyarrow as pa

from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.lean_arrow import without_pandas
from nontrivial.formats import checked_parquet
from nontrivial.formats.row_views import row_views
from nontrivial.formats.summary import ACROSS_SEEDS, SUMMARY
from nontrivial.formats.target_files import read_list, read_targets
from nontrivial.inference.across_seeds import across_seeds as rows_across_seeds
from nontrivial.inference.families import corrected


def aggregate_results(targets: Path, output: Path, across_seeds: Path, threads: int = 1) -> None:
    """Write ``summary.parquet`` and ``across_seeds.parquet``.

    Args:
        targets: JSON file ``{"files": [...]}``: the targets' Parquet files in canonical order.
        output: the summary to write.
        across_seeds: the table over seeds to write.
        threads: processes that may read at the same time.

    Raises:
        UserError: a file is missing, cut short or not a target's.
    """
    table = read_targets(read_list(targets), threads)
    rows = row_views(table)
    adjusted = pa.array(corrected(rows), type=pa.float64())
    summary = table.set_column(SUMMARY.get_field_index("p_holm"), "p_holm", adjusted)
    with replacing(output) as temporary:
        checked_parquet.write(summary.combine_chunks(), temporary)
    means = pa.Table.from_pylist(rows_across_seeds(rows), schema=ACROSS_SEEDS)
    with replacing(across_seeds) as temporary:
        checked_parquet.write(means, temporary)


if __name__ == "__main__":
    without_pandas()
    command_line.run(aggregate_results)
