"""Which of torch's operations treat every sample of a batch independently.

This is an allow-list: replay assumes of any other operation that each sample of its result may
depend on the whole batch. Samples are along dimension 0.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of one tensor, element by element.
_POINTWISE = _words(
    """relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh
    hardshrink softshrink tanhshrink softplus softsign logsigmoid threshold sigmoid tanh exp log
    sqrt rsqrt abs neg square erf clamp contiguous clone detach float to type_as"""
)
# Of several tensors that broadcast, or of a tensor and a scalar.
_BROADCAST = _words(
    """add sub subtract mul multiply div divide truediv true_divide maximum minimum pow rsub
    where"""
)
# Of a tensor of samples; the other arguments concern channels and spatial axes.
_SPATIAL = _words(
    """max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d lp_pool2d max_unpool1d max_unpool2d max_unpool3d interpolate upsample
    upsample_bilinear2d upsample_nearest2d upsample_bicubic2d upsample_linear1d upsample_nearest1d
    linear prelu group_norm local_response_norm pixel_shuffle pixel_unshuffle channel_shuffle
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"""
)
# Along a dimension: name, position and default of the argument that gives it.
_ALONG = {
    "cat": ("dim", 1, 0),
    "concat": ("dim", 1, 0),
    "concatenate": ("dim", 1, 0),
    "softmax": ("dim", 1, 0),
    "log_softmax": ("dim", 1, 0),
    "mean": ("dim", 1, 0),
    "sum": ("dim", 1, 0),
    "amax": ("dim", 1, 0),
    "amin": ("dim", 1, 0),
    "chunk": ("dim", 2, 0),
    "split": ("dim", 2, 0),
    "unsqueeze": ("dim", 1, 0),
    "squeeze": ("dim", 1, 0),
    "flatten": ("start_dim", 1, 0),
}
_SHAPED = _words("view reshape")

_MODULE_TYPES = frozenset(
    getattr(nn, name)
    for name in _words(
        """ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh
        Hardshrink Softshrink Tanhshrink Softplus Softsign LogSigmoid Threshold Sigmoid Tanh PReLU
        MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d
        AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
        LPPool2d MaxUnpool1d MaxUnpool2d MaxUnpool3d Upsample UpsamplingBilinear2d
        UpsamplingNearest2d BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm LocalResponseNorm Linear
        Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d ZeroPad2d
        ConstantPad2d ReflectionPad2d ReplicationPad2d PixelShuffle PixelUnshuffle ChannelShuffle"""
    )
)
_NAMED = _POINTWISE | _BROADCAST | _SPATIAL | _SHAPED | _words("getitem pad") | set(_ALONG)


def _function_names() -> dict[int, str]:
    """Return the listed names by the identity of the functions that have them."""
    return {
        id(getattr(namespace, name)): name
        for namespace in (torch, F, operator, torch._C._nn)
        for name in _NAMED
        if hasattr(namespace, name)
    }


_FUNCTION_NAMES = _function_names()


def listed_name(function: Callable | str) -> str | None:
    """Return the name of a function, method or ATen operator that is listed here, or None.

    Args:
        function: a function; an operator of ``torch.ops.aten``; or a tensor's method, by name.
    """
    if isinstance(function, str):
        return function if function in _NAMED else None
    if isinstance(function, torch._ops.OpOverload):
        namespace, _, name = function._schema.name.partition("::")
        return name if namespace == "aten" and name in _NAMED else None
    return _FUNCTION_NAMES.get(id(function))


def is_samplewise_module(module: nn.Module) -> bool:
    """Return whether a module in evaluation mode treats every sample independently."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        return False
    if isinstance(module, nn.Flatten):
        return type(module) is nn.Flatten and module.start_dim > 0
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)):
        return module.dim is not None and module.dim > 0
    return type(module) in _MODULE_TYPES


def is_samplewise_call(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Return whether a call treats every sample independently.

    Args:
        name: from :func:`listed_name`.
        args: positional arguments, tensors of samples among them.
        kwargs: keyword arguments.
    """
    tensors = list(_tensors((args, tuple(kwargs.values()))))
    if not tensors:
        return False
    ranks = {tensor.ndim for tensor in tensors}
    if name in _BROADCAST:
        # Dimension 0 of a tensor with fewer dimensions is not that of the samples.
        return len(ranks) == 1
    if name in _ALONG:
        keyword, position, default = _ALONG[name]
        value = kwargs.get(keyword, args[position] if len(args) > position else default)
        dims = value if isinstance(value, (tuple, list)) else (value,)
        ndim = min(ranks)
        return all(isinstance(dim, int) and dim % ndim != 0 for dim in dims if ndim) and bool(dims)
    if name == "pad":
        return len(args) > 1 and len(args[1]) <= 2 * (tensors[0].ndim - 1)
    if name == "getitem":
        return _keeps_samples(args[1]) if isinstance(args[0], Tensor) else True
    return True


def _keeps_samples(key: Any) -> bool:
    return isinstance(key, tuple) and bool(key) and key[0] == slice(None)


def _tensors(argument: Any) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from _tensors(part)
