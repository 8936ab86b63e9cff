"""The table of a network's convolution kernels: one row each, in forward order.

Standard library only: the Snakefile reads these tables at every start.
"""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nontrivial.errors import UserError
from nontrivial.execution.atomic import write_text
from nontrivial.formats.canonical import digest

ROLES = ("stem", "decomposition", "adjacent", "residual", "plain", "shortcut", "head")

# Weights fit every network with equal values in these columns. Block, unit and role interpret
# the network, so relabelling one must not retrain anything.
_STRUCTURE = (
    "path",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "dilation",
    "groups",
    "transposed",
)


@dataclass(frozen=True)
class Kernel:
    """The weight of one convolution.

    Attributes:
        order: position in the forward pass, from 0.
        path: module path in the network, as in ``named_modules``.
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: height x width, as in ``3x3``.
        stride: height x width.
        dilation: height x width.
        groups: number of channel groups.
        transposed: whether it is a transposed convolution.
        weights: number of weights, without the bias.
        block: number of its layer block, from 1; None for stem and head.
        unit: number of its residual unit in the block, from 0; None for stem and head.
        role: one of :data:`ROLES`.
    """

    order: int
    path: str
    in_channels: int
    out_channels: int
    kernel_size: str
    stride: str
    dilation: str
    groups: int
    transposed: bool
    weights: int
    block: int | None
    unit: int | None
    role: str


LARGEST = 2**31 - 1  # for all integers, because results store 32 bits
LONGEST_PATH = 140  # bytes, because names of targets, and so of files, contain it
_PATH_CHARACTERS = re.compile(r"[\w.-]+")

COLUMNS = tuple(field.name for field in fields(Kernel))


def structure_digest(kernels: Iterable[Kernel]) -> str:
    """Return a SHA-256 hex digest of what the kernels are, whatever the data and their roles.

    It leaves out block, unit and role, and what follows the data: the input channels of the first
    kernel and the output channels of the last.
    """
    rows = [{name: getattr(kernel, name) for name in _STRUCTURE} for kernel in kernels]
    if rows:
        del rows[0]["in_channels"], rows[-1]["out_channels"]
    return digest(rows)


def write_table(path: Path, kernels: Iterable[Kernel]) -> None:
    """Write the kernels as tab-separated values, atomically; an empty field is None."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for kernel in kernels:
        writer.writerow([_to_text(getattr(kernel, name)) for name in COLUMNS])
    write_text(path, text.getvalue())


def read_table(path: Path) -> list[Kernel]:
    """Read a table written by :func:`write_table` or by hand.

    >>> from nontrivial.networks.registry import table_file
    >>> read_table(table_file("resnet34"))[0].role
    'stem'

    Raises:
        UserError: the file cannot be read, a column is missing or unknown, a value has the
            wrong type, a path occurs twice, or the rows are not in forward order.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Write it with list_kernels.py."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text. Write it again with list_kernels.py.") from error
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    except csv.Error as error:
        raise UserError(
            f"{path}: not tab-separated values ({error}). Write it again with list_kernels.py."
        ) from error
    if not rows or tuple(rows[0]) != COLUMNS:
        found = repr(", ".join(rows[0])[:LONGEST_PATH]) if rows else "nothing"
        raise UserError(
            f"{path}: line 1: the columns must be {', '.join(COLUMNS)}, separated by tabs,"
            f" but are {found}. Write the table again with list_kernels.py."
        )
    kernels = [_parse(path, number, row) for number, row in enumerate(rows[1:], start=2) if row]
    _check(path, kernels)
    return kernels


def _to_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("not a non-negative integer")
    if len(text) > len(str(LARGEST)) or int(text) > LARGEST:
        raise ValueError(f"larger than {LARGEST}")
    return int(text)


def _optional_integer(text: str) -> int | None:
    return _integer(text) if text else None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("not true or false")
    return text == "true"


def _size(text: str) -> str:
    if any(_integer(side) < 1 for side in text.split("x")):
        raise ValueError("not a size such as 3x3")
    return text


def _role(text: str) -> str:
    if text not in ROLES:
        raise ValueError(f"not one of {', '.join(ROLES)}")
    return text


def _path(text: str) -> str:
    if not text:
        raise ValueError("empty")
    if not _PATH_CHARACTERS.fullmatch(text):
        raise ValueError("not a module path, which has letters, digits, '_', '-' and dots only")
    if len(text.encode()) > LONGEST_PATH:
        raise ValueError(f"longer than {LONGEST_PATH} bytes, too long for a file name")
    return text


_READERS = {
    "path": _path,
    "kernel_size": _size,
    "stride": _size,
    "dilation": _size,
    "transposed": _boolean,
    "block": _optional_integer,
    "unit": _optional_integer,
    "role": _role,
}


def _parse(path: Path, number: int, row: list[str]) -> Kernel:
    if len(row) != len(COLUMNS):
        raise UserError(f"{path}: line {number}: {len(row)} fields instead of {len(COLUMNS)}.")
    values: dict[str, Any] = {}
    for name, text in zip(COLUMNS, row, strict=True):
        try:
            values[name] = _READERS.get(name, _integer)(text)
        except ValueError as error:
            shown = repr(text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}...")
            raise UserError(f"{path}: line {number}: {name} {shown} is {error}") from error
    return Kernel(**values)


def _check(path: Path, kernels: list[Kernel]) -> None:
    if not kernels:
        raise UserError(f"{path}: the table has no kernel. Write it again with list_kernels.py.")
    seen = set()
    for position, kernel in enumerate(kernels):
        if kernel.order != position:
            raise UserError(
                f"{path}: {kernel.path}: order is {kernel.order} but its row is number {position}."
                " Sort the rows in forward order and count them from 0."
            )
        if kernel.path in seen:
            raise UserError(f"{path}: {kernel.path} is in the table twice. Remove one row.")
        seen.add(kernel.path)
        if (kernel.block is None) != (kernel.unit is None):
            raise UserError(
                f"{path}: {kernel.path}: one of block and unit is empty. Give both or neither."
            )
        if (kernel.block is None) != (kernel.role in ("stem", "head")):
            raise UserError(
                f"{path}: {kernel.path}: role {kernel.role} with block {kernel.block}."
                " Stem and head have no block; give every other role one."
            )
        if kernel.block is not None and kernel.block < 1:
            raise UserError(f"{path}: {kernel.path}: block is {kernel.block}. Count blocks from 1.")
