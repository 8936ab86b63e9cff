"""Write the kernel table of a network: its convolutions in forward order."""

import logging
from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.networks import registry
from nontrivial.networks.building import build
from nontrivial.networks.convolutions import convolutions, forward_calls, forward_order
from nontrivial.networks.kernel_table import Kernel, write_table
from nontrivial.networks.residual_units import residual_units
from nontrivial.networks.roles import describe

log = logging.getLogger("nontrivial")

# Of the tables in resources/kernels. Order and shapes do not depend on them, except for the input
# channels of the first kernel and the output channels of a segmentation head.
DEFAULT_SIZE = [64, 64]
CHANNELS = {"classification": 3, "segmentation": 1}
CLASSES = {"classification": 10, "segmentation": 2}


def list_kernels(
    name: str | None,
    factory: str | None,
    size: tuple[int, int] = (64, 64),
    channels: int | None = None,
    arguments: dict | None = None,
) -> list[Kernel]:
    """Return the kernel table of a network.

    Args:
        name: a name in :data:`nontrivial.networks.registry.NETWORKS`, or None.
        factory: ``package.module:function`` of a user's network, or None.
        size: (height, width) of the image in the forward pass.
        channels: number of its channels; None takes 3, or 1 for a segmentation network.
        arguments: further keyword arguments of the factory.

    Raises:
        UserError: the network cannot be built or run, or no convolution module runs.
    """
    task = registry.NETWORKS[name].task if name in registry.NETWORKS else "classification"
    channels = channels or CHANNELS[task]
    network = build(name or "", factory, CLASSES[task], channels, size, arguments)
    order = forward_order(forward_calls(network, channels, size))
    if not order:
        raise UserError(
            f"{factory or name}: no convolution module ran in the forward pass; calls of"
            " torch.nn.functional.conv2d cannot be zeroed, so use torch.nn.Conv2d"
        )
    unused = [path for path in convolutions(network) if path not in order]
    if unused:
        log.warning("not in the table, because they are unused: %s", ", ".join(unused))
    return describe(order, residual_units(network, channels, size))


def write_kernel_table(
    output: Path,
    network: str | None = None,
    factory: str | None = None,
    input_size: list[int] = DEFAULT_SIZE,
    channels: int | None = None,
    arguments: dict | None = None,
) -> None:
    """Write the kernel table of a network: every convolution in forward order.

    Args:
        output: table to write (TSV).
        network: name of a built-in network; give this or ``factory``.
        factory: ``package.module:function`` of your own network.
        input_size: height and width of the image in the forward pass.
        channels: image channels.
        arguments: further keyword arguments of your factory (a JSON object).

    Raises:
        UserError: neither or both of ``network`` and ``factory`` are given, the size is not two
            numbers, or see :func:`list_kernels`.
    """
    if (network is None) == (factory is None):
        raise UserError(
            f"give either --network (one of {', '.join(registry.NETWORKS)}) or --factory"
        )
    if len(input_size) != 2:
        raise UserError("--input-size: give the height and the width")
    size = (input_size[0], input_size[1])
    kernels = list_kernels(network, factory, size, channels, arguments)
    write_table(output, kernels)
    log.info("%s: %d kernels", output, len(kernels))


if __name__ == "__main__":
    command_line.run(write_kernel_table)
