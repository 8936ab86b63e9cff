"""Recognize names that look like several scans of one subject, and the rule that groups them.

A scan's name then has a marker, such as ``ses-1``, ``MR2``, ``baseline`` or a date, and two names
are equal apart from their markers. What is left of a name must still tell subjects apart:
``scan_001`` and ``scan_002`` are two subjects.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_SCANS = 12  # of one subject, on average; more names alike share a site or a study
MOST_NUMBERED_SCANS = 6  # the same, where the marker is a mere number

_DATE = r"(?:19|20)[0-9]{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{6,9})?"
_ENTITY = r"(?:ses|run|acq|rec|dir|echo|part|desc)-[A-Za-z0-9]+"  # of BIDS
_NUMBERED = (
    "ses|sess|session|visit|vis|scan|rescan|retest|run|tp|timepoint|time|followup|follow-up|fu|fup"
    "|baseline|bl|screening|month|mo|week|wk|year|yr|day|exam|acq|rep|repeat|frame|phase|echo"
    "|pre|post|preop|postop|mr|mri"
)
_SHORT = "[vmtdwy][0-9]{1,3}"  # v2, m12, t0
_ALONE = (
    "sc|init|initial|before|after|left|right|lh|rh|l|r|ed|es"
    "|t1|t2|t1w|t2w|t1c|t1ce|t1gd|flair|pd|pdw|dwi|adc"
)
_WORDS = f"(?:{_NUMBERED})(?:[-_]?[0-9]{{1,4}})?|{_SHORT}|{_ALONE}"
_GLUED = "(?:tp|ses|sess|session|visit|scan|rescan|run|mr|fu|[vmt])[0-9]{1,3}|rescan|baseline|bl"
_MARKER = re.compile(
    rf"(?<![A-Za-z0-9])(?:{_DATE}|{_ENTITY}|{_WORDS})(?![A-Za-z0-9])"
    rf"|(?<=[0-9])(?:{_GLUED})(?![A-Za-z0-9])|(?<![A-Za-z0-9])test$",
    re.IGNORECASE,
)
# Tokens whose number is that of a group of subjects.
_GROUP = re.compile(
    r"(?:site|cent(?:er|re)|hospital|cohort|group|study|dataset|batch|fold|scanner|train|val|test)"
    r"[0-9]*|[0-9]+t",
    re.IGNORECASE,
)
_LETTERS = re.compile("([A-Za-z]*)[-_]?")
_TOKEN = re.compile(r"[^-_. +]+")
_BIDS_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)(?=_|$)")


@dataclass(frozen=True)
class Split:
    """A name, taken apart.

    Attributes:
        name: the whole name.
        subject: what identifies the subject.
        markers: start and end of each marker.
    """

    name: str
    subject: str
    markers: tuple[tuple[int, int], ...]


def alike(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the subjects that several of the names seem to belong to, with their names.

    Example:
        >>> alike(["OAS1_0001_MR1", "OAS1_0001_MR2", "OAS1_0002_MR1"])
        {'OAS1_0001': ['OAS1_0001_MR1', 'OAS1_0001_MR2']}
        >>> alike(["hippocampus_001", "hippocampus_003"])
        {}
    """
    return {
        subject: members for subject, members in _groups(_taken_apart(names)).items() if members[1:]
    }


def templates(names: Sequence[str]) -> Iterator[str]:
    """Yield templates with ``{subject}`` that may fit the names, the most literal first.

    ``{subject}_MR{session}`` is one. The caller checks with ``groups_alike`` which of them fit.
    """
    split = _taken_apart(names)
    marked = [one for one in split if one.markers]
    for example in dict.fromkeys([*marked[:1], *marked[-1:]]):
        yield from dict.fromkeys(
            _template(example, literal, tail) for literal in (True, False) for tail in (True, False)
        )


def expressions(names: Sequence[str]) -> Iterator[str]:
    """Yield regular expressions, whose group is the subject, that may fit the names.

    They are meant for file names, whose suffix follows the name.
    """
    split = _taken_apart(names)
    if all(_BIDS_SUBJECT.match(name) for name in names):
        yield "^(sub-[A-Za-z0-9]+)"
    found = {one.name[slice(*marker)] for one in split for marker in one.markers}
    words = sorted({re.sub("[0-9].*", "", text) for text in found})
    any_word = f"(?:{'|'.join(words)})" if len(words) > 1 else "".join(words)
    yield rf"^(.+?)[-_ .]{any_word}[0-9]+"
    yield rf"^(.+?)[-_ .]?{any_word}[0-9]"
    yield rf"^(.+?)[-_ .]{any_word}[-_.]"
    yield rf"^(.+?)(?:[-_ .]?{any_word}[-_0-9]*)?[.](?:nii|mgz|mgh|hdr|img)"
    yield rf"^{any_word}[-_0-9]*?[-_ .](.+?)[.](?:nii|mgz|mgh|hdr|img)"
    yield r"^(.+?)[-_ .](?:19|20)[0-9]{2}[-_.]?[01][0-9]"  # a date


