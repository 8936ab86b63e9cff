"""Enumerate the zeroing targets of an experiment, and group them into batches for prediction.

Standard library only: the Snakefile enumerates targets from a kernel table, without torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel
from nontrivial.targets.adjacency import READINGS
from nontrivial.targets.sets import Member, baseline, blocks, layers, named_set, shortcuts

SETS = ("baseline", "layer", "block", "shortcut")
BATCH_BY = ("set", "target")
BASELINE = "baseline"


@dataclass(frozen=True)
class Target:
    """A named set of kernels that are zeroed together.

    Attributes:
        name: ``baseline``, ``layer-<path>``, ``block-<n>-<reading>``, ``shortcut-<n>`` or
            ``set-<name>``.
        kind: ``baseline``, ``layer``, ``block``, ``shortcut`` or ``set``.
        reading: the reading of "adjacent" that a block target follows; else None.
        kernels: module paths, in forward order.
        order: position of its first kernel in the forward pass; None for the baseline.
        role: role of its kernel, if it has one kernel; else None.
        block: the layer block that contains all its kernels; else None.
        stored_as: name of the first target in canonical order with the same kernels.
        batch: name of the batch that ``stored_as`` is predicted in.
        own_batch: name of the batch of its own set.
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
    own_batch: str


def enumerate_targets(
    kernels: list[Kernel],
    sets: list[str],
    readings: list[str],
    named_sets: dict[str, list[str]],
    batch_by: str,
) -> list[Target]:
    """Return every target of an experiment, in canonical order.

    The order of the configuration does not matter. Canonical order is the baseline, layers in
    forward order, blocks by reading, shortcuts, named sets by name. A target with the kernels of
    an earlier one is its alias: its results come from the predictions of that one.

    Args:
        kernels: the network's table, in forward order.
        sets: which of :data:`SETS`; the baseline is always included.
        readings: which of :data:`~nontrivial.targets.adjacency.READINGS`, for the block targets.
        named_sets: module paths or globs (``*`` also matches dots) by name.
        batch_by: one of :data:`BATCH_BY`. With ``set``, the baseline, the layers, the blocks of
            each reading, the shortcuts and each named set are a batch. With ``target``, each target
            is a batch.

    Raises:
        UserError: a set, reading or ``batch_by`` is unknown, a named set is empty, or one of its
            paths or globs matches no kernel.
    """
    _require("sets", sets, SETS)
    _require("readings", readings, READINGS)
    _require("batch_by", [batch_by], BATCH_BY)
    members = baseline()
    if "layer" in sets:
        members += layers(kernels)
    if "block" in sets:
        for reading in READINGS:
            if reading in readings:
                members += blocks(kernels, reading)
    if "shortcut" in sets:
        members += shortcuts(kernels)
    for name in sorted(named_sets):
        members += named_set(kernels, name, named_sets[name])
    return _targets(members, batch_by)


def batches(targets: Iterable[Target]) -> dict[str, list[Target]]:
    """Return the targets that each predict job computes, by name of the batch.

    A batch holds each kernel set once. Its content depends on its own set alone: it includes
    aliases of targets in other batches, so that adding or removing their sets leaves it up to date.
    A batch of aliases alone is left out. So shortcuts, which are layers too, are predicted with the
    layers where there are any.
    """
    members: dict[str, dict[tuple[str, ...], Target]] = {}
    needed = set()
    for target in targets:
        members.setdefault(target.own_batch, {}).setdefault(target.kernels, target)
        needed.add(target.batch)
    return {batch: list(members[batch].values()) for batch in members if batch in needed}


def _require(key: str, values: Iterable[str], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise UserError(f"{key}: {value!r} is not one of {', '.join(allowed)}")


def _targets(members: Iterable[Member], batch_by: str) -> list[Target]:
    first: dict[tuple[str, ...], Target] = {}
    targets = []
    for member in members:
        paths = tuple(kernel.path for kernel in member.kernels)
        original = first.get(paths)
        stored_as = original.name if original else member.name
        own_batch = stored_as if batch_by == "target" else member.batch
        numbers = {kernel.block for kernel in member.kernels}
        target = Target(
            name=member.name,
            kind=member.kind,
            reading=member.reading,
            kernels=paths,
            order=member.kernels[0].order if member.kernels else None,
            role=member.kernels[0].role if len(member.kernels) == 1 else None,
            block=numbers.pop() if len(numbers) == 1 else None,
            stored_as=stored_as,
            batch=original.batch if original else own_batch,
            own_batch=own_batch,
        )
        first.setdefault(paths, target)
        targets.append(target)
    return targets
