"""Which traced modules and calls are batch normalizations with running statistics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nontrivial.replay.graph import BatchNormalization


def match_module(module: nn.Module) -> BatchNormalization | None:
    """Return the normalization that a module computes in evaluation mode; None if it is another."""
    if not isinstance(module, _BatchNorm):
        return None
    if module.running_mean is None or module.running_var is None:
        return None
    return BatchNormalization(
        module.running_mean, module.running_var, module.weight, module.bias, module.eps
    )


def match_call(
    target: Callable | str, args: tuple, parameter: Callable[[Any], Tensor | None]
) -> BatchNormalization | None:
    """Return the normalization that an ATen call computes; None if it is another.

    Args:
        target: what is called.
        args: positional arguments.
        parameter: returns the parameter or buffer that an argument is, or None.
    """
    if target is not torch.ops.aten.batch_norm.default:
        return None
    gamma, beta, mean, var = (parameter(arg) for arg in args[1:5])
    training, eps = args[5], args[7]
    # A computed argument may depend on a zeroed kernel.
    computed = (gamma is None and args[1] is not None) or (beta is None and args[2] is not None)
    if training or computed or mean is None or var is None:
        return None
    return BatchNormalization(mean, var, gamma, beta, eps)


def function_of(normalization: BatchNormalization) -> Callable[[Tensor], Tensor]:
    """Return a normalization as a function of the images alone."""
    n = normalization
    return lambda images: torch.nn.functional.batch_norm(
        images, n.mean, n.var, n.gamma, n.beta, training=False, eps=n.eps
    )
