"""Built-in networks: what the workflow must know of them without importing torch.

The standard library only. A user's own network has no entry: the configuration gives its factory
and its kernel table.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nontrivial.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A built-in network.

    Attributes:
        task: ``classification`` or ``segmentation``.
        stem: ``torchvision`` (7x7, stride 2, pooling) or ``cifar`` (3x3, stride 1, no pooling).
        table: file name of its kernel table in ``resources/kernels``.
        factory: ``package.module:function`` that builds it. Jobs import only that module, so a
            new network makes no trained one stale.
    """

    task: str
    stem: str
    table: str
    factory: str


STEM_OF_CUSTOM = "custom"  # what results say of a user's own network

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")


def _resnet(name: str, stem: str) -> Entry:
    factory = f"nontrivial.networks.resnets:{name.replace('-', '_')}"
    return Entry("classification", stem, f"{name}.tsv", factory)


NETWORKS: dict[str, Entry] = {
    **{name: _resnet(name, "torchvision") for name in _RESNETS},
    **{f"{name}-cifar": _resnet(f"{name}-cifar", "cifar") for name in _RESNETS},
    "pspnet_resnet34": Entry(
        "segmentation",
        "torchvision",
        "pspnet_resnet34.tsv",
        "nontrivial.networks.pspnet:pspnet_resnet34",
    ),
}


def stem_of(name: str) -> str:
    """Return the stem of a network by name: ``torchvision``, ``cifar`` or ``custom``."""
    return NETWORKS[name].stem if name in NETWORKS else STEM_OF_CUSTOM


def table_file(name: str) -> Path:
    """Return the path of the kernel table of a network that comes with the library.

    Example:
        >>> from nontrivial.networks.kernel_table import read_table
        >>> len(read_table(table_file("resnet34")))
        36

    Raises:
        UserError: the library has no network of this name.
    """
    if name not in NETWORKS:
        raise UserError(f"network {name!r} is unknown; the library has {', '.join(NETWORKS)}")
    package = Path(str(files("nontrivial")))
    installed = package / "kernel_tables"  # pyproject.toml puts the tables there
    folder = installed if installed.exists() else package.parents[2] / "resources" / "kernels"
    return folder / NETWORKS[name].table
