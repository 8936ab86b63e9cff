"""Read small tab-separated tables that users write."""

import csv
from pathlib import Path
from typing import Any

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources.locations import check_fetched
from nontrivial.errors import UserError


def read_tsv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """Return the rows of a TSV file with a header line, without spaces around cells.

    Args:
        path: the file.
        columns: columns that must exist and have a value in every row.

    Raises:
        UserError: the file cannot be read or was not fetched, or a column or value is missing.
    """
    check_fetched([path])
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            found = reader.fieldnames or []
            rows = [{key: _stripped(cell) for key, cell in row.items()} for row in reader]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a tab-separated table in UTF-8 ({error})") from error
    named = [name for name in found if name]  # editors leave empty columns behind
    if len(set(named)) < len(named):
        raise UserError(f"{path}: two columns have the same name ({', '.join(found)}); rename one")
    missing = [column for column in columns if column not in found]
    if missing:
        raise UserError(
            f"{path}: column {', '.join(missing)} is missing; the file must be tab-separated and"
            f" has {', '.join(found)}"
        )
    empty = [
        f"line {number}: {column} is empty"
        for number, row in enumerate(rows, start=2)  # line 1 is the header
        for column in columns
        if not row[column]
    ]
    if empty:
        raise UserError(f"{path}, {excerpt(empty, 1)}; fill it in")
    return rows


def _stripped(cell: Any) -> Any:  # of csv: text, or None or a list where a row is too short or long
    return cell.strip() if isinstance(cell, str) else cell
