"""Collect all targets' rows into one table, correct their tests, and average over seeds."""

import argparse
from pathlib import Path

import pyarrow as pa

from nontrivial.execution import command_line
from nontrivial.execution.atomic import replacing
from nontrivial.execution.lean_arrow import without_pandas
from nontrivial.formats import checked_parquet
from nontrivial.formats.row_views import row_views
from nontrivial.formats.summary import ACROSS_SEEDS, SUMMARY
from nontrivial.formats.target_files import read_list, read_targets
from nontrivial.inference.across_seeds import across_seeds
from nontrivial.inference.families import corrected


def aggregate_results(targets: Path, output: Path, over_seeds: Path, processes: int = 1) -> None:
    """Write ``summary.parquet`` and ``across_seeds.parquet``.

    Args:
        targets: JSON file ``{"files": [...]}``: the targets' Parquet files in canonical order.
        output: the summary to write.
        over_seeds: the table over seeds to write.
        processes: how many may read at a time.

    Raises:
        UserError: a file is missing, cut short or not a target's.
    """
    table = read_targets(read_list(targets), processes)
    rows = row_views(table)
    adjusted = pa.array(corrected(rows), type=pa.float64())
    summary = table.set_column(SUMMARY.get_field_index("p_holm"), "p_holm", adjusted)
    with replacing(output) as temporary:
        checked_parquet.write(summary.combine_chunks(), temporary)
    means = pa.Table.from_pylist(across_seeds(rows), schema=ACROSS_SEEDS)
    with replacing(over_seeds) as temporary:
        checked_parquet.write(means, temporary)


if __name__ == "__main__":
    without_pandas()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=Path, required=True, help="JSON list of target files")
    parser.add_argument("--output", type=Path, required=True, help="summary.parquet")
    parser.add_argument("--across-seeds", type=Path, required=True, help="across_seeds.parquet")
    parser.add_argument("--threads", type=int, default=1, help="processes that read at a time")
    command_line.run(
        parser, lambda a: aggregate_results(a.targets, a.output, a.across_seeds, a.threads)
    )
