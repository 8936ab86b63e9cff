"""Lay out a network's kernels in the rows of a figure: row breaks and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_LABEL = 20  # characters; longer paths lose their leading parts
REACH = 0.25  # share of a row by which a break may move to coincide with a block's end


@dataclass(frozen=True)
class Run:
    """Consecutive kernels of one block, from ``start`` to ``stop`` (exclusive)."""

    start: int
    stop: int
    name: str


def block_name(block: int | None, role: str | None) -> str:
    """Return ``block 2``, or the role for kernels outside of blocks (stem, head)."""
    return f"block {block}" if block is not None else (role or "")


def runs(names: Sequence[str]) -> list[Run]:
    """Return the runs of equal names in a sequence of block names."""
    starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    return [
        Run(start, stop, names[start])
        for start, stop in zip(starts, [*starts[1:], len(names)], strict=True)
    ]


def row_breaks(names: Sequence[str], most: int) -> list[tuple[int, int]]:
    """Return (start, stop) of rows of about equal length, at most ``most``.

    A break moves to the end of a block if one is near.
    """
    total = len(names)
    ends = [run.stop for run in runs(names)]
    rows = []
    start = 0
    while start < total:
        left = -(-(total - start) // most)  # remaining rows
        ideal = start + -(-(total - start) // left)
        reach = REACH * (ideal - start)
        near = [end for end in ends if abs(end - ideal) <= reach and end - start <= most]
        stop = min(near, key=lambda end: abs(end - ideal), default=ideal)
        if total - stop > (left - 1) * most:  # an early break must not add a row
            stop = ideal
        rows.append((start, stop))
        start = stop
    return rows


def short_labels(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return each path without the leading parts that all paths of its block share."""
    labels = list(paths)
    for run in runs(names):
        parts = [path.split(".") for path in paths[run.start : run.stop]]
        shared = 0
        while len(parts) > 1 and len({tuple(part[: shared + 1]) for part in parts}) == 1:
            shared += 1
        for i, part in enumerate(parts):
            rest = part[shared:]
            while len(".".join(rest)) > LONGEST_LABEL and len(rest) > 1:
                rest = rest[1:]
            labels[run.start + i] = ".".join(rest)
    return labels
