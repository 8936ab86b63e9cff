"""Tabulate the paper's claims: whether each holds in the experiments, and the evidence."""

from dataclasses import dataclass
from pathlib import Path

from nontrivial.display.claims import (
    BELOW_PAPER,
    LEAST_LIVE,
    LEVEL,
    NO_NUMBERS,
    UNTESTED,
    Judgement,
    judge,
    judge_paper,
)
from nontrivial.display.outcomes import (
    ExperimentOutcomes,
    describe,
    limits,
    read_results,
    select_outcomes,
)
from nontrivial.display.paper import (
    CITATION,
    READING_ADJACENT,
    READING_INVERTED,
    TASK_NAMES,
    Claim,
    as_outcomes,
    read_claims,
    read_paper_values,
)
from nontrivial.display.text_tables import TextTable, to_csv, to_html, to_markdown
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text
from nontrivial.inference.comparison import MARGINS

COLUMNS = (
    "claim",
    "experiment",
    "verdict",
    "evidence",
    "text",
    "decided_by",
    "seeds",
    "demonstration",
    *(f"verdict_{margin:g}" for margin in MARGINS),
    *(f"paper_{margin:g}" for margin in MARGINS),
)


@dataclass(frozen=True)
class Compared:
    """An experiment, and the paper's numbers if it is compared with them."""

    outcomes: ExperimentOutcomes
    paper: ExperimentOutcomes | None


def judge_claims(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    paper: Path,
    claims: Path,
    csv: Path,
    markdown: Path,
    html: Path,
) -> None:
    """Decide every claim in every experiment; write CSV, Markdown and HTML tables.

    Args:
        settings: mapping with ``experiments``, a list of ``name`` and ``paper`` (the paper's task
            to compare with, ``cifar10`` or ``t1``, or None).
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        paper: the paper's numbers.
        claims: table of the paper's claims.
        csv: the table as CSV, one row per claim and experiment, to write.
        markdown: the table as Markdown, to write.
        html: the table as HTML, to write.

    Raises:
        UserError: a file cannot be read, or an experiment has no results.
    """
    tables = read_results(summary, across_seeds, margins)
    values = read_paper_values(paper)
    papers = {task: as_outcomes(values, task, MARGINS) for task in TASK_NAMES}
    experiments = [
        Compared(select_outcomes(*tables, entry["name"]), papers.get(entry["paper"]))
        for entry in settings["experiments"]
    ]
    records = [
        record for claim in read_claims(claims) for record in judge_everywhere(claim, experiments)
    ]
    write_text(csv, to_csv(COLUMNS, records))
    text = [_table(records, experiments)]
    write_text(markdown, to_markdown(text))
    write_text(html, to_html("The paper's claims", text))


def judge_everywhere(claim: Claim, experiments: list[Compared]) -> list[dict]:
    """Return a record per experiment of the claim's task, or one if no experiment can test it."""
    fitting = [one for one in experiments if claim.task in ("any", one.outcomes.task)]
    if not fitting:
        nowhere = Judgement(UNTESTED, f"No experiment on {claim.task}.")
        return [_record(claim, None, nowhere)]
    # What the rule alone says, whatever the baseline: some claims need another experiment.
    alone = [judge(claim, one.outcomes) for one in fitting]
    if all(judgement.verdict == UNTESTED for judgement in alone):
        return [_record(claim, None, alone[0])]
    return [_record(claim, one, judge(claim, one.outcomes, one.paper)) for one in fitting]


def _record(claim: Claim, compared: Compared | None, judgement: Judgement) -> dict:
    outcomes = compared.outcomes if compared else None
    record: dict[str, object] = {
        "claim": claim.id,
        "experiment": outcomes.experiment if outcomes else None,
        "verdict": judgement.verdict,
        "evidence": judgement.evidence,
        "text": claim.claim,
        "decided_by": claim.decided_by,
        "seeds": outcomes.seed_count if outcomes else None,
        "demonstration": outcomes.demonstration if outcomes else False,
    }
    paper = compared.paper if compared else None
    by_paper = judge_paper(claim, paper) if paper else dict.fromkeys(MARGINS, NO_NUMBERS)
    for margin in MARGINS:
        at_margin = judgement.verdict
        if outcomes and at_margin != UNTESTED:
            at_margin = judge(claim, outcomes, paper, margin).verdict
        record[f"verdict_{margin:g}"] = at_margin
        record[f"paper_{margin:g}"] = by_paper[margin]
    return record


def _at_margins(record: dict, source: str) -> str:
    """Return the verdicts at the three margins in one cell; equal ones once."""
    verdicts = [record[f"{source}_{margin:g}"] for margin in MARGINS]
    return verdicts[0] if len(set(verdicts)) == 1 else " / ".join(verdicts)


def _table(records: list[dict], experiments: list[Compared]) -> TextTable:
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
                _at_margins(record, "verdict"),
                _at_margins(record, "paper"),
                record["evidence"],
                record["decided_by"] if first else "",
            )
        )
    three = " / ".join(f"{margin:g}" for margin in MARGINS)
    notes = [
        f"{one.outcomes.experiment}: {one.outcomes.network} ({one.outcomes.stem} stem) on"
        f" {one.outcomes.dataset}; {describe(one.outcomes)}; margin {one.outcomes.margin:g}."
        for one in experiments
    ]
    notes += [
        f"{one.outcomes.experiment}: {limit}"
        for one in experiments
        for limit in limits(one.outcomes)
    ]
    notes += [
        "A target is non-trivial if the 95% interval of its drop is above the margin, trivial if"
        " it is below (harmful targets count as trivial), and undecided otherwise.",
        "A claim about every target uses these verdicts. A claim that one target can decide, such"
        " as that some layer is trivial, or that not every layer is, looks for the clearest of"
        f" many: it needs a one-sided p <= {LEVEL:g} after Holm's correction over all targets of"
        " the experiment.",
        "Targets whose outcome construction fixes do not count. If any other target has no verdict,"
        " a claim about every target is undecided, unless a counterexample decides it.",
        f'"By padding": the verdict rests on targets, or blocks, with less than {LEAST_LIVE:.0%}'
        " live weights. The others see only the padding around the image, so the image size may be"
        " the reason.",
        f"Margins {three}: the verdict of this run, and of the paper's own numbers, at these"
        " margins; one word if all agree. The paper's numbers have no intervals: a drop above the"
        f' margin is non-trivial, one below it trivial. "{NO_NUMBERS}": its tables lack the'
        " targets.",
        "An experiment that is compared with the paper tests no claim if the upper limit of its"
        f" baseline is more than {BELOW_PAPER:g} below the paper's baseline.",
        READING_INVERTED,
        READING_ADJACENT,
        f"Claims: {CITATION}.",
    ]
    return TextTable(
        title="The paper's claims",
        columns=(
            "Claim",
            "Experiment",
            "Verdict",
            f"Margins {three}",
            f"Paper's numbers, {three}",
            "Evidence",
            "Decided by",
        ),
        rows=rows,
        notes=notes,
        demonstration=bool(experiments) and all(one.outcomes.demonstration for one in experiments),
    )


if __name__ == "__main__":
    command_line.run(judge_claims)
