"""Residual units of a network, found in one forward pass, whatever its modules are called.

A unit is a module whose output is a sum of paths from its one input that share no convolution.
The shorter of two paths goes around the unit: its convolutions are the shortcut, those of the
other path the branch.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nontrivial.networks.convolutions import convolutions, forward_calls

SHORTCUT_NAMES = ("downsample", "shortcut")  # torchvision's name and the other common one
_ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})


@dataclass(frozen=True)
class ResidualUnit:
    """One residual unit.

    Attributes:
        path: module path.
        branch: module paths of its convolutions but for the shortcut.
        shortcut: module paths of the convolutions around it; empty for an identity.
        widths: channels of its input and of its output.
    """

    path: str
    branch: frozenset[str]
    shortcut: frozenset[str]
    widths: tuple[int, int]


def residual_units(
    model: nn.Module, channels: int, size: tuple[int, int]
) -> list[ResidualUnit] | None:
    """Return the residual units of a network, in the order in which they end.

    Paths with equally many convolutions are told apart by :data:`SHORTCUT_NAMES`. All convolutions
    are the branch where nothing tells the paths apart, where the shorter one adds something
    itself or pools below the resolution of the output, and in a sum of more than two.

    Args:
        model: the network; it is not changed.
        channels: image channels of the forward pass.
        size: (height, width) of the image.

    Returns:
        None if some values of the forward pass are computed outside torch, as by NumPy.

    Raises:
        UserError: the network does not take images of that shape.
    """
    watch = _Watch(model)
    hooks = watch.hooks()
    try:
        with watch:
            forward_calls(model, channels, size)
    finally:
        for hook in hooks:
            hook.remove()
    return list(watch.units.values()) if watch.complete else None


@dataclass(frozen=True, eq=False)
class _Value:
    """A tensor of the forward pass: its place in the order, its shape, and what made it."""

    number: int
    parents: tuple["_Value", ...]
    shape: tuple[int, ...]
    convolution: str | None
    is_sum: bool


class _Watch(TorchFunctionMode):
    """Record how the tensors of a forward pass depend on each other."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.complete = True
        self.units: dict[_Value, ResidualUnit] = {}  # by the sum that ends it
        self._model = model
        self._known = {id(t) for t in (*model.parameters(), *model.buffers())}
        self._values: dict[int, _Value] = {}  # by id of the tensor
        self._alive: list[Tensor] = []  # so that no id is used twice

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        parents = self._parents((args, kwargs))
        # An assignment to a slice returns nothing; it changes its first argument.
        changed = args[:1] if result is None else result
        self._record(changed, parents, is_sum=getattr(func, "__name__", "") in _ADDITIONS)
        return result

    def hooks(self) -> list[Any]:
        """Register hooks that tell which module computes what; return their handles."""
        handles: list[Any] = []
        inner = convolutions(self._model)
        for path, module in inner.items():
            handles.append(module.register_forward_hook(self._on_convolution(path)))
        for path, module in self._model.named_modules():
            if module not in inner.values() and convolutions(module):
                entries: list[_Value | None] = []
                before, after = self._around(path, entries)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(module.register_forward_hook(after))
        return handles

    def _parents(self, values: object) -> tuple[_Value, ...]:
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        found: dict[_Value, None] = {}
        for tensor in tensors:
            value = self._values.get(id(tensor))
            if value is not None:
                found[value] = None
            elif id(tensor) not in self._known:
                self.complete = False
        return tuple(found)

    def _record(
        self,
        result: object,
        parents: tuple[_Value, ...],
        convolution: str | None = None,
        is_sum: bool = False,
    ) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                shape = tuple(tensor.shape)
                self._alive.append(tensor)
                number = len(self._alive)
                self._values[id(tensor)] = _Value(number, parents, shape, convolution, is_sum)

    def _on_convolution(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self._record(output, self._parents(inputs), convolution=path)

        return hook

    def _around(self, path: str, entries: list[_Value | None]) -> tuple[Callable, Callable]:
        """Return hooks before and after a module; ``entries`` holds the inputs of open calls."""

        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if module is self._model:
                self._record(tensors, ())
            entries.append(self._values.get(id(tensors[0])) if len(tensors) == 1 else None)

        def after(module: nn.Module, args: tuple, output: object) -> None:
            entry = entries.pop()
            end = self._values.get(id(output))
            if entry is None or end is None:
                return
            terms = _terms(end, entry)
            if not terms or terms[0] in self.units:
                return
            if unit := _unit(path, terms[1:], entry, end):
                self.units[terms[0]] = unit

        return before, after


def _terms(end: _Value, entry: _Value) -> list[_Value]:
    """Return the sum that a module ends with, before any activation or pooling, and its terms."""
    value = end
    while value is not entry and value.convolution is None:
        live = [parent for parent in value.parents if _leads_to(parent, entry)]
        if len(live) == 2 and value.is_sum:
            return [value, *_flat(value, entry)]
        if len(live) != 1:
            return []
        value = live[0]
    return []


def _flat(value: _Value, entry: _Value) -> list[_Value]:
    """Return the terms of a sum; a term that is a sum itself gives its own terms."""
    terms = []
    pending = [value]
    while pending:
        term = pending.pop()
        live = [parent for parent in term.parents if _leads_to(parent, entry)]
        if term is not entry and term.is_sum and len(live) > 1:
            pending.extend(live)
        else:
            terms.append(term)
    return terms


def _sides(terms: list[_Value], entry: _Value) -> list[frozenset[str]]:
    """Return the convolutions of each term; nothing unless the terms make a residual unit."""
    sides = []
    for term in terms:
        values = _between(term, entry)
        if any(value.number < entry.number for value in values):
            return []  # takes a value from outside of the module
        sides.append(frozenset(value.convolution for value in values if value.convolution))
        if sum(map(len, sides)) > len(_everything(sides)):
            return []  # a path runs through another: these are several units
    return sides if _everything(sides) else []


def _everything(sides: list[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sides)


def _unit(path: str, terms: list[_Value], entry: _Value, end: _Value) -> ResidualUnit | None:
    sides = _sides(terms, entry)
    if not sides:
        return None
    widths = (_channels(entry), _channels(end))
    if len(sides) == 2:
        (around, term), (branch, _) = sorted(
            zip(sides, terms, strict=True),
            key=lambda pair: (not _all_named(pair[0], path), len(pair[0])),
        )
        has_name = _all_named(around, path) and not _all_named(branch, path)
        is_shorter = has_name or len(around) < len(branch)
        if branch and is_shorter and _is_simple(term, entry, end):
            return ResidualUnit(path, branch, around, widths)
    return ResidualUnit(path, _everything(sides), frozenset(), widths)


def _channels(value: _Value) -> int:
    return value.shape[1] if len(value.shape) > 1 else 0


def _is_simple(term: _Value, entry: _Value, end: _Value) -> bool:
    """Tell whether a path adds nothing, and never falls below the resolution of the output."""
    return all(
        len(_flat(value, entry)) == 1
        and (
            len(value.shape) != len(end.shape)
            or all(map(operator.ge, value.shape[2:], end.shape[2:]))
        )
        for value in _between(term, entry)
    )


def _all_named(kernels: frozenset[str], path: str) -> bool:
    return all(named_shortcut(kernel[len(path) :]) for kernel in kernels)


def named_shortcut(path: str) -> bool:
    """Tell whether a module path, from its unit on, is called a shortcut."""
    return not set(path.split(".")).isdisjoint(SHORTCUT_NAMES)


def _between(value: _Value, entry: _Value) -> set[_Value]:
    """Return a value and all that it depends on, down to the entry, which is left out."""
    found: set[_Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current is not entry and current not in found:
            found.add(current)
            pending.extend(current.parents)
    return found


def _leads_to(value: _Value, entry: _Value) -> bool:
    return value is entry or any(entry in one.parents for one in _between(value, entry))
