"""torchvision's ResNets with a choice of stem and any number of image channels.

The state-dict names are torchvision's, so that torchvision can load what is trained here.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import nn

Factory = Callable[[int, int, tuple[int, int]], nn.Module]  # of classes, channels and size


def build_resnet(architecture: str, stem: str, classes: int, channels: int) -> nn.Module:
    """Return a randomly initialized ResNet: images (N, channels, H, W) to logits (N, classes).

    Args:
        architecture: torchvision's name, such as ``resnet18``.
        stem: ``torchvision`` (7x7, stride 2, then pooling) or ``cifar`` (3x3, stride 1, no
            pooling, as in He et al. 2016, section 4.2).
        classes: number of classes.
        channels: number of image channels.
    """
    network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    stem_channels = network.conv1.out_channels
    if stem == "cifar":
        network.maxpool = nn.Identity()
        network.conv1 = nn.Conv2d(channels, stem_channels, 3, padding=1, bias=False)
    elif channels != network.conv1.in_channels:
        network.conv1 = nn.Conv2d(channels, stem_channels, 7, stride=2, padding=3, bias=False)
    else:
        return network
    # The initialization that torchvision gives every convolution of a ResNet.
    torch.nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def _factory(architecture: str, stem: str) -> Factory:
    def build(classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
        return build_resnet(architecture, stem, classes, channels)

    return build


resnet18 = _factory("resnet18", "torchvision")
resnet34 = _factory("resnet34", "torchvision")
resnet50 = _factory("resnet50", "torchvision")
resnet101 = _factory("resnet101", "torchvision")
resnet18_cifar = _factory("resnet18", "cifar")
resnet34_cifar = _factory("resnet34", "cifar")
resnet50_cifar = _factory("resnet50", "cifar")
resnet101_cifar = _factory("resnet101", "cifar")
