"""The optimizer of a recipe."""

import torch
from torch import nn


def nesterov(
    model: nn.Module, momentum: float, weight_decay: float, device: torch.device
) -> torch.optim.SGD:
    """Return stochastic gradient descent with Nesterov momentum, its rate set at each step.

    Weights of convolutions and matrices decay; vectors (biases, batch normalization) do not.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
        momentum=momentum,
        nesterov=True,
        fused=device.type == "cuda",
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
