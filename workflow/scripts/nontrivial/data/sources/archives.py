"""The published archives that a data set can be read from or downloaded as."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file somebody publishes, and what it must be.

    Attributes:
        name: file name under the data folder.
        url: where it is published.
        md5: hex digest of the complete file.
    """

    name: str
    url: str
    md5: str


# Address and digest: torchvision.datasets.CIFAR10.
CIFAR10 = Archive(
    name="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
)

# Medical Segmentation Decathlon, Task04 (Antonelli et al. 2022); address and digest: monai.apps.
HIPPOCAMPUS = Archive(
    name="Task04_Hippocampus.tar",
    url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
    md5="9d24dba78a72977dbd1d2e110310f31b",
)
