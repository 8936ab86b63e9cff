"""The optimizer: SGD with Nesterov momentum."""

import torch
from torch import Tensor, nn


def nesterov(model: nn.Module, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum; :func:`set_learning_rate` sets the rate of each step.

    Weights of convolution and linear layers decay; vectors (biases, batch normalization) do not.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
        momentum=momentum,
        nesterov=True,
        fused=True,
    )
    # The fused step cannot add parameters later, which a network with conditional branches does.
    # With zero momentum, the first step is the same as one without a buffer.
    for parameter in parameters:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def load_buffers(optimizer: torch.optim.Optimizer, buffers: dict[str, Tensor]) -> None:
    """Restore the buffers of the optimizer.

    Args:
        optimizer: of the same parameters in the same order.
        buffers: by ``<parameter number>/<name>``, numbered as in ``state_dict``.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, buffer in buffers.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        # In the memory format of the parameter, which the fused step requires.
        optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(buffer)
