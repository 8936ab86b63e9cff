"""The convolutions of a real network: their order in the forward pass and their shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel


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


def check_table(
    kernels: list[Kernel],
    model: torch.nn.Module,
    channels: int,
    size: tuple[int, int],
    path: Path | str,
) -> None:
    """Refuse a kernel table that is not this network's.

    The first kernel's input channels follow the images and the last one's output channels
    may follow the classes, so these two numbers (and the weights that they count) may differ.

    Args:
        kernels: the table.
        model: the network.
        channels: number of image channels.
        size: (height, width) of the images.
        path: where the table came from, for the message.

    Raises:
        UserError: a kernel is missing, unknown, in another place or of another shape.
    """
    real = forward_order(forward_calls(model, channels, size))
    listed = [kernel.path for kernel in kernels]
    for kernel_path in listed:
        if kernel_path not in real:
            raise UserError(_mismatch(path, f"{kernel_path} is no convolution of the network"))
    for kernel_path in real:
        if kernel_path not in listed:
            raise UserError(_mismatch(path, f"{kernel_path} of the network is not in the table"))
    for kernel, (kernel_path, module) in zip(kernels, real.items(), strict=True):
        if kernel.path != kernel_path:
            raise UserError(
                _mismatch(
                    path, f"row {kernel.order} is {kernel.path}, but {kernel_path} runs there"
                )
            )
        free = set()
        if kernel.order == 0:
            free |= {"in_channels", "weights"}
        if kernel.order == len(kernels) - 1:
            free |= {"out_channels", "weights"}
        for column, value in structure(module).items():
            if column not in free and getattr(kernel, column) != value:
                raise UserError(
                    _mismatch(
                        path,
                        f"{kernel_path}: {column} is {getattr(kernel, column)} in the table"
                        f" and {value} in the network",
                    )
                )


def _mismatch(path: Path | str, what: str) -> str:
    return f"{path}: not the table of this network: {what}; write it again with list_kernels.py"


def _times(sides: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in sides)
