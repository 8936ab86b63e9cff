"""Networks by name, and the user's own by factory."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nontrivial.errors import UserError
from nontrivial.networks import registry
from nontrivial.networks.resnets import build_resnet


def build(
    name: str, factory: str | None, classes: int, channels: int, size: tuple[int, int]
) -> torch.nn.Module:
    """Return a randomly initialised network, in training mode, on the CPU.

    Weights come from torch's global generator: seed it first.

    Args:
        name: a name in :data:`nontrivial.networks.registry.NETWORKS`; with a factory, any name.
        factory: ``package.module:function`` of a user's network, found in the working
            directory or installed, called as ``function(classes, channels, size)``; or None.
        classes: number of classes.
        channels: number of image channels.
        size: (height, width) of the images in pixels.

    Raises:
        UserError: the name is unknown, or the factory cannot be found or called, or what it
            returns is no ``torch.nn.Module``.
    """
    if factory is not None:
        return _from_factory(factory, classes, channels, size)
    if name not in registry.NETWORKS:
        raise UserError(
            f"network {name!r} is unknown; take one of {', '.join(registry.NETWORKS)},"
            " or give a factory for your own"
        )
    entry = registry.NETWORKS[name]
    if entry.task == "segmentation":
        # Its library takes a second to import, which no ResNet should pay.
        from nontrivial.networks.pspnet import build_pspnet

        return build_pspnet(name.removeprefix("pspnet_"), classes, channels, size)
    return build_resnet(name.removesuffix("-cifar"), entry.stem, classes, channels)


def _from_factory(
    factory: str, classes: int, channels: int, size: tuple[int, int]
) -> torch.nn.Module:
    module_name, colon, function_name = factory.partition(":")
    if not (module_name and colon and function_name):
        raise UserError(f"factory {factory!r}: write it as package.module:function")
    with _working_directory_importable():
        try:
            function = getattr(importlib.import_module(module_name), function_name)
            network = function(classes, channels, size)
        except Exception as error:
            # The user's code may raise anything; the chained traceback is in the cause.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"factory {factory!r} failed ({reason}); it must be importable from"
                f" {os.getcwd()} or installed and take (classes, channels, size)"
            ) from error
    if not isinstance(network, torch.nn.Module):
        raise UserError(
            f"factory {factory!r} returned {type(network).__name__}, not a torch.nn.Module"
        )
    return network


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Let imports look in the working directory first, as ``python -m`` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
