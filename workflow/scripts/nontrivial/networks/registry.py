"""The networks that come with the workflow: what the Snakefile must know without torch.

Standard library only. A user's own network has no entry here: the configuration gives its
factory and its kernel table.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nontrivial.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One network that comes with the workflow.

    Attributes:
        task: ``classification`` or ``segmentation``.
        stem: ``torchvision`` (7x7, stride 2, pooling) or ``cifar`` (3x3, stride 1, no pooling).
        table: file name of its kernel table in ``resources/kernels``.
    """

    task: str
    stem: str
    table: str


STEM_OF_CUSTOM = "custom"  # what results say of a user's own network

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")

NETWORKS: dict[str, Entry] = {
    **{name: Entry("classification", "torchvision", f"{name}.tsv") for name in _RESNETS},
    **{f"{name}-cifar": Entry("classification", "cifar", f"{name}-cifar.tsv") for name in _RESNETS},
    "pspnet_resnet34": Entry("segmentation", "torchvision", "pspnet_resnet34.tsv"),
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
