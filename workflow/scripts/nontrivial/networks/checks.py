"""Checks of a network before it is trained: what would otherwise fail or mislead afterwards.

Training does not import this module, so a new check makes no trained network stale.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from nontrivial.errors import UserError
from nontrivial.formats import tensor_file
from nontrivial.networks.convolutions import (
    convolutions,
    forward_calls,
    forward_order,
    stored_weight,
    structure,
)
from nontrivial.networks.kernel_table import Kernel
from nontrivial.networks.misread import SafeConvolutions

log = logging.getLogger("nontrivial")

_BATCH = 4  # images of the trial batch; batch normalization needs more than one
_PASSES = 4  # that must agree: dropout of a few logits may be the same twice


def check_network(
    model: nn.Module,
    task: str,
    classes: int,
    channels: int,
    size: tuple[int, int],
    kernels: list[Kernel],
    table: Path | str,
    precision: str = "fp32",
) -> None:
    """Refuse a network that cannot be trained, saved, or have its kernels set.

    Warns of convolutions that torch may compute wrongly in the precision of the training.

    Args:
        model: freshly built, on the CPU; its running statistics change.
        task: ``classification`` or ``segmentation``.
        classes: number of classes.
        channels: number of image channels.
        size: (height, width) of the images.
        kernels: its kernel table.
        table: where the table came from, for the message.
        precision: of the training, ``fp32`` or ``bf16``.

    Raises:
        UserError: names the module or value and says what to change.
    """
    check_table(kernels, model, channels, size, table)
    refuse_computed_weights(model)
    refuse_unsaved_state(model)
    refuse_bad_output(model, task, classes, channels, size)
    if precision == "bf16":
        warn_of_misread_memory(model, channels, size)


def check_table(
    kernels: list[Kernel],
    model: nn.Module,
    channels: int,
    size: tuple[int, int],
    path: Path | str,
) -> None:
    """Refuse a kernel table that does not describe this network.

    The first kernel's input channels follow the images, and the last one's output channels may
    follow the classes. These two, and the number of weights that they determine, may differ.

    Args:
        kernels: the table.
        model: the network.
        channels: number of image channels.
        size: (height, width) of the images.
        path: where the table came from, for the message.

    Raises:
        UserError: a kernel is missing, unknown, out of order or of another shape.
    """
    real = forward_order(forward_calls(model, channels, size))
    listed = [kernel.path for kernel in kernels]
    for kernel_path in listed:
        if kernel_path not in real:
            raise UserError(_mismatch(path, f"the network has no convolution {kernel_path}"))
    for kernel_path in real:
        if kernel_path not in listed:
            raise UserError(_mismatch(path, f"{kernel_path} of the network is not in the table"))
    for kernel, (kernel_path, module) in zip(kernels, real.items(), strict=True):
        if kernel.path != kernel_path:
            raise UserError(
                _mismatch(
                    path, f"row {kernel.order} is {kernel.path}, but the network runs {kernel_path}"
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


def refuse_computed_weights(model: nn.Module) -> None:
    """Refuse a convolution whose weight is computed from other parameters.

    Raises:
        UserError: names the module.
    """
    for path, module in convolutions(model).items():
        if stored_weight(module) is None:
            raise UserError(
                f"{path}: its weight is computed from other parameters (weight normalization,"
                " pruning) and cannot be zeroed; make it permanent in the factory"
            )


def warn_of_misread_memory(model: nn.Module, channels: int, size: tuple[int, int]) -> None:
    """Warn of the convolutions that torch may compute from the wrong memory in bf16 on a CPU."""
    model.eval()
    with torch.no_grad(), SafeConvolutions() as calls:
        model(torch.zeros(1, channels, *size))
    for name in _owners(model, calls.misread):
        log.warning(
            "%s: on a CPU with AVX-512, torch 2.14 may compute wrong outputs for this"
            " convolution in bf16 (one input channel per group, and an output of one column with a"
            " stride along columns only, or padded images of depth one); train on a GPU or in fp32",
            name,
        )
    for name in _owners(model, calls.dilating):
        log.warning(
            "%s: on a CPU, torch 2.14 may crash in bf16, because one tap has a dilation and a"
            " stride; set the dilation to 1 along that axis, which computes the same",
            name,
        )


def _owners(model: nn.Module, weights: list[Tensor]) -> list[str]:
    """Return the modules of some weights, each once; a computed one is named by its shape."""
    names = {id(p): name.removesuffix(".weight") for name, p in model.named_parameters()}
    found = (
        names.get(id(weight), f"a computed kernel {tuple(weight.shape)}") for weight in weights
    )
    return list(dict.fromkeys(found))


def refuse_unsaved_state(model: nn.Module) -> None:
    """Refuse a state dict that a safetensors file cannot hold.

    Raises:
        UserError: names the value.
    """
    for name, value in model.state_dict().items():
        if reason := tensor_file.unsupported(value):
            raise UserError(
                f"state dict, {name}: {reason}; change the module (its get_extra_state, for"
                " example) so that it returns a tensor"
            )


def refuse_bad_output(
    model: nn.Module, task: str, classes: int, channels: int, size: tuple[int, int]
) -> None:
    """Refuse a network whose output is not the logits of the task, or not reproducible.

    Raises:
        UserError: says what the network returns, in which mode, and what it should return.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((_BATCH, channels, *size), generator=generator)
    shape = (_BATCH, classes, *(size if task == "segmentation" else ()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        outputs = [_logits(model, images, task, shape) for _ in range(_PASSES)]
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            raise UserError(
                f"the network changes {name} in evaluation mode; do so only if self.training"
            )
    if not all(torch.equal(output, outputs[0]) for output in outputs):
        raise UserError(
            "the network is random in evaluation mode; pass training=self.training to dropout"
        )
    model.train()
    _logits(model, images, task, shape)


def _logits(model: nn.Module, images: Tensor, task: str, shape: tuple[int, ...]) -> Tensor:
    mode = "training" if model.training else "evaluation"
    try:
        output = model(images)
    except Exception as error:
        # A user's network may raise anything.
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        raise UserError(
            f"the network fails in {mode} mode on images {tuple(images.shape)} ({reason});"
            " check its factory and the size of the data set"
        ) from error
    if not isinstance(output, Tensor):
        raise UserError(
            f"the network returns {type(output).__name__} in {mode} mode; wrap it in the factory"
            f" so that it returns logits {shape}"
        )
    if tuple(output.shape) != shape:
        raise UserError(
            f"the network returns {tuple(output.shape)} in {mode} mode for {task},"
            f" not {shape}; correct its factory"
        )
    return output


def _mismatch(path: Path | str, what: str) -> str:
    return f"{path}: not the kernel table of this network: {what}; write it with list_kernels.py"
