"""What operations call: functions of their arguments alone, which change none of them."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nontrivial.replay.graph import Filter, Normalization

_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_CONVOLUTIONS = {
    (1, False): torch.nn.functional.conv1d,
    (2, False): torch.nn.functional.conv2d,
    (3, False): torch.nn.functional.conv3d,
    (1, True): torch.nn.functional.conv_transpose1d,
    (2, True): torch.nn.functional.conv_transpose2d,
    (3, True): torch.nn.functional.conv_transpose3d,
}


def called_name(target: Callable | str) -> str:
    """Return the name of a function, a method or an ATen operator."""
    if isinstance(target, str):
        return target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.partition("::")[2]
    return getattr(target, "__name__", "")


def method(name: str) -> Callable[..., Any]:
    """Return a tensor's method as a function."""
    return lambda tensor, *args, **kwargs: getattr(tensor, name)(*args, **kwargs)


def on_copy(function: Callable) -> Callable[..., Tensor]:
    """Return a function that changes its first argument as one that changes a copy of it."""

    def changed(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = tensor.clone()
        function(copy, *args, **kwargs)
        return copy

    return changed


def on_empty(name: str, like: Tensor) -> Callable[..., Tensor]:
    """Return a method that looks at its tensor's type and device only, without the tensor."""
    return getattr(like.new_empty(0), name)


def rows_like(function: Callable, like: Tensor) -> Callable[..., Tensor]:
    """Return ``zeros_like`` and its kin of any number of rows, without the tensor."""
    shape, options = like.shape[1:], {"dtype": like.dtype, "device": like.device}
    return lambda rows, **kwargs: function(torch.empty(rows, *shape, **options), **kwargs)


def pad(amounts: tuple[int, ...], mode: str) -> Callable[[Tensor], Tensor]:
    """Return the padding that a convolution does by itself."""
    return partial(torch.nn.functional.pad, pad=amounts, mode=mode)


def convolve(numbers: Filter) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return a convolution of given numbers, of (images, weight, bias)."""
    function = _CONVOLUTIONS[len(numbers.stride), numbers.transposed]
    after = (numbers.stride, numbers.padding)
    if numbers.transposed:
        after += (numbers.output_padding, numbers.groups, numbers.dilation)
    else:
        after += (numbers.dilation, numbers.groups)
    return lambda images, weight, bias: function(images, weight, bias, *after)


def normalize(numbers: Normalization) -> Callable[[Tensor], Tensor]:
    """Return batch normalization with running statistics, of images alone."""
    n = numbers
    return lambda images: torch.nn.functional.batch_norm(
        images, n.mean, n.var, n.gamma, n.beta, training=False, eps=n.eps
    )


def out_of_place(target: Callable | str, kwargs: dict) -> tuple[Callable | str, dict]:
    """Return a function that computes the same and leaves its arguments alone."""
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
    return on_copy(method(target) if isinstance(target, str) else target), kwargs
