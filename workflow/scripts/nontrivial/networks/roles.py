"""Block, unit and role of every convolution, in the terms of the paper.

In a residual network, blocks and units follow from torchvision's module names
(``layer<block>.<unit>.``, after any prefix), which libraries built on torchvision share. With
other names, they follow from the residual units of a forward pass, if every convolution between
the first and the last unit is in one: a block is then a run of units with the same width. Any
other network is taken for a plain one: a block is a run of layers with the same number of output
channels, and each layer is a unit. Users may correct block, unit and role in the table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import structure
from nontrivial.networks.kernel_table import Kernel
from nontrivial.networks.residual_units import ResidualUnit, named_shortcut

_IN_UNIT = re.compile(r"(?:.*\.)?layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")


@dataclass(frozen=True)
class _Place:
    """A residual unit, by the numbers of its block and in its block."""

    block: int
    unit: int


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
            places = _by_structure(order, units)
    if places:
        return _residual(order, places, shortcuts, units or [])
    return _plain(order, shortcuts if units else frozenset())


def _by_name(order: dict[str, _ConvNd]) -> tuple[dict[str, _Place], frozenset[str]]:
    """Return the place of every kernel in a unit, and the shortcuts among them."""
    matches = {path: match for path in order if (match := _IN_UNIT.fullmatch(path))}
    places = {path: _Place(int(m["block"]), int(m["unit"])) for path, m in matches.items()}
    return places, frozenset(path for path, m in matches.items() if named_shortcut(m["rest"]))


def _by_structure(order: dict[str, _ConvNd], units: Sequence[ResidualUnit]) -> dict[str, _Place]:
    """Return the place of every kernel in a unit; none if kernels lie between units."""
    innermost = {
        path: unit
        for unit in units
        if not any(_contains(unit, other) for other in units)
        for path in unit.branch | unit.shortcut
    }
    inside = [path in innermost for path in order]
    if not all(inside[inside.index(True) : len(inside) - inside[::-1].index(True)]):
        return {}
    places: dict[str, _Place] = {}
    previous: ResidualUnit | None = None
    place = _Place(0, 0)
    for path in order:
        unit = innermost.get(path)
        if unit is None:
            continue
        if unit is not previous:
            starts = previous is None or unit.widths[0] != unit.widths[1]
            place = _Place(place.block + 1, 0) if starts else _Place(place.block, place.unit + 1)
            previous = unit
        places[path] = place
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
    return order[branch[0]].in_channels, order[branch[-1]].out_channels


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
        else:
            role = "adjacent" if found.unit == 0 or found in decomposition else "residual"
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
