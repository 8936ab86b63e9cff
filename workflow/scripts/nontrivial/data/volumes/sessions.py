"""Recognize names of several scans of one subject, and the rule that groups them.

Three ways, in this order: an identifier of a well-known study; a marker such as ``baseline`` that
precedes the subject; and a subject that precedes anything else, in names that repeat the subject.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# Scans of one subject, on average; more names alike share a site or a study.
MOST_SCANS = 4
MOST_SCANS_OF_A_KIND = 12  # if what follows the subject has no more values than there are subjects
MOST_SHAPES = 6  # alternatives in a regular expression that users should read

# Identifiers of one subject, and what must follow: of BIDS, ADNI, OASIS, MIRIAD and TCGA.
KNOWN = {
    "^(sub-[A-Za-z0-9]+)": "(?=[_.]|$)",
    "([0-9]{3}_S_[0-9]{4})": "(?![0-9])",
    "(OAS[123]_?[0-9]{4})": "(?![0-9])",
    "(miriad_[0-9]+)": "",
    "(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})": "",
}
_DATE = (
    r"(?:(?:19|20)[0-9]{2}(?P<s>[-_.]?)(?:0[1-9]|1[0-2])(?P=s)(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{6,9})?"
    r"|[0-3]?[0-9](?P<t>[-_.])[0-3]?[0-9](?P=t)(?:19|20)[0-9]{2})(?![A-Za-z0-9])"
)
_WORD = (
    "(?:ses|sess|session|visit|vis|scan|rescan|test|retest|run|tp|timepoint|time|followup|follow-up|fu"
    "|fup|baseline|bl|screening|month|mo|week|wk|year|yr|day|exam|acq|rep|repeat|frame|phase|echo|slice"
    "|pre|post|preop|postop|mr|mri|sc|init|initial|before|after|left|right|lh|rh|l|r|ed|es"
    "|t1|t2|t1w|t2w|t1c|t1ce|t1gd|flair|pd|pdw|dwi|adc)"
)
_DATE_FIRST = re.compile(_DATE)
_MARKER_FIRST = re.compile(
    rf"(?:{_DATE}|{_WORD}(?:[-_]?[0-9]{{1,2}})?|[vmtdwy][0-9]{{1,3}})[-_. +]+", re.IGNORECASE
)
_MARKER_LAST = re.compile(
    rf"[-_. +]+(?P<marker>{_WORD}(?:[-_]?[0-9]+)?|[vmtdwy][0-9]{{1,3}}|{_DATE})(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# Tokens whose number is that of a group of subjects.
_GROUP = re.compile(
    r"(?:site|cent(?:er|re)|hospital|cohort|group|study|dataset|batch|fold|scanner|train|val|test)"
    r"[0-9]*|[0-9]+t",
    re.IGNORECASE,
)
_TOKEN = re.compile(rf"{_DATE}|[^-_. +()]+")
_GLUED = re.compile(r"([A-Za-z]*[0-9]+)[A-Za-z]+[0-9]*")  # 001L, S01V1


@dataclass(frozen=True)
class ScanName:
    """A name, and the part of it that identifies the subject.

    Attributes:
        name: the whole name.
        start: index of the part's first character.
        end: index after its last character.
    """

    name: str
    start: int
    end: int

    @property
    def subject(self) -> str:
        """Return what identifies the subject."""
        return self.name[self.start : self.end]


def known(name: str) -> ScanName | None:
    """Return a name that has an identifier of a well-known study, taken apart, or None."""
    matches = (re.search(subject + after, name) for subject, after in KNOWN.items())
    found = next(filter(None, matches), None)
    return ScanName(name, *found.span(1)) if found else None


def alike(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the subjects that several of the names seem to belong to, with their names.

    Example:
        >>> alike(["OAS1_0001_MR1", "OAS1_0001_MR2", "OAS1_0002_MR1"])
        {'OAS1_0001': ['OAS1_0001_MR1', 'OAS1_0001_MR2']}
        >>> alike(["hippocampus_001", "hippocampus_003"])
        {}
    """
    return {s: members for s, members in _groups(_scan_names(names)).items() if members[1:]}


