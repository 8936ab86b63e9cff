"""Which traced modules and calls are convolutions of a stored kernel, and with which options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nontrivial.replay.graph import ConvolutionOptions

_FUNCTIONS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (1, True): F.conv_transpose1d,
    (2, True): F.conv_transpose2d,
    (3, True): F.conv_transpose3d,
}
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ARGUMENTS = (*_ARGUMENTS[:5], "output_padding", "groups", "dilation")


@dataclass(frozen=True)
class Padding:
    """Padding of the images by an operation of its own, before the convolution.

    Attributes:
        amounts: as ``torch.nn.functional.pad`` takes them: the last axis first.
        mode: ``constant`` (zeros), ``reflect``, ``replicate`` or ``circular``.
    """

    amounts: tuple[int, ...]
    mode: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the padded images."""
        return F.pad(images, self.amounts, self.mode)

    def padded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a padded sample, given that of a sample."""
        padded = list(shape)
        for axis, amounts in enumerate(zip(self.amounts[::2], self.amounts[1::2], strict=True)):
            padded[-1 - axis] += sum(amounts)
        return tuple(padded)


@dataclass(frozen=True)
class ConvolutionCall:
    """A convolution of images with stored parameters.

    Attributes:
        images: the argument that holds the images.
        weight: a parameter.
        bias: a parameter or None.
        options: of the convolution itself.
        padding: what must be padded before it; None where its options say it all.
    """

    images: Any
    weight: Tensor
    bias: Tensor | None
    options: ConvolutionOptions
    padding: Padding | None

    @property
    def function(self) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """The convolution as a function of (images, weight, bias)."""
        options = self.options
        function = _FUNCTIONS[len(options.stride), options.transposed]
        rest: tuple[Any, ...] = (options.dilation, options.groups)
        if options.transposed:
            rest = (options.output_padding, options.groups, options.dilation)
        return lambda images, weight, bias: function(
            images, weight, bias, options.stride, options.padding, *rest
        )


def match_module(module: _ConvNd, images: Any) -> ConvolutionCall:
    """Return the call of a convolution module with a stored weight."""
    kernel_size, dilation = module.kernel_size, module.dilation
    if module.padding_mode == "zeros":
        before, padding = _numeric_padding(module.padding, kernel_size, dilation)
    else:
        amounts = tuple(module._reversed_padding_repeated_twice)
        before, padding = Padding(amounts, module.padding_mode), (0,) * len(kernel_size)
    transposed = isinstance(module, _ConvTransposeNd)
    options = ConvolutionOptions(
        stride=tuple(module.stride),
        padding=padding,
        dilation=tuple(dilation),
        groups=module.groups,
        output_padding=tuple(module.output_padding) if transposed else None,
    )
    return ConvolutionCall(images, module.weight, module.bias, options, before)


def match_call(
    name: str,
    args: tuple,
    kwargs: Mapping[str, Any],
    parameter: Callable[[Any], Tensor | None],
) -> ConvolutionCall | None:
    """Return the call of a convolution function; None if it is another, or its kernel is computed.

    Args:
        name: of the called function.
        args: positional arguments.
        kwargs: keyword arguments.
        parameter: returns the parameter or buffer that an argument is, or None.
    """
    if not name.startswith("conv"):
        return None
    transposed = "transpose" in name
    names = _TRANSPOSED_ARGUMENTS if transposed else _ARGUMENTS
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    weight, bias = parameter(given.get("weight")), parameter(given.get("bias"))
    if weight is None or (bias is None and given.get("bias") is not None):
        return None
    kernel_size = tuple(weight.shape[2:])

    def per_axis(key: str, default: int) -> tuple[int, ...]:
        value = given.get(key, default)
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        return values * len(kernel_size) if len(values) == 1 else values

    dilation = per_axis("dilation", 1)
    named = given.get("padding", 0)
    before, padding = _numeric_padding(
        named if isinstance(named, str) else per_axis("padding", 0), kernel_size, dilation
    )
    options = ConvolutionOptions(
        stride=per_axis("stride", 1),
        padding=padding,
        dilation=dilation,
        groups=given.get("groups", 1),
        output_padding=per_axis("output_padding", 0) if transposed else None,
    )
    return ConvolutionCall(given["input"], weight, bias, options, before)


def _numeric_padding(
    padding: str | tuple[int | str, ...], kernel_size: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Padding | None, tuple[int, ...]]:
    """Return (what to pad before, padding of the convolution) for zeros as padding."""
    if padding == "valid":
        return None, (0,) * len(kernel_size)
    if padding != "same":
        return None, tuple(int(amount) for amount in padding)
    total = [step * (taps - 1) for step, taps in zip(dilation, kernel_size, strict=True)]
    before = None
    if any(amount % 2 for amount in total):
        # Like torch, which pads one more element behind than in front.
        odd = [part for amount in reversed(total) for part in (0, amount % 2)]
        before = Padding(tuple(odd), "constant")
    return before, tuple(amount // 2 for amount in total)
