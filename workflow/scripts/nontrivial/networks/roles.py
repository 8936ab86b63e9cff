"""Block, unit and role of every convolution, in the terms of the paper.

In a residual network they follow from torchvision's module names (``layer<block>.<unit>.``,
after any prefix), which libraries built on torchvision share. Any other network is taken for a
plain one: a block is a run of layers with the same number of output channels, and each layer is
a unit. Users may correct block, unit and role in the table.
"""

import re
from dataclasses import dataclass

from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import structure
from nontrivial.networks.kernel_table import Kernel

_IN_UNIT = re.compile(r"(?:.*\.)?layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")
_SHORTCUT_NAMES = ("downsample", "shortcut")  # torchvision's name and the other common one


@dataclass(frozen=True)
class _Unit:
    """A residual unit, by the numbers of its block and in its block."""

    block: int
    number: int


def describe(order: dict[str, _ConvNd]) -> list[Kernel]:
    """Return the kernel table of a network.

    Args:
        order: convolutions by module path, in forward order.
    """
    units = {path: _unit_of(path) for path in order}
    if any(units.values()):
        return _residual(order, units)
    return _plain(order)


def _unit_of(path: str) -> _Unit | None:
    match = _IN_UNIT.fullmatch(path)
    return _Unit(int(match["block"]), int(match["unit"])) if match else None


def _is_shortcut(path: str) -> bool:
    return any(name in path for name in _SHORTCUT_NAMES)


def _kernel(position: int, path: str, module: _ConvNd, unit: _Unit | None, role: str) -> Kernel:
    return Kernel(
        order=position,
        path=path,
        block=unit.block if unit else None,
        unit=unit.number if unit else None,
        role=role,
        **structure(module),
    )


def _residual(order: dict[str, _ConvNd], units: dict[str, _Unit | None]) -> list[Kernel]:
    branches: dict[_Unit, list[str]] = {}  # the kernels of each unit without its shortcut
    for path, unit in units.items():
        if unit and not _is_shortcut(path):
            branches.setdefault(unit, []).append(path)
    # The first kernel of each unit that changes the number of channels.
    decomposition = {
        paths[0]
        for paths in branches.values()
        if order[paths[0]].in_channels != order[paths[-1]].out_channels
    }
    kernels = []
    entered = False
    for position, (path, module) in enumerate(order.items()):
        unit = units[path]
        entered = entered or unit is not None
        if unit is None:
            role = "head" if entered else "stem"
        elif _is_shortcut(path):
            role = "shortcut"
        elif path in decomposition:
            role = "decomposition"
        else:
            role = "adjacent" if unit.number == 0 else "residual"
        kernels.append(_kernel(position, path, module, unit, role))
    return kernels


def _plain(order: dict[str, _ConvNd]) -> list[Kernel]:
    kernels: list[Kernel] = []
    width: int | None = None  # output channels of the current run
    block, unit = 0, 0
    for position, (path, module) in enumerate(order.items()):
        if width is None:
            width = module.out_channels
            kernels.append(_kernel(position, path, module, None, "stem"))
            continue
        shortcut = _is_shortcut(path)
        changes = module.out_channels != width and not shortcut
        if changes or block == 0:
            block, unit = block + 1, 0
        role = "shortcut" if shortcut else "decomposition" if changes else "residual"
        kernels.append(_kernel(position, path, module, _Unit(block, unit), role))
        if not shortcut:
            width = module.out_channels
            unit += 1
    return kernels
