"""Block, unit and role of every convolution: how a network reads in the paper's terms.

A residual network is read from torchvision's module names (``layer<block>.<unit>.``, below
any prefix), which the libraries built on it share. Any other network is read as a plain
one: a block is a run of layers with the same number of output channels, each layer a unit.
That is a first draft; the user may edit block, unit and role in the table.
"""

import re
from dataclasses import dataclass

from torch.nn.modules.conv import _ConvNd

from nontrivial.networks.convolutions import structure
from nontrivial.networks.kernel_table import Kernel

_IN_UNIT = re.compile(r"(?:.*\.)?layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")
_SHORTCUT_NAMES = ("downsample", "shortcut")  # torchvision's, and the other common one


@dataclass(frozen=True)
class _Place:
    block: int
    unit: int


def describe(order: dict[str, _ConvNd]) -> list[Kernel]:
    """Return the kernel table of a network.

    Args:
        order: its convolutions by module path, in forward order.
    """
    places = {path: _residual_place(path) for path in order}
    if any(places.values()):
        return _residual(order, places)
    return _plain(order)


def _residual_place(path: str) -> _Place | None:
    match = _IN_UNIT.fullmatch(path)
    return _Place(int(match["block"]), int(match["unit"])) if match else None


def _is_shortcut(path: str) -> bool:
    return any(name in path for name in _SHORTCUT_NAMES)


def _kernel(position: int, path: str, module: _ConvNd, place: _Place | None, role: str) -> Kernel:
    return Kernel(
        order=position,
        path=path,
        block=place.block if place else None,
        unit=place.unit if place else None,
        role=role,
        **structure(module),
    )


def _residual(order: dict[str, _ConvNd], places: dict[str, _Place | None]) -> list[Kernel]:
    branches: dict[_Place, list[str]] = {}  # the kernels of each unit, shortcut left out
    for path, place in places.items():
        if place and not _is_shortcut(path):
            branches.setdefault(place, []).append(path)
    # The first kernel of a unit whose output has another channel count than its input.
    decomposition = {
        paths[0]
        for paths in branches.values()
        if order[paths[0]].in_channels != order[paths[-1]].out_channels
    }
    kernels = []
    entered = False
    for position, (path, module) in enumerate(order.items()):
        place = places[path]
        entered = entered or place is not None
        if place is None:
            role = "head" if entered else "stem"
        elif _is_shortcut(path):
            role = "shortcut"
        elif path in decomposition:
            role = "decomposition"
        else:
            role = "adjacent" if place.unit == 0 else "residual"
        kernels.append(_kernel(position, path, module, place, role))
    return kernels


def _plain(order: dict[str, _ConvNd]) -> list[Kernel]:
    kernels: list[Kernel] = []
    width = None  # output channels of the current run
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
        kernels.append(_kernel(position, path, module, _Place(block, unit), role))
        if not shortcut:
            width = module.out_channels
            unit += 1
    return kernels
