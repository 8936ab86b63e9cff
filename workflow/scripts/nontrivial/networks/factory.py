"""Networks from a factory, ``package.module:function``: built-in ones and the user's own."""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from nontrivial.errors import UserError
from nontrivial.execution.reproducibility import seed_everything


def construct(
    factory: str,
    classes: int,
    channels: int,
    size: tuple[int, int],
    arguments: Mapping[str, object] | None = None,
) -> nn.Module:
    """Return a randomly initialized network, in training mode, on the CPU.

    The weights come from the global random number generators.

    Args:
        factory: ``package.module:function``, found in the working directory or installed, called
            as ``function(classes, channels, size, **arguments)``.
        classes: number of classes.
        channels: number of image channels.
        size: (height, width) of the images in pixels.
        arguments: further keyword arguments of the function.

    Raises:
        UserError: the factory cannot be found or fails, or returns no ``torch.nn.Module``.
    """
    module_name, colon, function_name = factory.partition(":")
    if not (module_name and colon and function_name):
        raise UserError(f"factory {factory!r}: write it as package.module:function")
    with _working_directory_importable():
        try:
            function = getattr(importlib.import_module(module_name), function_name)
            network = function(classes, channels, size, **(arguments or {}))
        except UserError:
            raise
        except Exception as error:
            # A user's code may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"factory {factory!r} failed ({reason}); it must be importable from"
                f" {os.getcwd()} or installed and take (classes, channels, size) and its arguments"
            ) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"factory {factory!r} returned {type(network).__name__}, not a torch.nn.Module"
        )
    return network


def initialize(
    factory: str,
    classes: int,
    channels: int,
    size: tuple[int, int],
    seed: int,
    arguments: Mapping[str, object] | None = None,
) -> nn.Module:
    """Return a network as a training with this seed starts from it: epoch 0.

    Seeds the global random number generators.

    Args:
        factory: as in :func:`construct`, likewise the other arguments.
        classes: number of classes.
        channels: number of image channels.
        size: (height, width) of the images in pixels.
        seed: of the training.
        arguments: likewise.

    Raises:
        UserError: see :func:`construct`.
    """
    seed_everything(seed)
    return construct(factory, classes, channels, size, arguments)


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Let imports look in the working directory first, as ``python -m`` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
