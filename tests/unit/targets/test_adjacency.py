"""Readings of "adjacent": which kernels of a block each of them keeps."""

import dataclasses
from pathlib import Path

import pytest

from nontrivial.networks.kernel_table import read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.targets.adjacency import READINGS, interior

TABLES = Path(__file__).parents[3] / "resources" / "kernels"


def block(network, number):
    table = read_table(TABLES / NETWORKS[network].table)
    return [kernel for kernel in table if kernel.block == number]


def kept(network, number, reading):
    kernels = block(network, number)
    zeroed = interior(reading, kernels)
    return [kernel.path for kernel in kernels if kernel not in zeroed]


@pytest.mark.parametrize(
    ("reading", "block_1", "block_4"),
    [
        ("first-unit", ["layer1.0.conv1", "layer1.0.conv2"], ["layer4.0.conv1", "layer4.0.conv2"]),
        ("next", ["layer1.0.conv1"], ["layer4.0.conv1", "layer4.0.conv2"]),
        (
            "both-sides",
            ["layer1.0.conv1", "layer1.2.conv2"],
            ["layer4.0.conv1", "layer4.0.conv2", "layer4.2.conv2"],
        ),
        ("none", [], ["layer4.0.conv1"]),
    ],
)
def test_kernels_that_each_reading_keeps_in_resnet34(reading, block_1, block_4):
    assert kept("resnet34", 1, reading) == block_1
    assert set(kept("resnet34", 4, reading)) == {*block_4, "layer4.0.downsample.0"}


@pytest.mark.parametrize(("reading", "units"), [("next", {0, 1}), ("both-sides", {0, 1, 5})])
def test_bottlenecks_are_kept_as_whole_units(reading, units):
    kernels = block("resnet50", 3)
    zeroed = interior(reading, kernels)
    assert {kernel.unit for kernel in kernels if kernel not in zeroed} == units
    assert {kernel.unit for kernel in zeroed} == set(range(6)) - units


def test_none_keeps_the_third_kernel_of_a_bottleneck_that_changes_the_width():
    assert kept("resnet50", 4, "none") == ["layer4.0.conv3", "layer4.0.downsample.0"]
    assert kept("resnet50", 4, "first-unit") == [
        *(f"layer4.0.conv{number}" for number in (1, 2, 3)),
        "layer4.0.downsample.0",
    ]


@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("reading", READINGS)
def test_decomposition_and_shortcut_kernels_are_never_zeroed(network, reading):
    for number in (1, 2, 3, 4):
        roles = {kernel.role for kernel in interior(reading, block(network, number))}
        assert not roles & {"decomposition", "shortcut"}


def chain(*kernels):
    """Return one block of kernels from (unit, role)."""
    (some, *_) = block("resnet18", 2)
    return [
        dataclasses.replace(some, order=order, path=str(order), unit=unit, role=role)
        for order, (unit, role) in enumerate(kernels)
    ]


@pytest.mark.parametrize("reading", ["first-unit", "next"])
def test_the_unit_after_a_lone_decomposition_kernel_is_adjacent(reading):
    darknet = [(0, "decomposition"), (1, "adjacent"), (2, "residual"), (2, "residual")]
    assert [kernel.unit for kernel in interior(reading, chain(*darknet))] == [2, 2]


def test_a_layer_is_the_unit_of_a_plain_network():
    plain = chain((0, "decomposition"), (1, "plain"), (2, "plain"))
    assert [kernel.unit for kernel in interior("first-unit", plain)] == [1, 2]
    assert interior("first-unit", chain((0, "decomposition"))) == []
