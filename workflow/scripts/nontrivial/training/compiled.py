"""Networks compiled by torch.compile."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nontrivial.errors import UserError


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the network's forward pass, compiled when it is first called.

    Raises (when called):
        UserError: it cannot be compiled, for example because there is no C++ compiler.
    """
    forward = torch.compile(model)
    # torch.compile has imported it by now; importing it at the top would take a second.
    from torch._dynamo.exc import TorchDynamoException

    def call(images: Tensor) -> Tensor:
        try:
            return forward(images)
        except TorchDynamoException as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"recipe: torch.compile failed ({reason}); fix this or set compile to false"
            ) from error

    return call
