"""Traced functions and methods as functions that change none of their arguments."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def called_name(target: Callable | str) -> str:
    """Return the name of a function, a method or an ATen operator."""
    if isinstance(target, str):
        return target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.partition("::")[2]
    return getattr(target, "__name__", "")


def as_function(target: Callable | str) -> Callable[..., Any]:
    """Return a function as it is, and a tensor's method, given by name, as a function."""
    if isinstance(target, str):
        return lambda tensor, *args, **kwargs: getattr(tensor, target)(*args, **kwargs)
    return target


def out_of_place(
    target: Callable | str, kwargs: dict[str, Any]
) -> tuple[Callable | str, dict[str, Any]]:
    """Return (target, kwargs) of a call that computes the same and changes no argument."""
    if isinstance(target, torch._ops.OpOverload):
        base = called_name(target).removesuffix("_")
        packet = getattr(torch.ops.aten, base, None)
        if packet is not None and target._overloadname in packet.overloads():
            return getattr(packet, target._overloadname), kwargs
    elif isinstance(target, str):
        base = target.removesuffix("_")
        if base != target and hasattr(Tensor, base):
            return base, kwargs
    elif target in _OUT_OF_PLACE:
        return _OUT_OF_PLACE[target], kwargs
    elif kwargs.get("inplace") is True:
        return target, {name: value for name, value in kwargs.items() if name != "inplace"}
    return _on_copy(as_function(target)), kwargs


def _on_copy(function: Callable) -> Callable[..., Tensor]:
    """Return a function that applies an in-place one to a copy of its first argument."""

    def changed(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = tensor.clone()
        function(copy, *args, **kwargs)
        return copy

    return changed


def new_tensor_method(name: str, like: Tensor) -> Callable[..., Tensor]:
    """Return a method such as ``new_zeros``, which uses a tensor's type and device only."""
    return getattr(like.new_empty(0), name)


def filled_like(function: Callable, like: Tensor) -> Callable[..., Tensor]:
    """Return a function such as ``zeros_like`` as one of the batch size, without the tensor."""
    shape, dtype, device = like.shape[1:], like.dtype, like.device

    def filled(batch_size: int, **kwargs: Any) -> Tensor:
        return function(torch.empty((batch_size, *shape), dtype=dtype, device=device), **kwargs)

    return filled
