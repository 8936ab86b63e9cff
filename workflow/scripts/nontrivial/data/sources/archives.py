"""The published archives of data sets that can be downloaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        name: file name below the data folder.
        url: its address.
        md5: hex digest of the complete file.
    """

    name: str
    url: str
    md5: str


# Address and checksum: torchvision.datasets.CIFAR10.
CIFAR10 = Archive(
    name="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
)

# Medical Segmentation Decathlon, Task04 (Antonelli et al. 2022); address and checksum: monai.apps.
HIPPOCAMPUS = Archive(
    name="Task04_Hippocampus.tar",
    url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
    md5="9d24dba78a72977dbd1d2e110310f31b",
)
