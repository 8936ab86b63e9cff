"""Write tables as Markdown, HTML and CSV."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 1.2em; }
h1 { font-size: 1.15em; margin: 1.4em 0 .4em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #444; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
p.note { font-size: .9em; color: #444; margin: .3em 0; max-width: 60em; }
p.warning { font-weight: bold; }
"""


@dataclass(frozen=True)
class TextTable:
    """A table of text cells.

    Attributes:
        title: heading, one line.
        columns: column headings.
        rows: cells, one per column.
        notes: footnotes, one paragraph each.
        numbers: indices of right-aligned columns.
        demonstration: whether to warn above the table that the data support no inference.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)
    demonstration: bool = False


DEMONSTRATION = (
    "Demonstration data: the numbers show that the workflow runs and support no conclusion."
)


def to_markdown(tables: Sequence[TextTable]) -> str:
    """Return GitHub Markdown: for each table a heading, a pipe table and its notes."""
    return "\n".join(_markdown(table) for table in tables)


def to_html(title: str, tables: Sequence[TextTable]) -> str:
    """Return one self-contained HTML page, which loads no other file."""
    body = "\n".join(_html(table) for table in tables)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def to_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Return CSV at full precision; None is an empty field, lists are joined by spaces.

    Example:
        >>> print(to_csv(["target", "drop"], [{"target": "baseline", "drop": None}]), end="")
        target,drop
        baseline,
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_field(row[column]) for column in columns])
    return text.getvalue()


def _csv_field(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return value


def _markdown(table: TextTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if i in table.numbers else "---" for i in range(len(table.columns))]
    lines = [f"## {table.title}", ""]
    if table.demonstration:
        lines += [f"**{DEMONSTRATION}**", ""]
    lines += [line(table.columns), line(rule), *(line(row) for row in table.rows), ""]
    for text in table.notes:
        lines += [text, ""]
    return "\n".join(lines)


def _html(table: TextTable) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    parts = [f"<h1>{html.escape(table.title)}</h1>"]
    if table.demonstration:
        parts.append(f'<p class="note warning">{html.escape(DEMONSTRATION)}</p>')
    parts.append(f'<div class="scroll"><table>\n<tr>{head}</tr>')
    for row in table.rows:
        cells = "".join(
            f'<td class="number">{html.escape(cell)}</td>'
            if i in table.numbers
            else f"<td>{html.escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</table></div>")
    parts += [f'<p class="note">{html.escape(text)}</p>' for text in table.notes]
    return "\n".join(parts)
