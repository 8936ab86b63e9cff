"""Reading small tab-separated tables that people write."""

import csv
from pathlib import Path

from nontrivial.errors import UserError


def read_tsv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """Read a TSV with a header line; every row must fill ``columns``.

    Raises:
        UserError: the file can't be read, lacks a column, or a row leaves one empty.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            rows = list(reader)
            found = reader.fieldnames or []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table of UTF-8 text ({error})") from error
    named = [name for name in found if name]  # editors leave empty columns behind
    if len(set(named)) < len(named):
        raise UserError(f"{path}: has a column twice ({', '.join(found)}); keep one")
    missing = [column for column in columns if column not in found]
    if missing:
        raise UserError(
            f"{path}: lacks column {', '.join(missing)} (tab-separated; has {', '.join(found)})"
        )
    for number, row in enumerate(rows, start=2):  # line 1 is the header
        for column in columns:
            if not row[column]:
                raise UserError(f"{path}, line {number}: {column} is empty")
    return rows
