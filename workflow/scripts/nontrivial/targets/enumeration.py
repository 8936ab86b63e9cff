"""Zeroing targets: the named sets of kernels that an experiment zeroes together.

Standard library only: the Snakefile enumerates targets from a kernel table, without torch.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel

SETS = ("baseline", "layer", "block", "shortcut")
READINGS = ("first-unit", "next", "both-sides", "none")
BATCH_BY = ("block", "target", "network")

BASELINE = "baseline"
WHOLE_NETWORK = "all"  # the one batch of batch_by: network
_NEAR_MATCHES = 3  # suggestions in an error message
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Target:
    """A named set of kernels that are zeroed together.

    Attributes:
        name: ``baseline``, ``layer-<path>``, ``block-<n>-<reading>``, ``shortcut-<n>`` or
            ``set-<name>``.
        kind: ``baseline``, ``layer``, ``block``, ``shortcut`` or ``set``.
        reading: which reading of "adjacent" a block target follows; else None.
        kernels: module paths, in forward order.
        order: position of its first kernel in the forward pass; None for the baseline.
        role: role of its kernel, where it has only one; else None.
        block: the layer block that all its kernels stand in; else None.
        stored_as: name of the first target in canonical order with the same kernels.
        batch: name of the predictions file that holds ``stored_as``.
    """

    name: str
    kind: str
    reading: str | None
    kernels: tuple[str, ...]
    order: int | None
    role: str | None
    block: int | None
    stored_as: str
    batch: str


@dataclass(frozen=True)
class _Draft:
    name: str
    kind: str
    reading: str | None
    kernels: tuple[Kernel, ...]
    batch: str  # under batch_by: block


def enumerate_targets(
    kernels: list[Kernel],
    sets: list[str],
    readings: list[str],
    named_sets: dict[str, list[str]],
    batch_by: str,
) -> list[Target]:
    """Return every target of an experiment, in canonical order.

    The order does not depend on the order in the configuration: baseline, layers in forward
    order, blocks by reading, shortcuts, named sets by name. A target with the kernels of an
    earlier one is an alias of it (``stored_as``) and is computed with it, once.

    A batch's content depends on its own targets and on the earlier ones that they equal. So a
    new named set changes no batch of layers, blocks or shortcuts, and a new reading none of
    an earlier reading; a later reading (or named set) with equal kernels becomes an alias.

    Block targets that would zero nothing (a block with no more kernels than its reading
    keeps) are left out.

    Args:
        kernels: the network's table, in forward order.
        sets: which of :data:`SETS`; the baseline is always included.
        readings: which of :data:`READINGS`, for the block targets.
        named_sets: module paths or globs (``*`` also matches dots) by name.
        batch_by: one of :data:`BATCH_BY`.

    Raises:
        UserError: an unknown set, reading or batching, a named set that is empty, a path that
            is no kernel of the network, or a glob that matches none.
    """
    _require("sets", sets, SETS)
    _require("readings", readings, READINGS)
    _require("batch_by", [batch_by], BATCH_BY)
    drafts = [_Draft(BASELINE, "baseline", None, (), BASELINE)]
    if "layer" in sets:
        drafts += _layers(kernels)
    if "block" in sets:
        drafts += [
            draft
            for reading in READINGS
            if reading in readings
            for draft in _blocks(kernels, reading)
        ]
    if "shortcut" in sets:
        drafts += _shortcuts(kernels)
    drafts += [
        _Draft(f"set-{name}", "set", None, select(kernels, named_sets[name], name), f"set-{name}")
        for name in sorted(named_sets)
    ]
    return _resolve(drafts, batch_by)


def select(kernels: list[Kernel], patterns: Iterable[str], name: str) -> tuple[Kernel, ...]:
    """Return the kernels that paths or globs name, each once, in forward order.

    Raises:
        UserError: a pattern matches no kernel, or there is no pattern; ``name`` is the set's.
    """
    patterns = list(patterns)
    if not patterns:
        raise UserError(f"named set {name!r} is empty; list module paths or globs")
    chosen = set()
    for pattern in patterns:
        # A module path has no glob characters, so both mean the same for exact paths.
        matches = [kernel.path for kernel in kernels if fnmatchcase(kernel.path, pattern)]
        if not matches:
            raise UserError(_no_match(name, pattern, [kernel.path for kernel in kernels]))
        chosen.update(matches)
    return tuple(kernel for kernel in kernels if kernel.path in chosen)


def _no_match(name: str, pattern: str, paths: list[str]) -> str:
    what = "glob" if _GLOB_CHARACTERS & set(pattern) else "module path"
    if any(path.startswith(f"{pattern}.") for path in paths):
        return (
            f"named set {name!r}: {pattern} is no kernel but holds some;"
            f" write {pattern}.* for all of them"
        )
    near = difflib.get_close_matches(pattern, paths, n=_NEAR_MATCHES, cutoff=0.0)
    return (
        f"named set {name!r}: the {what} {pattern!r} matches no kernel of the network;"
        f" near are {', '.join(near)}"
    )


def _require(key: str, values: Iterable[str], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise UserError(f"{key}: {value!r} is not one of {', '.join(allowed)}")


def _layers(kernels: list[Kernel]) -> list[_Draft]:
    return [
        _Draft(
            f"layer-{kernel.path}",
            "layer",
            None,
            (kernel,),
            f"layers-{kernel.role if kernel.block is None else kernel.block}",
        )
        for kernel in kernels
    ]


def _blocks(kernels: list[Kernel], reading: str) -> list[_Draft]:
    drafts = []
    for number in sorted({kernel.block for kernel in kernels if kernel.block is not None}):
        zeroed = _ZEROED[reading]([kernel for kernel in kernels if kernel.block == number])
        if zeroed:
            name = f"block-{number}-{reading}"
            drafts.append(_Draft(name, "block", reading, tuple(zeroed), f"blocks-{reading}"))
    return drafts


def _shortcuts(kernels: list[Kernel]) -> list[_Draft]:
    shortcuts = [kernel for kernel in kernels if kernel.role == "shortcut"]
    blocks = [kernel.block for kernel in shortcuts]
    drafts = []
    for kernel in shortcuts:
        # Several in one block (no ResNet has them) are told apart by their module path.
        alone = blocks.count(kernel.block) == 1
        name = f"shortcut-{kernel.block}" if alone else f"shortcut-{kernel.block}-{kernel.path}"
        drafts.append(_Draft(name, "shortcut", None, (kernel,), "shortcuts"))
    return drafts


def _interior(block: list[Kernel]) -> list[Kernel]:
    """Return what may be zeroed in a block: all but its decomposition and shortcut kernels."""
    return [kernel for kernel in block if kernel.role not in ("decomposition", "shortcut")]


def _without_first_unit(block: list[Kernel]) -> list[Kernel]:
    first = min(kernel.unit for kernel in block)
    return [kernel for kernel in _interior(block) if kernel.unit != first]


def _without_next(block: list[Kernel]) -> list[Kernel]:
    """Keep the decomposition kernel and the next; units of them in a block of bottlenecks.

    Where the block has no decomposition kernel of its own the stem is the one (block 1 of
    ResNet18 and 34), and the first kernel (or unit) of the block is next to it.
    """
    interior = _interior(block)
    if not _bottlenecks(block):
        return interior[1:]
    units = sorted({kernel.unit for kernel in block})
    own = any(kernel.role == "decomposition" for kernel in block)
    kept = units[:2] if own else units[:1]
    return [kernel for kernel in interior if kernel.unit not in kept]


def _without_both_sides(block: list[Kernel]) -> list[Kernel]:
    zeroed = _without_next(block)
    if not _bottlenecks(block):
        last = max(kernel.order for kernel in _interior(block) or block)
        return [kernel for kernel in zeroed if kernel.order != last]
    last = max(kernel.unit for kernel in block)
    return [kernel for kernel in zeroed if kernel.unit != last]


def _bottlenecks(block: list[Kernel]) -> bool:
    """Return whether a unit of the block has more than two kernels beside its shortcut."""
    units = [kernel.unit for kernel in block if kernel.role != "shortcut"]
    return any(units.count(unit) > 2 for unit in units)


_ZEROED: dict[str, Callable[[list[Kernel]], list[Kernel]]] = {
    "first-unit": _without_first_unit,
    "next": _without_next,
    "both-sides": _without_both_sides,
    "none": _interior,
}


def _resolve(drafts: list[_Draft], batch_by: str) -> list[Target]:
    first: dict[tuple[str, ...], _Draft] = {}
    targets = []
    for draft in drafts:
        paths = tuple(kernel.path for kernel in draft.kernels)
        stored = first.setdefault(paths, draft)
        batch = {"block": stored.batch, "target": stored.name, "network": WHOLE_NETWORK}[batch_by]
        blocks = {kernel.block for kernel in draft.kernels}
        targets.append(
            Target(
                name=draft.name,
                kind=draft.kind,
                reading=draft.reading,
                kernels=paths,
                order=draft.kernels[0].order if draft.kernels else None,
                role=draft.kernels[0].role if len(draft.kernels) == 1 else None,
                block=blocks.pop() if len(blocks) == 1 else None,
                stored_as=stored.name,
                batch=batch,
            )
        )
    return targets
