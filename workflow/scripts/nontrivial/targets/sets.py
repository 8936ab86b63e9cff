"""Target sets: which kernels of a network are zeroed together, and which job predicts them.

A new set is a function that returns its targets, and a line in
:func:`nontrivial.targets.enumeration.enumerate_targets`. Its place there decides the order of its
targets; its ``batch`` decides which job of ``batch_by: set`` predicts them.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel
from nontrivial.targets.adjacency import interior

_SUGGESTIONS = 3  # near matches in an error message
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Member:
    """One target of a set.

    Attributes:
        name: name of the target.
        kind: ``baseline``, ``layer``, ``block``, ``shortcut`` or ``set``.
        kernels: the kernels that are zeroed together, in forward order.
        batch: name of the batch that its set is predicted in.
        reading: the reading of "adjacent" that a block target follows; else None.
    """

    name: str
    kind: str
    kernels: tuple[Kernel, ...]
    batch: str
    reading: str | None = None


def baseline() -> list[Member]:
    """Return the baseline, which zeroes nothing."""
    return [Member("baseline", "baseline", (), "baseline")]


def layers(kernels: Iterable[Kernel]) -> list[Member]:
    """Return each kernel alone."""
    return [Member(f"layer-{kernel.path}", "layer", (kernel,), "layers") for kernel in kernels]


def blocks(kernels: Sequence[Kernel], reading: str) -> list[Member]:
    """Return the interior of each block. A block whose interior is empty has no target."""
    numbers = sorted({kernel.block for kernel in kernels if kernel.block is not None})
    return [
        Member(f"block-{number}-{reading}", "block", tuple(zeroed), f"blocks-{reading}", reading)
        for number in numbers
        if (zeroed := interior(reading, [kernel for kernel in kernels if kernel.block == number]))
    ]


def shortcuts(kernels: Iterable[Kernel]) -> list[Member]:
    """Return each shortcut kernel alone, named by its block."""
    found = [kernel for kernel in kernels if kernel.role == "shortcut"]
    in_blocks = [kernel.block for kernel in found]
    members = []
    for kernel in found:
        # Module paths distinguish several shortcuts in one block (no ResNet has them).
        is_only = in_blocks.count(kernel.block) == 1
        name = f"shortcut-{kernel.block}" if is_only else f"shortcut-{kernel.block}-{kernel.path}"
        members.append(Member(name, "shortcut", (kernel,), "shortcuts"))
    return members


def named_set(kernels: Sequence[Kernel], name: str, patterns: Iterable[str]) -> list[Member]:
    """Return the one target of a named set: the kernels that match its paths or globs.

    Raises:
        UserError: there is no pattern, or a pattern matches no kernel.
    """
    return [Member(f"set-{name}", "set", _select(kernels, patterns, name), f"set-{name}")]


def _select(kernels: Sequence[Kernel], patterns: Iterable[str], name: str) -> tuple[Kernel, ...]:
    chosen = set()
    for pattern in patterns:
        # Module paths hold no glob characters, so a path matches itself alone.
        matches = [kernel.path for kernel in kernels if fnmatchcase(kernel.path, pattern)]
        if not matches:
            raise UserError(_no_match(name, pattern, [kernel.path for kernel in kernels]))
        chosen.update(matches)
    if not chosen:
        raise UserError(f"named set {name!r} is empty. List module paths or globs.")
    return tuple(kernel for kernel in kernels if kernel.path in chosen)


def _no_match(name: str, pattern: str, paths: list[str]) -> str:
    what = "glob" if _GLOB_CHARACTERS & set(pattern) else "module path"
    if any(path.startswith(f"{pattern}.") for path in paths):
        return (
            f"named set {name!r}: {pattern} is not a kernel but contains kernels."
            f" Write {pattern}.* for all of them."
        )
    near = difflib.get_close_matches(pattern, paths, n=_SUGGESTIONS, cutoff=0.0)
    return (
        f"named set {name!r}: the {what} {pattern!r} matches no kernel of the network."
        f" Similar paths: {', '.join(near)}."
    )
