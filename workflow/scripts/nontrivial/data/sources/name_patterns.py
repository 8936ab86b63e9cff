"""Find files by a path with wildcards, such as ``sub-{subject}/anat/sub-{subject}_T1w.nii.gz``.

The Snakefile imports this module at every start, so it uses the standard library only.
"""

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from nontrivial.errors import UserError

SUBJECT = "subject"
_WILDCARD = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SESSION = re.compile(
    "ses|visit|scan|run|time|tp|date|year|acq|modality|contrast|baseline|followup", re.IGNORECASE
)


@dataclass(frozen=True)
class Match:
    """A file that a pattern matches.

    Attributes:
        path: its path.
        inside: the part of the path that the pattern describes; of an absolute pattern, from the
            last folder without a wildcard on, so that it is the same on every host.
        values: value by wildcard.
    """

    path: Path
    inside: str
    values: dict[str, str]


@dataclass
class Search:
    """What a pattern finds.

    Attributes:
        matches: the files that match it, sorted by path.
        dangling: links to folders that do not exist, which the pattern would enter.
        without_match: folders that a wildcard matches, ``{subject}`` among those so far, and that
            hold no matching file; the outermost ones.
    """

    matches: list[Match] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    without_match: list[Path] = field(default_factory=list)


def is_pattern(text: str) -> bool:
    """Return whether a path has wildcards, or braces that were meant as such."""
    return "{" in text or "}" in text


def wildcards(pattern: str) -> list[str]:
    """Return the names of a pattern's wildcards, each once, in order.

    Raises:
        UserError: the pattern is not valid.
    """
    if not pattern.isprintable():
        raise UserError(f"{pattern!r} has characters that are not printable; remove them")
    literal = _WILDCARD.sub("", pattern)
    if "*" in literal:
        raise UserError(f"{pattern!r}: '*' is not a wildcard; write {{name}} in its place")
    if "{" in literal or "}" in literal:
        raise UserError(f"{pattern!r} has a brace without its counterpart; write {{subject}}")
    names = _WILDCARD.findall(pattern)
    for name in names:
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{pattern!r}: {{{name}}} is not a wildcard; use letters, digits and underscores"
            )
    if "}{" in pattern:
        raise UserError(
            f"{pattern!r} has two wildcards side by side, so where one ends is unknown; put"
            " text between them, or make them one"
        )
    return list(dict.fromkeys(names))


def above(wildcard: str, pattern: str) -> list[str]:
    """Return the wildcards in folders above another one, but for folders of sessions."""
    parts = Path(pattern).parts
    first = next((n for n, part in enumerate(parts) if wildcard in _WILDCARD.findall(part)), 0)
    others = [part for part in parts[:first] if not _SESSION.match(part.lstrip("{_"))]
    return list(dict.fromkeys(name for part in others for name in _WILDCARD.findall(part)))


def normalized(text: str) -> str:
    """Return a text in Unicode's form NFC, in which equal texts have equal characters."""
    return unicodedata.normalize("NFC", text)


def fixed_folder(pattern: str) -> Path:
    """Return the folders at the start of a pattern that have no wildcard."""
    parts = Path(pattern).parts
    fixed = [number for number, part in enumerate(parts[:-1]) if is_pattern(part)]
    return Path(*parts[: fixed[0] if fixed else -1])


def find(pattern: str, folder: Path) -> list[Match]:
    """Return the files below a folder that match a pattern, sorted by path.

    A wildcard matches any text without ``/``, as much as possible where several fit, but not the
    dot of a hidden file. A repeated wildcard has the same value everywhere. Names are compared
    after Unicode normalization. A link to a file that does not exist counts as a file.

    Args:
        pattern: path with wildcards; absolute, or relative to ``folder``.
        folder: where to look.

    Raises:
        UserError: the pattern is not valid.
        OSError: a folder cannot be read.
    """
    return search(pattern, folder).matches


def search(pattern: str, folder: Path) -> Search:
    """Return the files that ``find`` returns, and what looks as if a file should be there.

    Raises:
        UserError: the pattern is not valid.
        OSError: a folder cannot be read.
    """
    wildcards(pattern)
    fixed = fixed_folder(pattern)
    shown = Path(fixed.name) if fixed.is_absolute() else fixed
    found = Search()
    parts = Path(pattern).parts[len(fixed.parts) :]
    _search(folder / fixed, shown, parts, {}, found)
    found.matches.sort(key=lambda match: match.inside)
    found.dangling.sort()
    found.without_match.sort()
    return found


def _search(
    folder: Path, inside: Path, parts: tuple[str, ...], values: dict[str, str], found: Search
) -> None:
    if not folder.is_dir():
        return
    expression = _expression(parts[0], values)
    with os.scandir(folder) as entries:
        for entry in entries:
            match = expression.fullmatch(normalized(entry.name))
            if not match:
                continue
            path, below = folder / entry.name, inside / entry.name
            bound = {**values, **match.groupdict()}
            if len(parts) == 1:
                if is_file_or_link(entry):
                    found.matches.append(Match(path, below.as_posix(), bound))
            elif entry.is_dir():
                _search_folder(path, below, parts, bound, found)
            elif is_file_or_link(entry) and not entry.is_file():
                found.dangling.append(path)


def _search_folder(
    path: Path, inside: Path, parts: tuple[str, ...], values: dict[str, str], found: Search
) -> None:
    """Search a folder that ``parts[0]`` matches."""
    matches, without = len(found.matches), len(found.without_match)
    _search(path, inside, parts[1:], values, found)
    subject_follows = SUBJECT not in values and any(f"{{{SUBJECT}}}" in part for part in parts[1:])
    if is_pattern(parts[0]) and not subject_follows and len(found.matches) == matches:
        found.without_match[without:] = [path]


def _expression(part: str, values: dict[str, str]) -> re.Pattern[str]:
    """Return the regular expression of one folder or file name of a pattern."""
    text, seen = "", set(values)
    for number, piece in enumerate(_WILDCARD.split(normalized(part))):
        if number % 2 == 0:
            text += re.escape(piece)
        elif piece in values:
            text += re.escape(values[piece])
        elif piece in seen:
            text += f"(?P={piece})"
        else:
            text += f"(?P<{piece}>{'' if text else '(?![.])'}[^/]+)"
            seen.add(piece)
    return re.compile(text)


def is_file_or_link(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder is a file, or a link whose file does not exist."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
