"""Replay on the networks that come with the workflow, and on those of other libraries."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torchvision
from replay_networks import TOLERANCE, check, close, digits, naive_loop, replayed, scrambled
from torch import nn

from nontrivial.networks.building import build
from nontrivial.networks.convolutions import convolutions
from nontrivial.networks.kernel_table import read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.replay import Replay
from nontrivial.targets.enumeration import enumerate_targets

TABLES = Path(__file__).parents[3] / "resources" / "kernels"
SHAPES = {"pspnet_resnet34": (1, 48, 48), "resnet34-cifar": (3, 16, 16)}


def shape_of(name):
    return SHAPES.get(name, (3, 32, 32))


@lru_cache(maxsize=1)  # tests of one network run after each other
def calibrated(name):
    """Return a network of random weights with normalization that fits its inputs."""
    torch.manual_seed(0)
    channels, *size = shape_of(name)
    model = build(name, None, 10, channels, tuple(size))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are those of the last batch
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.5)
    with torch.no_grad():
        model.train()(digits(16, shape_of(name)))
    return model.eval()


def workflow_targets(name):
    kernels = read_table(TABLES / NETWORKS[name].table)
    sets = ["layer", "block", "shortcut"]
    targets = enumerate_targets(kernels, sets, ["first-unit"], {}, "set")
    return {target.name: list(target.kernels) for target in targets}


def some(name, step):
    """Return the baseline, every ``step``-th target, and one of each role and block."""
    targets = workflow_targets(name)
    chosen = dict(list(targets.items())[::step])
    kernels = read_table(TABLES / NETWORKS[name].table)
    seen = set()
    for kernel in kernels:
        if (kernel.role, kernel.block) not in seen:
            seen.add((kernel.role, kernel.block))
            chosen[f"layer-{kernel.path}"] = targets[f"layer-{kernel.path}"]
    chosen["all"] = list(convolutions(calibrated(name)))
    return chosen


def compare(name, targets, images, batch_size):
    model = calibrated(name)
    expected = naive_loop(model, targets, images, batch_size)
    scale = max(output.abs().max().item() for output in expected.values())
    for reference in (True, False):
        replay = Replay(model, shape_of(name), targets, batch_size=batch_size, reference=reference)
        assert replay.method == "torch.fx"
        found = replayed(replay, images, batch_size)
        for target, output in expected.items():
            if reference:
                assert torch.equal(found[target], output), target
            else:
                assert close(found[target], output, scale, TOLERANCE), target
                assert torch.equal(found[target].argmax(1), output.argmax(1)), target
    return replay


def test_every_target_of_resnet34():
    replay = compare("resnet34", workflow_targets("resnet34"), digits(8, (3, 32, 32)), 5)
    assert {name for name, status in replay.statuses.items() if status != "ok"} == {"layer-conv1"}
    assert replay.statuses["layer-conv1"] == "cut"


def test_bfloat16_is_as_close_to_float32_as_automatic_mixed_precision():
    name = "resnet34"
    model, targets = calibrated(name), some(name, 20)
    images = digits(4, shape_of(name))
    exact = naive_loop(model, targets, images, 4)
    mixed = naive_loop(model, targets, images, 4, "bf16")
    options = {"batch_size": 4, "precision": "bf16"}
    found = replayed(Replay(model, shape_of(name), targets, **options), images, 4)
    scale = max(output.abs().max().item() for output in exact.values())

    def error(outputs):
        return sum((outputs[target] - exact[target]).square().mean() for target in targets).sqrt()

    assert error(found) <= 1.5 * error(mixed)
    # Random weights amplify the rounding of thirty layers.
    assert all(close(found[target], mixed[target], scale, 0.15) for target in targets)
    reference = Replay(model, shape_of(name), targets, reference=True, **options)
    for target, output in replayed(reference, images, 4).items():
        assert torch.equal(output, mixed[target]), target


@pytest.mark.parametrize(
    ("name", "step", "count"),
    [("resnet34-cifar", 12, 2), ("resnet50", 12, 4), ("pspnet_resnet34", 25, 2)],
)
def test_targets_of_every_role_and_block(name, step, count):
    replay = compare(name, some(name, step), digits(count, shape_of(name)), count)
    cut = {target for target, status in replay.statuses.items() if status == "cut"}
    ends = {"decoder.conv.0", "segmentation_head.0"} if name.startswith("pspnet") else set()
    stem = "encoder.conv1" if name.startswith("pspnet") else "conv1"
    assert cut == {"all", *(f"layer-{path}" for path in {stem, *ends})} & set(replay.statuses)
    assert "no_effect" not in replay.statuses.values()


@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar"])
def test_the_other_networks_are_traced_and_planned(name):
    model = build(name, None, 10, 3, (32, 32)).eval()
    replay = Replay(model, (3, 32, 32), workflow_targets(name), batch_size=8)
    assert replay.method == "torch.fx"
    assert replay.cost.clean + replay.cost.recomputed < replay.cost.passes


def torchvisions(name):
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5)


def unet():
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=2)


@pytest.mark.parametrize(
    "make",
    [torchvisions("shufflenet_v2_x0_5"), torchvisions("mobilenet_v3_small"), unet],
    ids=["shufflenet", "mobilenet", "unet"],
)
def test_networks_of_other_libraries(make):
    torch.manual_seed(0)
    model = scrambled(make(), 0)
    paths = list(convolutions(model))
    targets = {"baseline": [], **{path: [path] for path in paths[::12]}, "two": paths[5::20]}
    assert check(model, digits(3, (3, 32, 32)), targets).method == "torch.fx"