def groups_alike(names: Sequence[str], subject_of: Mapping[str, str | None]) -> bool:
    """Return whether subjects by name put the same names together as ``alike`` does."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for name in names:
        found[subject_of.get(name)].append(name)
    ours = _groups(_taken_apart(names)).values()
    return None not in found and sorted(found.values()) == sorted(ours)


def _groups(split: Sequence[Split]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for one in split:
        groups[one.subject].append(one.name)
    return groups


def _taken_apart(names: Sequence[str]) -> list[Split]:
    """Take all names apart in the first way in which subjects are told apart and one repeats."""
    names = list(dict.fromkeys(names))
    named = [(name, _markers(name)) for name in names]
    always = _shared([{name[slice(*span)] for span in spans} for name, spans in named])
    named = [
        (name, [span for span in spans if name[slice(*span)] not in always])
        for name, spans in named
    ]
    constant = _shared([{*_TOKEN.findall(name)} for name in names])
    ways: list[tuple[list[Split], int]] = [
        ([_bids(name, spans) for name, spans in named], len(names)),
        ([_without_markers(name, spans, constant) for name, spans in named], MOST_SCANS),
        ([_before_date(name, constant) for name in names], MOST_SCANS),
        ([_without_words(name, spans) for name, spans in named], 0),
        (_without_number(names, constant), MOST_NUMBERED_SCANS),
    ]
    for split, most in ways:
        subjects = len({one.subject for one in split})
        different = len({one.name[slice(*span)] for one in split for span in one.markers})
        plausible = len(names) <= most * subjects if most else different <= subjects
        if subjects < len(names) and plausible:
            return split
    return [Split(name, name, ()) for name in names]


def _markers(name: str) -> list[tuple[int, int]]:
    return [match.span() for match in _MARKER.finditer(name)]


def _shared(sets: Sequence[set[str]]) -> set[str]:
    return set.intersection(*sets) if sets else set()


def _bids(name: str, markers: Sequence[tuple[int, int]]) -> Split:
    found = _BIDS_SUBJECT.match(name)
    if not found:
        return Split(name, name, ())
    return Split(name, found[0], tuple(span for span in markers if span[0] > found.end()))


def _without_markers(name: str, found: Sequence[tuple[int, int]], constant: set[str]) -> Split:
    """Remove the markers, but for those that are the subject's own number."""
    markers = list(found)
    while markers:
        rest = _rest(name, markers)
        if any(_identifies(token, constant) for token in _TOKEN.findall(rest)):
            return Split(name, rest, tuple(markers))
        with_digit = [span for span in markers if re.search("[0-9]", name[slice(*span)])]
        if not with_digit:
            break
        markers.remove(with_digit[0])
    return Split(name, name, ())


def _before_date(name: str, constant: set[str]) -> Split:
    """Remove a date and what follows it, such as the numbers of a series and an image."""
    date = re.search(rf"(?<=[-_. ]){_DATE}(?![0-9])", name)
    subject = name[: date.start()].rstrip("-_. +") if date else ""
    if date and any(_identifies(token, constant) for token in _TOKEN.findall(subject)):
        return Split(name, subject, (date.span(),))
    return Split(name, name, ())


def _without_words(name: str, markers: Sequence[tuple[int, int]]) -> Split:
    """Remove the markers where first names, as in ``anna_tp1``, tell subjects apart."""
    rest = _rest(name, markers)
    if not markers or not rest or re.search("[0-9]", rest) or _GROUP.fullmatch(rest):
        return Split(name, name, ())
    return Split(name, rest, tuple(markers))


def _without_number(names: Sequence[str], constant: set[str]) -> list[Split]:
    """Remove the number that ends a name, or that precedes an end that all names have."""
    tokens = [[*_TOKEN.finditer(name)] for name in names]
    shared = 0
    shortest = min((len(found) for found in tokens), default=0)
    while shared < shortest and len({found[-1 - shared][0] for found in tokens}) == 1:
        shared += 1
    split = []
    for name, found in zip(names, tokens, strict=True):
        last = found[-1 - shared] if shared < len(found) else None
        before = name[: last.start()].rstrip("-_. +") if last else ""
        identified = any(_identifies(token, constant) for token in _TOKEN.findall(before))
        if last and identified and re.fullmatch("[0-9]{1,2}", last[0]):
            split.append(Split(name, before, (last.span(),)))
        else:
            split.append(Split(name, name, ()))
    return split


def _identifies(token: str, constant: set[str]) -> bool:
    has_digit = bool(re.search("[0-9]", token))
    return has_digit and token not in constant and not _GROUP.fullmatch(token)


def _rest(name: str, markers: Sequence[tuple[int, int]]) -> str:
    """Return a name without its markers and the separators before them."""
    kept, start = "", 0
    for low, high in markers:
        kept += name[start:low].rstrip("-_. +")
        start = high
    return (kept + name[start:]).strip("-_. +")


def _template(one: Split, literal: bool, keep_tail: bool) -> str:
    """Return the template of one name.

    Args:
        one: the name, with markers.
        literal: whether to keep the letters of a marker, as in ``MR{session}``.
        keep_tail: whether to keep what follows the last marker, in place of a wildcard.
    """
    name = one.name
    bids = _BIDS_SUBJECT.match(name)
    before = name[: one.markers[0][0]].rstrip("-_. +")
    start = bids.end() if bids else len(before)
    text = "sub-{subject}" if bids else "{subject}" if before else ""
    used: list[str] = []
    for low, high in one.markers:
        marker = _LETTERS.match(name, low, high)
        word = marker[0] if literal and marker and marker.end() < high else ""
        kind = marker[1].lower() if marker else ""
        wildcard = kind if kind in ("run", "acq", "frame", "rec", "echo") else "session"
        used.append(wildcard)
        again = used.count(wildcard)
        text += f"{name[start:low]}{word}{{{wildcard}{again if again > 1 else ''}}}"
        start = high
    tail = name[start:]
    separator = tail[: len(tail) - len(tail.lstrip("-_. +"))]
    if not before:
        return f"{text}{separator}{{subject}}"
    return text + (tail if keep_tail or not separator else f"{separator}{{rest}}")
