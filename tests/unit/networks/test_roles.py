import torch
from torch import nn

from nontrivial.networks.roles import describe


def convolutions(*rows):
    """Return convolutions by path from (path, input channels, output channels)."""
    return {path: nn.Conv2d(inputs, outputs, 3) for path, inputs, outputs in rows}


def labels(order):
    return [(k.path, k.block, k.unit, k.role) for k in describe(order)]


def test_a_residual_network():
    order = convolutions(
        ("conv1", 3, 8),
        ("layer1.0.conv1", 8, 8),
        ("layer1.0.conv2", 8, 8),
        ("layer1.1.conv1", 8, 8),
        ("layer1.1.conv2", 8, 8),
        ("layer2.0.conv1", 8, 16),
        ("layer2.0.conv2", 16, 16),
        ("layer2.0.downsample.0", 8, 16),
        ("head", 16, 2),
    )
    assert labels(order) == [
        ("conv1", None, None, "stem"),
        ("layer1.0.conv1", 1, 0, "adjacent"),
        ("layer1.0.conv2", 1, 0, "adjacent"),
        ("layer1.1.conv1", 1, 1, "residual"),
        ("layer1.1.conv2", 1, 1, "residual"),
        ("layer2.0.conv1", 2, 0, "decomposition"),
        ("layer2.0.conv2", 2, 0, "adjacent"),
        ("layer2.0.downsample.0", 2, 0, "shortcut"),
        ("head", None, None, "head"),
    ]


def test_a_prefix_of_the_module_names_is_ignored():
    order = convolutions(("net.conv1", 3, 8), ("net.layer3.12.conv1", 8, 8))
    assert labels(order)[1] == ("net.layer3.12.conv1", 3, 12, "residual")


def test_the_other_common_name_of_a_shortcut():
    order = convolutions(("layer1.0.conv1", 4, 8), ("layer1.0.shortcut.0", 4, 8))
    assert [role for *_, role in labels(order)] == ["decomposition", "shortcut"]


def test_a_plain_network_has_a_block_per_number_of_channels():
    order = convolutions(("0", 1, 8), ("1", 8, 8), ("2", 8, 8), ("3", 8, 16), ("4", 16, 16))
    assert labels(order) == [
        ("0", None, None, "stem"),
        ("1", 1, 0, "residual"),
        ("2", 1, 1, "residual"),
        ("3", 2, 0, "decomposition"),
        ("4", 2, 1, "residual"),
    ]


def test_a_shortcut_of_a_plain_network_starts_no_block():
    order = convolutions(("0", 1, 8), ("1", 8, 8), ("skip_shortcut", 8, 32), ("2", 8, 8))
    assert labels(order)[2:] == [
        ("skip_shortcut", 1, 1, "shortcut"),
        ("2", 1, 1, "residual"),
    ]


def test_rows_have_the_structure_of_the_convolutions():
    order = {
        "a": nn.Conv2d(4, 8, (3, 5), stride=2, dilation=(1, 2), groups=2),
        "b": nn.ConvTranspose2d(8, 2, 2, bias=False),
    }
    first, second = describe(order)
    assert (first.order, second.order) == (0, 1)
    assert (first.in_channels, first.out_channels, first.groups) == (4, 8, 2)
    assert (first.kernel_size, first.stride, first.dilation) == ("3x5", "2x2", "1x2")
    assert first.weights == order["a"].weight.numel()
    assert not first.transposed
    assert second.transposed
    assert second.weights == torch.Size([8, 2, 2, 2]).numel()