def groups_alike(names: Sequence[str], subject_of: Mapping[str, str]) -> bool:
    """Return whether subjects by name put the same names together as ``alike`` does.

    The subjects must not look like scans of one subject themselves.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[subject_of[name]].append(name)
    ours = _groups(_scan_names(names)).values()
    return sorted(found.values()) == sorted(ours) and not alike([*found])


def expressions(names: Sequence[str]) -> Iterator[str]:
    """Yield regular expressions for file names, whose group is the subject.

    None if it is unclear which part of a name is the subject. The caller checks with
    ``groups_alike`` which of them fit.
    """
    for subject, after in KNOWN.items():
        if all(re.search(subject + after, name) for name in names):
            yield subject
    scans = _scan_names(names)
    for letters in () if _is_ambiguous(scans) else (False, True):
        heads = {_shape(scan.name[: scan.start], letters) for scan in scans}
        bodies = {_shape(scan.subject, letters) for scan in scans}
        if len(heads) <= MOST_SHAPES and len(bodies) <= MOST_SHAPES:
            head = f"(?:{'|'.join(sorted(heads))})" if len(heads) > 1 else heads.pop()
            body = "|".join(sorted(bodies, key=lambda shape: (-len(shape), shape)))
            yield f"^{head}({body})"


def template(names: Sequence[str]) -> str | None:
    """Return a template with ``{subject}`` that may fit the names, or None if none is clear.

    One is ``{subject}_ses-{session}``. The caller checks with ``groups_alike`` whether it fits.
    """
    scans, constant = _scan_names(names), _shared(names)
    example = next((scan for scan in scans if scan.subject != scan.name), None)
    if not example or _is_ambiguous(scans):
        return None
    number = itertools.count(1)

    def wildcard(token: re.Match[str]) -> str:
        return token[0] if token[0] in constant else f"{{session{next(number)}}}"

    parts = example.name[: example.start], example.name[example.end :]
    return "{subject}".join(_TOKEN.sub(wildcard, part) for part in parts).replace("n1}", "n}")


def _groups(scans: Sequence[ScanName]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        groups[scan.subject].append(scan.name)
    return groups


def _scan_names(names: Sequence[str]) -> list[ScanName]:
    """Return each name with its subject; the subjects do not look like scans of one subject."""
    names = list(dict.fromkeys(names))
    studied = {name: scan for name in names if (scan := known(name))}
    others = {name: ScanName(name, 0, len(name)) for name in names if name not in studied}
    while others:
        subjects = list(dict.fromkeys(scan.subject for scan in others.values()))
        parts = {part.name: part for part in _taken_apart(subjects)}
        if all(part.subject == subject for subject, part in parts.items()):
            break
        for name, scan in others.items():
            part = parts[scan.subject]
            others[name] = ScanName(name, scan.start + part.start, scan.start + part.end)
    return [studied.get(name) or others[name] for name in names]


def _taken_apart(names: Sequence[str]) -> list[ScanName]:
    """Take names apart in the first way in which several have the same subject."""
    constant = _shared(names)
    after_marker = [_after_marker(name, constant) for name in names]
    if _repeats(after_marker) and _are_markers(after_marker):
        return after_marker
    for scans, most in _ways(names, constant):
        if _are_scans(scans, most):
            return scans
    return [ScanName(name, 0, len(name)) for name in names]


def _ways(names: Sequence[str], constant: set[str]) -> Iterator[tuple[list[ScanName], int]]:
    """Yield the names with the subject at their start, the longest first, with its most scans."""
    numbered = {name: _numbered(name, constant) for name in names}
    for number in reversed(range(max(map(len, numbered.values()), default=0))):
        ends = [t[number].end() if t[number:] else len(name) for name, t in numbered.items()]
        yield _cut(names, ends), MOST_SCANS
    glued = [_glued(name, tokens) for name, tokens in numbered.items()]
    # In only some of many hexadecimal names, a letter follows a number by chance.
    if all(end < len(name) for end, name in zip(glued, names, strict=True)):
        yield _cut(names, glued), 0
    yield _cut(names, [_before_marker(name, constant) for name in names]), 0


def _cut(names: Sequence[str], ends: Sequence[int]) -> list[ScanName]:
    return [ScanName(name, 0, end) for name, end in zip(names, ends, strict=True)]


def _repeats(scans: Sequence[ScanName]) -> bool:
    return 1 < len({scan.subject for scan in scans}) < len(scans)


def _are_scans(scans: Sequence[ScanName], most: int) -> bool:
    """Return whether names with the same start are scans of a subject, not subjects of a site.

    Args:
        scans: the names.
        most: scans of a subject, on average, whatever follows the subject.
    """
    if not _repeats(scans):
        return False
    groups = _groups(scans)
    repeated = [scan for scan in scans if groups[scan.subject][1:]]
    average = len(repeated) / len({scan.subject for scan in repeated})
    ends = {scan.name[scan.end :] for scan in repeated}
    if most > 0 and _are_marked(repeated):
        return True
    are_few = len(ends) <= len(groups)
    return average <= most or (average <= MOST_SCANS_OF_A_KIND and are_few)


def _is_ambiguous(scans: Sequence[ScanName]) -> bool:
    """Return whether it is unclear which part of the names is the subject.

    What follows it may be subjects, as in ``s1_p1``, ``s2_p1``; or subjects may repeat a part.
    """
    groups = _groups([scan for scan in scans if not known(scan.name)])
    if any(_MARKER_FIRST.fullmatch(f"{subject}_") for subject in groups):
        return True
    repeated = [scan for scan in scans if len(groups.get(scan.subject, ())) > 1]
    ends = {scan.name[scan.end :] for scan in repeated}
    if len(groups) <= len(ends) < len(repeated) and not _are_marked(repeated):
        return True
    ways = _ways([*groups], _shared([*groups]))
    return any(most and _are_scans(way, MOST_SCANS_OF_A_KIND) for way, most in ways)


def _are_marked(scans: Sequence[ScanName]) -> bool:
    """Return whether a marker, which not all names have, follows the subject in every name."""
    constant = _shared([scan.name for scan in scans])
    ends = {scan.name[scan.end :] for scan in scans}
    return all(not end or _markers(end, constant) for end in ends)


def _are_markers(scans: Sequence[ScanName]) -> bool:
    """Return whether what precedes the subject is a marker rather than a subject itself."""
    markers = {scan.name[: scan.start] for scan in scans}
    subjects = {scan.subject for scan in scans}
    numbered = [marker for marker in markers if re.search("[0-9]", marker)]
    if all(re.search(rf"(?:^|[-_. +]){_DATE}", marker) for marker in numbered):
        return not numbered or not any(re.fullmatch("[0-9]{1,2}", s) for s in subjects)
    return len(markers) < len(subjects)


def _after_marker(name: str, constant: set[str]) -> ScanName:
    """Return a name with what follows a marker at its start as the subject."""
    start = 0
    for token in _TOKEN.finditer(name):
        start = token.start()
        marker = _MARKER_FIRST.match(name, start)
        varies = marker and any(t[0] not in constant for t in _TOKEN.finditer(marker[0]))
        if token[0] not in constant or varies:
            break
    marker = _MARKER_FIRST.match(name, start)
    return ScanName(name, marker.end() if marker else 0, len(name))


def _before_marker(name: str, constant: set[str]) -> int:
    """Return where a word that tells subjects apart ends, as in ``anna_tp1``."""
    markers = [marker.start() for marker in _markers(name, constant)]
    return markers[0] if markers and not _GROUP.fullmatch(name[: markers[0]]) else len(name)


def _markers(text: str, constant: set[str]) -> list[re.Match[str]]:
    found = _MARKER_LAST.finditer(text)
    return [match for match in found if match["marker"] not in constant]


def _numbered(name: str, constant: set[str]) -> list[re.Match[str]]:
    """Return the tokens that may end what identifies a subject: those with a number."""
    return [
        token
        for token in _TOKEN.finditer(name)
        if re.search("[0-9]", token[0])
        and token[0] not in constant
        and not _GROUP.fullmatch(token[0])
        and not _DATE_FIRST.fullmatch(token[0])
    ]


def _glued(name: str, numbered: Sequence[re.Match[str]]) -> int:
    """Return where the number of a token such as ``001L`` ends."""
    found = _GLUED.fullmatch(name, *numbered[0].span()) if numbered else None
    return found.end(1) if found else len(name)


def _shared(names: Sequence[str]) -> set[str]:
    """Return the tokens that all names have."""
    sets = [{token[0] for token in _TOKEN.finditer(name)} for name in names]
    return set.intersection(*sets) if len(sets) > 1 else set()


def _shape(text: str, letters: bool) -> str:
    """Return a regular expression for texts with other numbers and, on demand, other letters."""
    escaped = re.sub(r"([][.^$*+?{}()|\\])", r"\\\1", text)
    escaped = re.sub(r"[A-Za-z]+", "<letters>", escaped) if letters else escaped
    return re.sub(r"[0-9]+", "[0-9]+", escaped).replace("<letters>", "[A-Za-z]+")
