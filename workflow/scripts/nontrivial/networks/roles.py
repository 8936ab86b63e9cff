"""Block, unit and role of every convolution, in the terms of the paper.

In a residual network, blocks and units follow from torchvision's module names
(``layer<block>.<unit>.``, after any prefix), which libraries built on torchvision share. With
other names, they follow from the residual units of a forward pass: a block is then a run of units
with the same width. Kernels between two residual units, without a shortcut around them, are
together a unit: with a decomposition kernel if they change the width, else ``plain``. The residual
unit that follows a lone decomposition kernel is adjacent to it. Kernels before the first residual
unit are the stem, those after the last one the head. A network without residual units is a plain
one: a block is a run of layers with the same number of output channels, and each layer is a unit.
Users may correct block, unit and role in the table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import structure
from nontrivial.networks.kernel_table import Kernel
from nontrivial.networks.residual_units import ResidualUnit, named_shortcut

_IN_UNIT = re.compile(r"(?:.*\.)?layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")


@dataclass(frozen=True)
class _Place:
    """A unit, by the numbers of its block and in its block, and whether it is a residual one."""

    block: int
    unit: int
    is_residual: bool = True


def describe(
    order: dict[str, _ConvNd], units: Sequence[ResidualUnit] | None = None
) -> list[Kernel]:
    """Return the kernel table of a network.

    Args:
        order: convolutions by module path, in forward order.
        units: its residual units, from :func:`nontrivial.networks.residual_units.residual_units`.
            None if they are not known; then module names alone tell units and shortcuts.
    """
    places, shortcuts = _by_name(order)
    if units is not None:
        shortcuts = frozenset().union(*(unit.shortcut for unit in units))
        if not units:
            places = {}  # names of a residual network, but nothing is added
        elif not places:
            places = _by_structure(order, units, shortcuts)
    if places:
        return _residual(order, places, shortcuts, units or [])
    return _plain(order, shortcuts if units else frozenset())


def _by_name(order: dict[str, _ConvNd]) -> tuple[dict[str, _Place], frozenset[str]]:
    """Return the place of every kernel in a unit, and the shortcuts among them."""
    matches = {path: match for path in order if (match := _IN_UNIT.fullmatch(path))}
    places = {path: _Place(int(m["block"]), int(m["unit"])) for path, m in matches.items()}
    return places, frozenset(path for path, m in matches.items() if named_shortcut(m["rest"]))


def _by_structure(
    order: dict[str, _ConvNd], units: Sequence[ResidualUnit], shortcuts: frozenset[str]
) -> dict[str, _Place]:
    """Return the place of every kernel from the first residual unit to the last."""
    innermost = {
        path: unit
        for unit in units
        if not any(_contains(unit, other) for other in units)
        for path in unit.branch | unit.shortcut
    }
    runs = [(unit, list(paths)) for unit, paths in groupby(order, innermost.get)]
    inside = [unit is not None for unit, _ in runs]
    places: dict[str, _Place] = {}
    block, number = 0, 0
    for unit, paths in runs[inside.index(True) : len(inside) - inside[::-1].index(True)]:
        if unit is None:
            branch = [path for path in paths if path not in shortcuts]
            before, after = _ends(branch, order) if branch else (0, 0)
        else:
            before, after = unit.widths
        if block == 0 or before != after:
            block, number = block + 1, 0
        places |= dict.fromkeys(paths, _Place(block, number, unit is not None))
        number += 1
    return places


def _contains(unit: ResidualUnit, other: ResidualUnit) -> bool:
    return other is not unit and other.branch < unit.branch


def _widths(
    branch: Sequence[str], order: dict[str, _ConvNd], units: Sequence[ResidualUnit]
) -> tuple[int, int]:
    """Return the number of channels that enter and leave a branch.

    Its first and last kernel tell them, unless the unit is known: a kernel of its attention may
    be the last.
    """
    known = [unit for unit in units if unit.branch <= set(branch)]
    if known:
        return max(known, key=lambda unit: len(unit.branch)).widths
    return _ends(branch, order)


def _ends(paths: Sequence[str], order: dict[str, _ConvNd]) -> tuple[int, int]:
    return order[paths[0]].in_channels, order[paths[-1]].out_channels


def _kernel(position: int, path: str, module: _ConvNd, place: _Place | None, role: str) -> Kernel:
    return Kernel(
        order=position,
        path=path,
        block=place.block if place else None,
        unit=place.unit if place else None,
        role=role,
        **structure(module),
    )


def _residual(
    order: dict[str, _ConvNd],
    places: dict[str, _Place],
    shortcuts: frozenset[str],
    units: Sequence[ResidualUnit],
) -> list[Kernel]:
    branches: dict[_Place, list[str]] = {}  # the kernels of each unit without its shortcut
    for path, place in places.items():
        if path not in shortcuts:
            branches.setdefault(place, []).append(path)
    decomposition: dict[_Place, str] = {}  # of each unit that changes the number of channels
    for place, paths in branches.items():
        before, after = _widths(paths, order, units)
        wide = [path for path in paths if order[path].out_channels == after]
        if before != after and wide:
            decomposition[place] = wide[0]
    lone = {
        (place.block, place.unit)
        for place in decomposition
        if not place.is_residual and len(branches[place]) == 1
    }
    kernels = []
    entered = False
    for position, (path, module) in enumerate(order.items()):
        found = places.get(path)
        entered = entered or found is not None
        if path in shortcuts and found is not None:
            role = "shortcut"
        elif found is None:
            role = "head" if entered else "stem"
        elif path == decomposition.get(found):
            role = "decomposition"
        elif found not in decomposition and not found.is_residual:
            role = "plain"
        else:
            is_next = found.unit == 0 or (found.block, found.unit - 1) in lone
            role = "adjacent" if is_next or found in decomposition else "residual"
        kernels.append(_kernel(position, path, module, found, role))
    return kernels


def _plain(order: dict[str, _ConvNd], shortcuts: frozenset[str]) -> list[Kernel]:
    kernels: list[Kernel] = []
    width: int | None = None  # output channels of the current run
    block, unit = 0, 0
    for position, (path, module) in enumerate(order.items()):
        if width is None:
            width = module.out_channels
            kernels.append(_kernel(position, path, module, None, "stem"))
            continue
        shortcut = path in shortcuts
        changes = module.out_channels != width and not shortcut
        if changes or block == 0:
            block, unit = block + 1, 0
        role = "shortcut" if shortcut else "decomposition" if changes else "plain"
        kernels.append(_kernel(position, path, module, _Place(block, unit), role))
        if not shortcut:
            width = module.out_channels
            unit += 1
    return kernels
