"""Networks by name."""

from collections.abc import Mapping

from torch import nn

from nontrivial.errors import UserError
from nontrivial.networks.factory import construct
from nontrivial.networks.registry import NETWORKS


def build(
    name: str,
    factory: str | None,
    classes: int,
    channels: int,
    size: tuple[int, int],
    arguments: Mapping[str, object] | None = None,
) -> nn.Module:
    """Return a randomly initialized network, in training mode, on the CPU.

    The weights come from torch's global random number generator: seed it first.

    Args:
        name: a name in :data:`nontrivial.networks.registry.NETWORKS`; any name with a factory.
        factory: ``package.module:function`` of a user's network, or None.
        classes: number of classes.
        channels: number of image channels.
        size: (height, width) of the images in pixels.
        arguments: further keyword arguments of the factory.

    Raises:
        UserError: the name is unknown, or see :func:`nontrivial.networks.factory.construct`.
    """
    if factory is None:
        if name not in NETWORKS:
            raise UserError(
                f"network {name!r} is unknown; choose one of {', '.join(NETWORKS)},"
                " or give a factory for your own"
            )
        factory = NETWORKS[name].factory
    return construct(factory, classes, channels, size, arguments)
