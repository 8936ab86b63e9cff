"""Tabulate the paper's four tables beside the results of this run."""

from dataclasses import dataclass
from pathlib import Path

from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    Outcome,
    count,
    describe,
    read_results,
    select_outcomes,
)
from nontrivial.display.paper import (
    CITATION,
    PAPERS_SOURCE,
    READING_ADJACENT,
    READING_CAPTIONS,
    READING_DATA,
    READING_INVERTED,
    TASK_NAMES,
    PaperValue,
    read_paper_values,
)
from nontrivial.display.text_tables import TextTable, to_csv, to_html, to_markdown
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text

COLUMNS = (
    "table",
    "task",
    "kind",
    "reading",
    "block",
    "metric",
    "paper",
    "experiment",
    "dataset",
    "network",
    "stem",
    "target",
    "kernels",
    "status",
    "value",
    "value_low",
    "value_high",
    "drop",
    "drop_low",
    "drop_high",
    "verdict",
    "units",
    "seeds",
    "demonstration",
)


@dataclass(frozen=True)
class PaperTable:
    """One of the four tables, with the captions of Tables 1 and 2 put right."""

    number: int
    task: str
    kind: str

    @property
    def title(self) -> str:
        """Heading, which says what is zeroed."""
        experiment, what = {
            "block": (2, "kernels inside a block zeroed"),
            "shortcut": (3, "shortcut kernel of a block zeroed"),
        }[self.kind]
        return f"Table {self.number}. {TASK_NAMES[self.task]}, experiment {experiment}: {what}"


TABLES = (
    PaperTable(1, "cifar10", "block"),
    PaperTable(2, "cifar10", "shortcut"),
    PaperTable(3, "t1", "block"),
    PaperTable(4, "t1", "shortcut"),
)


def tabulate_paper(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    paper: Path,
    csv: Path,
    markdown: Path,
    html: Path,
) -> None:
    """Write Tables 1 to 4 of the paper beside the results of this run as CSV, Markdown and HTML.

    Args:
        settings: mapping with ``experiments``, a list of ``name``, ``paper`` (the paper's task to
            compare with, ``cifar10`` or ``t1``, or None) and ``source`` of the data.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        paper: the paper's numbers.
        csv: the table as CSV at full precision, one row per number, to write.
        markdown: the table as Markdown, to write.
        html: the table as HTML, to write.

    Raises:
        UserError: a file cannot be read, or an experiment has no results.
    """
    values = read_paper_values(paper)
    tables = read_results(summary, across_seeds, margins)
    experiments = [
        (entry["paper"], select_outcomes(*tables, entry["name"]))
        for entry in settings["experiments"]
        if entry["paper"]
    ]
    sources = {entry["name"]: entry["source"] for entry in settings["experiments"]}
    records = []
    texts = []
    for table in TABLES:
        compared = [outcomes for task, outcomes in experiments if task == table.task]
        published = [value for value in values if value.table == table.number]
        records += _records(table, published, compared)
        texts.append(_text(table, published, compared, sources))
    write_text(csv, to_csv(COLUMNS, records))
    write_text(markdown, to_markdown(texts))
    write_text(html, to_html("The paper's tables beside this run", texts))


def _records(
    table: PaperTable, published: list[PaperValue], compared: list[ExperimentOutcomes]
) -> list[dict]:
    paper = {value.block: value for value in published}
    empty = dict.fromkeys(COLUMNS) | {"table": table.number, "task": table.task}
    records = []
    for outcomes in compared:
        for outcome in [*outcomes.of_kind(table.kind), outcomes.baseline]:
            beside = paper.get(outcome.block)
            records.append(
                {
                    "table": table.number,
                    "task": table.task,
                    "kind": outcome.kind,
                    "reading": outcome.reading,
                    "block": outcome.block,
                    "metric": outcomes.metric,
                    "paper": beside.value if beside else None,
                    "experiment": outcomes.experiment,
                    "dataset": outcomes.dataset,
                    "network": outcomes.network,
                    "stem": outcomes.stem,
                    "target": outcome.target,
                    "kernels": outcome.kernels,
                    "status": outcome.status,
                    "value": outcome.value,
                    "value_low": outcome.low,
                    "value_high": outcome.high,
                    "drop": outcome.drop,
                    "drop_low": outcome.drop_low,
                    "drop_high": outcome.drop_high,
                    "verdict": outcome.verdict,
                    "units": outcomes.units,
                    "seeds": outcomes.seed_count,
                    "demonstration": outcomes.demonstration,
                }
            )
    if not compared:
        records = [
            empty
            | {
                "kind": value.kind,
                "block": value.block,
                "metric": value.metric,
                "paper": value.value,
            }
            for value in published
        ]
    return records


