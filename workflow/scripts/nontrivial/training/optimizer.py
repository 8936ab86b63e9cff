"""The optimizer of a recipe."""

import torch
from torch import Tensor, nn


def nesterov(model: nn.Module, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """Return stochastic gradient descent with Nesterov momentum, its rate set at each step.

    Weights of convolutions and matrices decay; vectors (biases, batch normalization) do not.
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
    # The fused step cannot begin with some parameters and take up others later, which a network
    # with branches does. From zero momentum, the first step is the one without.
    for parameter in parameters:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def load_buffers(optimizer: torch.optim.Optimizer, buffers: dict[str, Tensor]) -> None:
    """Put back what the optimizer keeps per parameter.

    Args:
        optimizer: of the same parameters in the same order.
        buffers: by ``<number of the parameter>/<name>``, as ``state_dict`` counts them.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, buffer in buffers.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        # In the parameter's own order in memory, which one step works on side by side.
        optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(buffer)
