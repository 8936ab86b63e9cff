"""Readings of "adjacent": which kernels of a block stay when its interior is zeroed.

The paper keeps the feature decomposition layer of a block and the layers adjacent to it, but does
not define "adjacent". Each reading here is one definition.
"""

from collections.abc import Callable, Sequence

from nontrivial.networks.kernel_table import Kernel

_PLAIN_UNIT = 2  # kernels of a residual unit beside its shortcut; a bottleneck has more


def interior(reading: str, block: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels of a block that a reading zeroes, in forward order.

    Decomposition and shortcut kernels are never among them. A reading may leave none.

    Args:
        reading: one of :data:`READINGS`.
        block: all kernels of one layer block, in forward order.
    """
    return _INTERIORS[reading](block)


def _none(block: Sequence[Kernel]) -> list[Kernel]:
    """Keep no kernel beside the decomposition and shortcut kernels."""
    return [kernel for kernel in block if kernel.role not in ("decomposition", "shortcut")]


def _first_unit(block: Sequence[Kernel]) -> list[Kernel]:
    """Keep the first residual unit, and a lone decomposition kernel before it."""
    units = _units(block)
    roles = [{k.role for k in block if k.unit == unit} for unit in units]
    is_lone = roles[0] == {"decomposition"} and "adjacent" in set().union(*roles[1:2])
    kept = units[: 2 if is_lone else 1]
    return [kernel for kernel in _none(block) if kernel.unit not in kept]


def _next(block: Sequence[Kernel]) -> list[Kernel]:
    """Keep the decomposition kernel and the next kernel; in a block of bottlenecks, whole units.

    Block 1 of ResNet18 and ResNet34 has no decomposition kernel: the stem takes that role, and the
    first kernel (or unit) of the block is next to it.
    """
    zeroed = _none(block)
    if not _has_bottlenecks(block):
        return zeroed[1:]
    units = _units(block)
    has_decomposition = any(kernel.role == "decomposition" for kernel in block)
    kept = units[:2] if has_decomposition else units[:1]
    return [kernel for kernel in zeroed if kernel.unit not in kept]


def _both_sides(block: Sequence[Kernel]) -> list[Kernel]:
    """Keep what ``next`` keeps, and the last kernel (or unit), before the next decomposition."""
    zeroed = _next(block)
    if not _has_bottlenecks(block):
        last = max(kernel.order for kernel in _none(block) or block)
        return [kernel for kernel in zeroed if kernel.order != last]
    return [kernel for kernel in zeroed if kernel.unit != _units(block)[-1]]


def _units(block: Sequence[Kernel]) -> list[int]:
    return sorted({kernel.unit for kernel in block if kernel.unit is not None})


def _has_bottlenecks(block: Sequence[Kernel]) -> bool:
    units = [kernel.unit for kernel in block if kernel.role != "shortcut"]
    return any(units.count(unit) > _PLAIN_UNIT for unit in units)


_INTERIORS: dict[str, Callable[[Sequence[Kernel]], list[Kernel]]] = {
    "first-unit": _first_unit,
    "next": _next,
    "both-sides": _both_sides,
    "none": _none,
}
READINGS = tuple(_INTERIORS)  # in canonical order
