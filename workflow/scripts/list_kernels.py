"""Write the kernel table of a network: every convolution in forward order."""

import argparse
import logging
from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.networks import registry
from nontrivial.networks.building import build
from nontrivial.networks.convolutions import convolutions, forward_calls, forward_order
from nontrivial.networks.kernel_table import Kernel, write_table
from nontrivial.networks.roles import describe

log = logging.getLogger("nontrivial")

# What the checked-in tables were made with. The order and the shapes do not depend on it,
# but for the first kernel's input channels and a segmentation head's output channels.
DEFAULT_SIZE = (64, 64)
CHANNELS = {"classification": 3, "segmentation": 1}
CLASSES = {"classification": 10, "segmentation": 2}


def list_kernels(
    name: str | None,
    factory: str | None,
    size: tuple[int, int] = DEFAULT_SIZE,
    channels: int | None = None,
) -> list[Kernel]:
    """Return the kernel table of a network.

    Args:
        name: a name in :data:`nontrivial.networks.registry.NETWORKS`, or None.
        factory: ``package.module:function`` of a user's network, or None.
        size: (height, width) of the image that is passed through it.
        channels: number of its channels; None takes 3, or 1 for a segmentation network.

    Raises:
        UserError: the network cannot be built or run, or has no convolution module.
    """
    task = registry.NETWORKS[name].task if name in registry.NETWORKS else "classification"
    channels = channels or CHANNELS[task]
    network = build(name or "", factory, CLASSES[task], channels, size)
    order = forward_order(forward_calls(network, channels, size))
    if not order:
        raise UserError(
            f"{factory or name}: no convolution module ran in the forward pass; calls of"
            " torch.nn.functional.conv2d cannot be zeroed, so use torch.nn.Conv2d"
        )
    unused = [path for path in convolutions(network) if path not in order]
    if unused:
        log.warning("left out, not used in the forward pass: %s", ", ".join(unused))
    return describe(order)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--network", help=f"one of {', '.join(registry.NETWORKS)}")
    which.add_argument("--factory", help="your own, as package.module:function")
    parser.add_argument("--output", type=Path, required=True, help="table to write (TSV)")
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("H", "W"), default=DEFAULT_SIZE)
    parser.add_argument("--channels", type=int, help="image channels")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    kernels = list_kernels(
        arguments.network, arguments.factory, tuple(arguments.input_size), arguments.channels
    )
    write_table(arguments.output, kernels)
    log.info("%s: %d kernels", arguments.output, len(kernels))


if __name__ == "__main__":
    command_line.run(_parser(), _main)
