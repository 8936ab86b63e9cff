"""Lay a network's kernels out in rows for a figure: where rows break, what labels say."""

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_LABEL = 20  # characters; leading parts of a longer path are left out
REACH = 0.25  # how far, as a share of a row, a break may move to meet a block's end


@dataclass(frozen=True)
class Run:
    """Neighbouring kernels of one block: ``start`` to ``stop`` (exclusive), and its name."""

    start: int
    stop: int
    name: str


def block_name(block: int | None, role: str | None) -> str:
    """Return ``block 2``, or the role where there is no block (stem, head)."""
    return f"block {block}" if block is not None else (role or "")


def runs(names: Sequence[str]) -> list[Run]:
    """Cut a sequence of block names where the name changes."""
    starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    return [
        Run(start, stop, names[start])
        for start, stop in zip(starts, [*starts[1:], len(names)], strict=True)
    ]


def row_breaks(names: Sequence[str], most: int) -> list[tuple[int, int]]:
    """Cut a sequence into rows of at most ``most``, at a block's end where one is near.

    Returns:
        (start, stop) of every row, about equally long.
    """
    total = len(names)
    ends = [run.stop for run in runs(names)]
    rows = []
    start = 0
    while start < total:
        left = -(-(total - start) // most)  # rows still needed
        ideal = start + -(-(total - start) // left)
        reach = REACH * (ideal - start)
        near = [end for end in ends if abs(end - ideal) <= reach and end - start <= most]
        stop = min(near, key=lambda end: abs(end - ideal), default=ideal)
        if total - stop > (left - 1) * most:  # an early break must not cost another row
            stop = ideal
        rows.append((start, stop))
        start = stop
    return rows


def short_labels(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return each path without what all paths of its block begin with."""
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
