"""torchvision's ResNets, with a choice of stem and any number of image channels.

State-dict names stay torchvision's, so that torchvision can load what is trained here.
"""

import torch
import torchvision


def build_resnet(architecture: str, stem: str, classes: int, channels: int) -> torch.nn.Module:
    """Return a randomly initialised ResNet: images (N, channels, H, W) to logits (N, classes).

    Args:
        architecture: torchvision's name, ``resnet18`` say.
        stem: ``torchvision`` (7x7, stride 2, then pooling) or ``cifar`` (3x3, stride 1, no
            pooling, as in He et al. 2016, section 4.2).
        classes: number of classes.
        channels: number of image channels.
    """
    network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    stem_channels = network.conv1.out_channels
    if stem == "cifar":
        network.maxpool = torch.nn.Identity()
        network.conv1 = torch.nn.Conv2d(channels, stem_channels, 3, padding=1, bias=False)
    elif channels != network.conv1.in_channels:
        network.conv1 = torch.nn.Conv2d(channels, stem_channels, 7, stride=2, padding=3, bias=False)
    else:
        return network
    # As torchvision initialises every convolution of a ResNet.
    torch.nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network
