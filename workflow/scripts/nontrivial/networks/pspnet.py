"""PSPNet on a ResNet34 encoder with all four layer blocks, at output stride 8.

Zhao et al. 2017 (arXiv 1612.01105), from the parts of segmentation_models_pytorch. Its default
stops after the second block (``encoder_depth=3``), so the third and fourth have no effect. Here
all four feed the pyramid.

Dilation follows the library's ``make_dilated``: every stride in the third and fourth block
becomes 1 and every 3x3 kernel there is dilated, by 2 and by 4, including the first one of the
block (torchvision leaves that one at the rate of the previous block).

The pyramid pools to 1, 2, 3 and 6 cells per side, each 512 -> 128 channels. Its output and the 512
encoder channels go to 512 channels and a 3x3 head. The branch of one cell has no batch
normalization, which would see one value per channel for a batch of one. Dropout (2-D, 0.2) is
active in training only.
"""

import segmentation_models_pytorch
from torch import nn

from nontrivial.errors import UserError

OUTPUT_STRIDE = 8
_ALL_BLOCKS = 5  # the library counts the stem and the four layer blocks


def pspnet_resnet34(classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Return a randomly initialized PSPNet, from (N, channels, H, W) to logits (N, classes, H, W).

    Args:
        classes: number of classes, background included.
        channels: number of image channels.
        size: (height, width) in pixels, multiples of :data:`OUTPUT_STRIDE`.

    Raises:
        UserError: the size is not a multiple of the output stride.
    """
    if any(side % OUTPUT_STRIDE or side < OUTPUT_STRIDE for side in size):
        raise UserError(
            f"size {size[0]} x {size[1]}: a PSPNet requires multiples of {OUTPUT_STRIDE} pixels;"
            " change size of the data set"
        )
    network = segmentation_models_pytorch.PSPNet(
        encoder_name="resnet34",
        encoder_weights=None,
        encoder_depth=_ALL_BLOCKS,
        in_channels=channels,
        classes=classes,
        upsampling=OUTPUT_STRIDE,
        output_stride=OUTPUT_STRIDE,
    )
    # The library's own check of the size, done above, would keep torch.fx from tracing.
    network.requires_divisible_input_shape = False
    return network
