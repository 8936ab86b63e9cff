"""Tabulate all targets of one experiment."""

from pathlib import Path

from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    Outcome,
    describe,
    limits,
    read_results,
    select_outcomes,
)
from nontrivial.display.text_tables import TextTable, to_csv, to_html, to_markdown
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text

COLUMNS = (
    "experiment",
    "training",
    "dataset",
    "network",
    "target",
    "kind",
    "reading",
    "role",
    "block",
    "kernels",
    "live_weights",
    "total_weights",
    "status",
    "metric",
    "value",
    "value_low",
    "value_high",
    "drop",
    "drop_low",
    "drop_high",
    "drop_share",
    "p_holm",
    "p_nontrivial_holm",
    "p_trivial_holm",
    "verdict",
    "margin",
    "units",
    "seeds",
    "demonstration",
)
STATUS_NAMES = {
    "cut": "cut: constant output by construction",
    "no_effect": "no effect",
    None: "status differs between seeds",
}


def tabulate_targets(
    settings: dict,
    summary: Path,
    across_seeds: Path,
    margins: Path,
    csv: Path,
    markdown: Path,
    html: Path,
) -> None:
    """Write the table of all targets of one experiment as CSV, Markdown and HTML.

    Args:
        settings: mapping with ``experiment``, its name.
        summary: ``summary.parquet``, results per seed.
        across_seeds: ``across_seeds.parquet``, results over seeds.
        margins: ``margins.parquet``, tests and verdicts by margin.
        csv: the table as CSV at full precision, to write.
        markdown: the table as Markdown, to write.
        html: the table as HTML, to write.

    Raises:
        UserError: a file cannot be read, or the experiment has no results.
    """
    outcomes = select_outcomes(
        *read_results(summary, across_seeds, margins), settings["experiment"]
    )
    everything = [outcomes.baseline, *outcomes.targets]
    write_text(csv, to_csv(COLUMNS, [_record(outcomes, outcome) for outcome in everything]))
    text = [_table(outcomes, everything)]
    write_text(markdown, to_markdown(text))
    write_text(html, to_html(text[0].title, text))


def _record(outcomes: ExperimentOutcomes, outcome: Outcome) -> dict:
    return {
        "experiment": outcomes.experiment,
        "training": outcomes.training,
        "dataset": outcomes.dataset,
        "network": outcomes.network,
        "target": outcome.target,
        "kind": outcome.kind,
        "reading": outcome.reading,
        "role": outcome.role,
        "block": outcome.block,
        "kernels": outcome.kernels,
        "live_weights": outcome.live_weights,
        "total_weights": outcome.total_weights,
        "status": outcome.status,
        "metric": outcomes.metric,
        "value": outcome.value,
        "value_low": outcome.low,
        "value_high": outcome.high,
        "drop": outcome.drop,
        "drop_low": outcome.drop_low,
        "drop_high": outcome.drop_high,
        "drop_share": outcome.drop_share,
        "p_holm": outcome.p_holm,
        "p_nontrivial_holm": outcome.p_nontrivial_holm,
        "p_trivial_holm": outcome.p_trivial_holm,
        "verdict": outcome.verdict,
        "margin": outcomes.margin,
        "units": outcomes.units,
        "seeds": len(outcome.seeds),
        "demonstration": outcomes.demonstration,
    }


def _table(outcomes: ExperimentOutcomes, everything: list[Outcome]) -> TextTable:
    metric = METRIC_NAMES[outcomes.metric]
    notes = [
        f"{outcomes.network} ({outcomes.stem} stem) on {outcomes.dataset}; {describe(outcomes)}.",
        *limits(outcomes),
        "Drop = baseline - value: positive is worse. Non-trivial: the interval of the drop is"
        f" above the margin of {outcomes.margin:g}; trivial: below it; harmful: below"
        f" {-outcomes.margin:g}, so zeroing improves the metric; undecided: none of these.",
        "p (Holm): of the test that the drop is 0, corrected over the experiment's targets.",
        "Cut: every path passes through the kernel, so the output is constant by construction; this"
        " is not a finding.",
        "Live weights can see a pixel; at this input size the others only ever see padding.",
    ]
    return TextTable(
        title=f"All targets of {outcomes.experiment}",
        columns=(
            "Target",
            "Role",
            "Kernels",
            "Live weights",
            metric[0].upper() + metric[1:],
            "95% interval",
            "Drop",
            "95% interval",
            "p (Holm)",
            "Verdict",
        ),
        rows=[_row(outcome) for outcome in everything],
        notes=notes,
        numbers=frozenset(range(2, 9)),
        demonstration=outcomes.demonstration,
    )


def _row(outcome: Outcome) -> tuple[str, ...]:
    live = (
        f"{outcome.live_weights / outcome.total_weights:.0%}"
        if outcome.total_weights and outcome.live_weights is not None
        else ""
    )
    is_baseline = outcome.kind == "baseline"
    return (
        outcome.target,
        outcome.role or "",
        "" if is_baseline else str(len(outcome.kernels)),
        live,
        f"{outcome.value:.4f}",
        interval(outcome.low, outcome.high),
        "" if is_baseline else f"{outcome.drop:+.4f}",
        interval(outcome.drop_low, outcome.drop_high),
        spell_p(outcome.p_holm),
        STATUS_NAMES.get(outcome.status, outcome.verdict or ""),
    )


def interval(low: float | None, high: float | None) -> str:
    """Return ``low to high`` with four decimals, or an empty string if undefined."""
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def spell_p(p: float | None) -> str:
    """Return a p-value with three decimals, or ``< 0.001``."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


if __name__ == "__main__":
    command_line.run(tabulate_targets)
