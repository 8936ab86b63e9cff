"""The convolutions of a network: their order in the forward pass and their shapes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nontrivial.errors import UserError


@dataclass(frozen=True)
class Call:
    """One use of a convolution in a forward pass.

    Attributes:
        path: module path; a module that is used twice has two calls with one path.
        module: the convolution.
        input_size: spatial size of its input, without padding.
        output_size: spatial size of its output.
    """

    path: str
    module: _ConvNd
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]


def convolutions(model: torch.nn.Module) -> dict[str, _ConvNd]:
    """Return every convolution, also transposed ones, by module path in order of definition."""
    return {path: module for path, module in model.named_modules() if isinstance(module, _ConvNd)}


def stored_weight(module: _ConvNd) -> torch.nn.Parameter | None:
    """Return a convolution's weight, or None if it is computed from other parameters.

    Weight normalization and pruning compute the weight at every use, so it cannot be set.
    """
    return module._parameters.get("weight")


def forward_calls(model: torch.nn.Module, channels: int, size: tuple[int, int]) -> list[Call]:
    """Return the convolution calls of one forward pass in evaluation mode, in order.

    The input is one image of zeros on the model's device. The model is not changed.

    Raises:
        UserError: the network does not take images of that shape.
    """
    calls: list[Call] = []

    def record(path: str) -> Callable[..., None]:
        def hook(module: _ConvNd, inputs: tuple, output: torch.Tensor) -> None:
            sides = len(module.kernel_size)
            calls.append(
                Call(path, module, tuple(inputs[0].shape[-sides:]), tuple(output.shape[-sides:]))
            )

        return hook

    hooks = [
        module.register_forward_hook(record(path)) for path, module in convolutions(model).items()
    ]
    training = {module: module.training for module in model.modules()}
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, *size, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # A user's network may raise any exception.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"the network does not take one image of {channels} x {size[0]} x {size[1]} ({reason});"
            " check its factory and the size of the data set"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return calls


def forward_order(calls: list[Call]) -> dict[str, _ConvNd]:
    """Return each convolution once, by path, in the order of its first call."""
    return {call.path: call.module for call in calls}


def structure(module: _ConvNd) -> dict:
    """Return the columns of a kernel table that a convolution determines."""
    return {
        "in_channels": module.in_channels,
        "out_channels": module.out_channels,
        "kernel_size": _times(module.kernel_size),
        "stride": _times(module.stride),
        "dilation": _times(module.dilation),
        "groups": module.groups,
        "transposed": isinstance(module, _ConvTransposeNd),
        "weights": module.weight.numel(),
    }


def _times(sides: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in sides)
