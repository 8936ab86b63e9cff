"""Tabulate the paper's claims: whether each holds in the experiments, and the evidence."""

from pathlib import Path

from nontrivial.display.claims import UNTESTED, Judgement, judge
from nontrivial.display.outcomes import ExperimentOutcomes, describe, read_results, select_outcomes
from nontrivial.display.paper import (
    CITATION,
    READING_ADJACENT,
    READING_INVERTED,
    Claim,
    read_claims,
)
from nontrivial.display.text_tables import TextTable, to_csv, to_html, to_markdown
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text

COLUMNS = (
    "claim",
    "experiment",
    "verdict",
    "evidence",
    "text",
    "decided_by",
    "seeds",
    "demonstration",
)


def judge_claims(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    claims: Path,
    csv: Path,
    markdown: Path,
    html: Path,
) -> None:
    """Decide every claim in every experiment; write CSV, Markdown and HTML tables.

    Args:
        settings: mapping with ``experiments``, a list of names.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        claims: table of the paper's claims.
        csv: the table as CSV, one row per claim and experiment, to write.
        markdown: the table as Markdown, to write.
        html: the table as HTML, to write.

    Raises:
        UserError: a file cannot be read, or an experiment has no results.
    """
    tables = read_results(summary, across_seeds, margins)
    experiments = [select_outcomes(*tables, name) for name in settings["experiments"]]
    records = [
        record for claim in read_claims(claims) for record in judge_everywhere(claim, experiments)
    ]
    write_text(csv, to_csv(COLUMNS, records))
    text = [_table(records, experiments)]
    write_text(markdown, to_markdown(text))
    write_text(html, to_html("The paper's claims", text))


def judge_everywhere(claim: Claim, experiments: list[ExperimentOutcomes]) -> list[dict]:
    """Return a record per experiment of the claim's task, or one if no experiment tests it."""
    fitting = [one for one in experiments if claim.task in ("any", one.task)]
    judged = [(one, judge(claim, one)) for one in fitting]
    tested = [(one, judgement) for one, judgement in judged if judgement.verdict != UNTESTED]
    if not judged:
        return [_record(claim, None, Judgement(UNTESTED, f"No experiment on {claim.task}."))]
    if not tested:
        return [_record(claim, None, judged[0][1])]
    return [_record(claim, one, judgement) for one, judgement in judged]


def _record(claim: Claim, outcomes: ExperimentOutcomes | None, judgement: Judgement) -> dict:
    return {
        "claim": claim.id,
        "experiment": outcomes.experiment if outcomes else None,
        "verdict": judgement.verdict,
        "evidence": judgement.evidence,
        "text": claim.claim,
        "decided_by": claim.decided_by,
        "seeds": outcomes.seed_count if outcomes else None,
        "demonstration": outcomes.demonstration if outcomes else False,
    }


def _table(records: list[dict], experiments: list[ExperimentOutcomes]) -> TextTable:
    rows = []
    previous = None
    for record in records:
        first = record["claim"] != previous
        previous = record["claim"]
        where = record["experiment"] or "none"
        if record["demonstration"]:
            where += " (demonstration)"
        rows.append(
            (
                record["text"] if first else "",
                where,
                record["verdict"],
                record["evidence"],
                record["decided_by"] if first else "",
            )
        )
    notes = [
        f"{one.experiment}: {one.network} ({one.stem} stem) on {one.dataset}; {describe(one)};"
        f" margin {one.margin:g}."
        for one in experiments
    ]
    notes += [
        "A target is non-trivial if the 95% interval of its drop is above the margin, trivial if"
        " it is below, and undecided otherwise; each target is judged on its own. With several"
        " seeds the interval is over seeds; with one it covers test sampling only.",
        READING_INVERTED,
        READING_ADJACENT,
        f"Claims: {CITATION}.",
    ]
    return TextTable(
        title="The paper's claims",
        columns=("Claim", "Experiment", "Verdict", "Evidence", "Decided by"),
        rows=rows,
        notes=notes,
        demonstration=bool(experiments) and all(one.demonstration for one in experiments),
    )


if __name__ == "__main__":
    command_line.run(judge_claims)
