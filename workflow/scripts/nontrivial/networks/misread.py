"""Convolutions that torch 2.14 may compute from the wrong memory, on a CPU with AVX-512.

The faults are oneDNN 3.12's, and need images or weights in channels-last memory. The first two
need one input channel per group and a kernel of several columns:

- An output of one column, in 2-D or 3-D, and a stride along columns but not along rows. oneDNN
  takes a wrong step from one row of the output to the next, so all but the first come from other
  rows, or from uninitialized memory. In fp32 only with one group.
- In 3-D, images of depth one that are padded along their depth. In bf16 only.
- One tap along an axis with a dilation and a stride. In bf16, this sometimes ends the process.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# Every convolution becomes a call of the first, or of the second if torch.jit.trace recorded it.
_CONVOLUTIONS = (_aten.convolution, _aten._convolution)
_TRANSPOSED = 6  # position among their arguments
# In inference mode, torch dispatches these before what they call.
_CALLING_THEM = (_aten.conv1d, _aten.conv2d, _aten.conv3d, _aten._convolution_mode)


class SafeConvolutions(TorchDispatchMode):
    """Has torch compute every convolution inside the block from the right memory.

    It sees modules, functions and scripts alike, but not the functions that torch.cond calls. What
    torch computes correctly stays the same.

    Attributes:
        misread: weights of the calls that torch may compute wrongly.
        dilating: weights of the calls whose dilation of a single tap may end the process.
    """

    supports_higher_order_operators = True  # torch refuses torch.cond otherwise

    def __init__(self) -> None:
        """Start with no calls."""
        super().__init__()
        self.misread: list[Tensor] = []
        self.dilating: list[Tensor] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: to keep torch.compile out, torch would import it, a second of CPU time."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call an operator, with safe arguments if it is a convolution."""
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.HigherOrderOperator):
            return func(*args, **kwargs)
        if func.overloadpacket in _CALLING_THEM:
            with self:
                return func.decompose(*args, **kwargs)
        if func.overloadpacket in _CONVOLUTIONS and not args[_TRANSPOSED] and args[0].is_cpu:
            args = self._safe(*args)
        return func(*args, **kwargs)

    def _safe(
        self,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        *rest: Any,
    ) -> tuple:
        """Return the arguments of a convolution with which torch computes it correctly."""
        sides = weight.ndim - 2
        # A list of one stands for all axes.
        stride, padding, dilation = (
            part * sides if len(part) == 1 else part for part in (stride, padding, dilation)
        )
        axes = list(zip(images.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True))
        if any(taps == 1 and step > 1 and rate > 1 for _, taps, step, _, rate in axes):
            self.dilating.append(weight)
            dilation = [1 if taps == 1 else rate for _, taps, _, _, rate in axes]
        outputs = [
            (length + 2 * zeros - rate * (taps - 1) - 1) // step + 1
            for length, taps, step, zeros, rate in axes
        ]
        skips_rows = sides > 1 and stride[-2] == 1 < stride[-1] and outputs[-1] == 1 < outputs[-2]
        pads_one_depth = sides == 3 and images.shape[2] == 1 and padding[0] > 0
        if weight.shape[1] == 1 < weight.shape[-1] and (skips_rows or pads_one_depth):
            self.misread.append(weight)
            images, weight = row_major(images), row_major(weight)
        return (images, weight, bias, stride, padding, dilation, *rest)


def row_major(tensor: Tensor) -> Tensor:
    """Return a tensor with the strides of a new one.

    ``contiguous`` keeps any stride of an axis of length one, so images of one channel may stay
    channels last, and torch convolves them as such.
    """
    return tensor.reshape(-1).view(tensor.shape)
