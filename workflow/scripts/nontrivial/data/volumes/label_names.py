"""Check ``label_map`` and ``classes``, against each other and against a decathlon folder's names.

The Snakefile imports this module at every start, so it uses the standard library only.
"""

import json
import re
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.errors import UserError

OTHER = "other"  # key of a label map, for every value that is not listed
MOST_CLASSES = 256  # masks are stored as uint8


def class_numbers(label_map: dict[str, int] | None, classes: list[str]) -> dict[int, int]:
    """Return the class number of each label value that is listed; without a map, of each class.

    Raises:
        UserError: the map is invalid, or a class cannot occur.
    """
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise UserError(f"classes: list 2 to {MOST_CLASSES} names, the background first")
    if label_map is None:
        return {number: number for number in range(len(classes))}
    beyond = [
        f"{key} is mapped to {number}"
        for key, number in label_map.items()
        if number not in range(len(classes))
    ]
    if beyond:
        raise UserError(
            f"label_map: {excerpt(beyond)}, which is not a class of `classes` (0 to"
            f" {len(classes) - 1}); change it, or add a class"
        )
    numbers: dict[int, int] = {}
    for key, number in label_map.items():
        if key == OTHER:
            continue
        try:
            value = int(key)
        except ValueError:
            raise UserError(f"label_map: {key!r} is neither an integer nor {OTHER!r}") from None
        if numbers.setdefault(value, number) != number:
            raise UserError(f"label_map: {value} is mapped to two classes")
    never = [name for number, name in enumerate(classes) if number not in label_map.values()]
    if never:
        raise UserError(
            f"label_map: no value is mapped to class {excerpt(never)}; map one, or remove the class"
        )
    return numbers


def read_names(index: Path) -> dict[int, str]:
    """Return the name of each label value in a decathlon's ``dataset.json``; none if it has none.

    ``{"0": "background", "1": "liver"}`` is the decathlon's own form, ``{"background": 0,
    "liver": 1}`` that of nnU-Net. A value of 0 without a name is the background.

    Raises:
        UserError: the names have another form, such as regions of several values.
    """
    try:
        labels = json.loads(index.read_text(encoding="utf-8")).get("labels")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}  # for the pairing to report
    if not labels:
        return {}
    try:
        if all(re.fullmatch("[0-9]+", value) for value in labels):
            names = {int(value): str(name) for value, name in labels.items()}
        else:
            names = {int(value): name for name, value in labels.items()}
        if len(names) < len(labels):
            raise ValueError("a value has two names")
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'{index}: "labels" cannot be compared with classes, because it does not name single'
            ' values, as {"0": "background", "1": "liver"} does; set label_map'
        ) from error
    return {0: "background"} | names


def check_names(index: Path, classes: list[str], label_map: dict[str, int] | None) -> None:
    """Check that classes are those that a decathlon's ``dataset.json`` names.

    Names are compared without case and separators, that of the background not at all. With a
    label map, the values that it lists must exist, and a class that has the name of a value must
    be the class of that value.

    Raises:
        UserError: they are not; the message has both lists and what to write.
    """
    try:
        names = read_names(index)
    except UserError:
        if label_map is None:
            raise
        return  # the map states what the values are
    if not names:
        return
    theirs = ", ".join(f"{value} {name}" for value, name in sorted(names.items()))
    ours = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    if label_map is None:
        same_values = sorted(names) == list(range(len(classes)))
        if same_values and all(_same(names[n], classes[n]) for n in range(1, len(classes))):
            return
        in_order = [name for _, name in sorted(names.items())]
        mapping = ", ".join(f"{value}: {number}" for number, value in enumerate(sorted(names)))
        has_gap = sorted(names) != list(range(len(names)))
        advice = f"write classes: [{', '.join(in_order)}]" + (
            f" and label_map: {{{mapping}}}"
            if has_gap
            else f"; to rename or merge them, set label_map, such as {{{mapping}}}"
        )
        raise UserError(f"{index} names the labels {theirs}, but classes are {ours}; {advice}")
    absent = [key for key in label_map if key != OTHER and int(key) not in names]
    if absent:
        raise UserError(
            f"label_map: {index} has no label {excerpt(absent)}, only {theirs}; remove the others"
            " from label_map"
        )
    for value, name in sorted(names.items()):
        number = label_map.get(str(value), label_map.get(OTHER))
        right = next((n for n, one in enumerate(classes) if n and _same(name, one)), None)
        if right is not None and number != right:
            mapped = "not mapped" if number is None else f"mapped to class {classes[number]!r}"
            raise UserError(
                f"label_map: {index} names label {value} {name!r}, which is {mapped} (labels"
                f" {theirs}; classes {ours}); write {value}: {right}, or rename the class"
            )


def _same(first: str, second: str) -> bool:
    return _plain(first) == _plain(second)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