def _text(
    table: PaperTable,
    published: list[PaperValue],
    compared: list[ExperimentOutcomes],
    sources: dict[str, str],
) -> TextTable:
    blocks = sorted(
        {value.block for value in published if value.block is not None}
        | {o.block for one in compared for o in one.of_kind(table.kind) if o.block is not None}
    )
    paper = {value.block: value.value for value in published}
    rows = [
        (
            "Paper",
            "not defined" if table.kind == "block" else "",
            *(f"{paper[block]:.2f}" if block in paper else "-" for block in blocks),
            f"{paper[None]:.2f}",
            "not given",
        )
    ]
    rows += [row for outcomes in compared for row in _result_rows(table, blocks, outcomes)]
    notes = [
        f"{one.experiment}: {one.network} ({one.stem} stem) on {one.dataset}; {describe(one)}."
        for one in compared
    ]
    if not compared:
        notes.append("No experiment of this run is compared with this table.")
    metric = METRIC_NAMES[published[0].metric]
    notes.append(f"Numbers: {metric} with its 95% interval in brackets. Paper: {CITATION}.")
    notes.append(READING_CAPTIONS)
    notes.append(READING_INVERTED)
    if table.kind == "block":
        notes.append(READING_ADJACENT + " The paper does not say which one it used.")
    if table.task == "t1":
        notes.append(READING_DATA)
    notes += [
        f"{one.experiment} has no {table.kind} targets."
        for one in compared
        if not one.of_kind(table.kind)
    ]
    notes += [
        f"{one.experiment} uses {one.dataset}, not the paper's data: compare the pattern, not the"
        " numbers."
        for one in compared
        if sources[one.experiment] != PAPERS_SOURCE[table.task]
    ]
    return TextTable(
        title=table.title,
        columns=(
            "",
            "Reading" if table.kind == "block" else "",
            *(f"Block {block}" for block in blocks),
            "Baseline",
            "n, seeds",
        ),
        rows=rows,
        notes=notes,
        numbers=frozenset(range(2, 3 + len(blocks))),
        demonstration=bool(compared) and all(one.demonstration for one in compared),
    )


def _result_rows(
    table: PaperTable, blocks: list[int], outcomes: ExperimentOutcomes
) -> list[tuple[str, ...]]:
    found = outcomes.of_kind(table.kind)
    units = "varies" if outcomes.units is None else f"{outcomes.units:,}"
    name = outcomes.experiment + (" (demonstration)" if outcomes.demonstration else "")
    rows = []
    for reading in dict.fromkeys(outcome.reading for outcome in found):
        cells = {outcome.block: outcome for outcome in found if outcome.reading == reading}
        rows.append(
            (
                name,
                reading or "",
                *(_cell(cells[block]) if block in cells else "-" for block in blocks),
                _cell(outcomes.baseline),
                f"{units}, {count(outcomes.seed_count, 'seed')}",
            )
        )
    return rows


def _cell(outcome: Outcome) -> str:
    text = f"{outcome.value:.3f}"
    if outcome.low is not None and outcome.high is not None:
        text += f" [{outcome.low:.3f}, {outcome.high:.3f}]"
    return text + (" (cut)" if outcome.status == "cut" else "")


if __name__ == "__main__":
    command_line.run(tabulate_paper)
