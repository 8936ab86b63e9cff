"""Set convolution kernels to zero for a while, and check that they are restored."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import Parameter

from nontrivial.errors import UserError
from nontrivial.networks.convolutions import convolutions, stored_weight

# Integers of the width of an element compare by bits, also for -0.0 and NaN.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def kernel_weights(model: torch.nn.Module, paths: Iterable[str]) -> dict[str, Parameter]:
    """Return the weights of some convolutions, by module path.

    Raises:
        UserError: a path is not a convolution of the network, or its weight is computed from
            other parameters (weight normalization, pruning) and cannot be set.
    """
    known = convolutions(model)
    weights = {}
    for path in paths:
        if path not in known:
            raise UserError(
                f"{path} is not a convolution of the network; use paths from its kernel table"
            )
        weight = stored_weight(known[path])
        if weight is None:
            raise UserError(
                f"{path}: its weight is computed from other parameters (weight normalization,"
                " pruning); remove the parametrization in the factory, keeping the weight"
            )
        weights[path] = weight
    return weights


@contextmanager
def zeroed(model: torch.nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Set some kernels to zero inside the block; biases keep their values.

    A weight that several modules share is zero in all of them. When the block ends, also by an
    exception, the weights are restored and compared bit by bit with what they were.

    Args:
        model: the network.
        paths: module paths of convolutions.

    Raises:
        UserError: a path is not a convolution, see :func:`kernel_weights`.
        RuntimeError: a weight was not restored, which is a bug.
    """
    # By identity, so that a shared weight is saved before it is zeroed, not after.
    weights = {id(weight): weight for weight in kernel_weights(model, paths).values()}.values()
    saved = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.zero_()
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, saved, strict=True):
                weight.copy_(before)
        if not all(map(same_bits, weights, saved)):
            raise RuntimeError("zeroed weights were not restored")


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape, type and bits."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    integer = _INTEGERS[first.element_size()]
    return torch.equal(first.detach().view(integer), second.detach().view(integer))
