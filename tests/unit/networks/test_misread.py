"""Convolutions that torch may compute from the wrong memory."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nontrivial.networks.misread import SafeConvolutions

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"

ONE_COLUMN = nn.Conv2d(1, 4, (3, 6), (1, 3), bias=False), (9, 7)
ONE_COLUMN_3D = nn.Conv3d(1, 4, (2, 3, 6), (1, 1, 3)), (4, 9, 7)
ONE_DEPTH = nn.Conv3d(1, 4, 3, padding=1), (1, 9, 7)

cases = [
    (*ONE_COLUMN, True),
    (nn.Conv2d(3, 6, 3, (1, 2), groups=3), (9, 4), True),
    (nn.Conv2d(1, 4, 3, (1, 2)), (9, 5), False),  # two columns
    (nn.Conv2d(1, 4, 3, (1, 2)), (3, 4), False),  # one row
    (nn.Conv2d(2, 4, 3, (1, 2)), (9, 4), False),
    (nn.Conv2d(1, 4, (3, 1), (1, 2)), (9, 2), False),
    (nn.Conv2d(1, 4, 3, (2, 2)), (9, 4), False),
    (nn.Conv2d(1, 4, 3, (2, 1)), (9, 3), False),
    (nn.Conv1d(1, 4, 3, 2), (4,), False),
    (nn.ConvTranspose2d(1, 1, 3, (1, 2), (0, 1)), (9, 1), False),
    (*ONE_COLUMN_3D, True),
    (nn.Conv3d(1, 4, (2, 3, 6), (3, 1, 3)), (4, 9, 7), True),
    (nn.Conv3d(1, 4, (2, 3, 6), (1, 2, 3)), (4, 9, 7), False),
    (*ONE_DEPTH, True),
    (nn.Conv3d(2, 4, 3, groups=2, padding=1), (1, 9, 7), True),
    (nn.Conv3d(1, 4, 3, padding=1), (2, 9, 7), False),
    (nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1)), (1, 9, 7), False),
    (nn.Conv3d(2, 4, 3, padding=1), (1, 9, 7), False),
]


def channels_last(module, size, dtype=torch.float32):
    """Return (a copy of a convolution, images), both in channels-last memory."""
    torch.manual_seed(0)
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    layout = {"memory_format": formats[len(size)]} if len(size) > 1 else {}
    module = copy.deepcopy(module)
    module.reset_parameters()
    images = torch.randn(2, module.in_channels, *size)
    return module.to(dtype, **layout), images.to(dtype).clone(**layout)


class Reaching(TorchDispatchMode):
    """Records the arguments with which convolutions reach torch."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution" in func.name():
            self.calls.append(args)
        return func(*args, **(kwargs or {}))


def is_row_major(tensor):
    return tensor.stride() == torch.empty(tensor.shape).stride()


@torch.no_grad()
@pytest.mark.parametrize(("module", "size", "expected"), cases, ids=str)
def test_only_what_is_misread_is_computed_in_row_major_memory(module, size, expected):
    module, images = channels_last(module, size)
    with Reaching() as reaching, SafeConvolutions() as calls:
        module(images)
    ((found, weight, *_),) = reaching.calls
    assert len(calls.misread) == expected
    assert not calls.dilating
    if expected:
        assert is_row_major(found)
        assert is_row_major(weight)
    else:
        assert found.stride() == images.stride()
        assert weight is module.weight


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("module", "size"), [ONE_COLUMN, ONE_COLUMN_3D, ONE_DEPTH], ids=["2-D", "3-D", "one depth"]
)
def test_what_is_misread_is_right(module, size, dtype):
    module, images = channels_last(module, size, dtype)
    with SafeConvolutions():
        found = module(images).double()
    expected = module.double()(images.double())
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_other_devices_are_left_alone():
    module, size = ONE_COLUMN
    module, images = copy.deepcopy(module).to("meta"), torch.empty(2, 1, *size, device="meta")
    with SafeConvolutions() as calls:
        module(images)
    assert not calls.misread


def convolve(images, weight):
    return F.conv2d(images, weight, None, (1, 3))


def by_lists_of_one(images, weight):
    return torch.convolution(images, weight, None, (1, 3), (0,), (1,), False, (0,), 1)


ways = {
    "a function": convolve,
    "padding by name": lambda x, w: F.conv2d(x, w, None, (1, 3), "valid"),
    "one image": lambda x, w: torch.stack([convolve(image, w) for image in x]),
    "an operator": lambda x, w: torch.ops.aten.conv2d(x, w, None, (1, 3)),
    "lists of one": by_lists_of_one,
    "a trace": None,
}


@pytest.mark.filterwarnings("ignore")  # of torch.jit.trace
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("way", ways)
def test_whoever_calls_a_convolution(way, mode):
    module, images = channels_last(*ONE_COLUMN)
    weight = module.weight.detach()
    function = ways[way] or torch.jit.trace(convolve, (images, weight))
    with mode():
        expected = convolve(images.double(), weight.double())
        with SafeConvolutions() as calls:
            found = function(images, weight)
    assert calls.misread
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_conditional_network_runs():
    images, weight = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 3, 3)
    branches = F.conv2d, lambda x, w: 2 * F.conv2d(x, w)
    with SafeConvolutions():
        found = torch.cond(images.sum() < 1e9, *branches, (images, weight))
    torch.testing.assert_close(found, F.conv2d(images, weight))


@torch.no_grad()
@pytest.mark.parametrize(
    ("stride", "dilation", "expected"),
    [(2, 2, [2, 1]), ((2, 1), 2, [2, 2]), (2, (2, 1), [2, 1])],
)
def test_one_tap_with_a_stride_has_no_dilation(stride, dilation, expected):
    module = nn.Conv2d(4, 4, (3, 1), stride, dilation=dilation)
    with Reaching() as reaching, SafeConvolutions() as calls:
        module(torch.randn(2, 4, 9, 9))
    ((*_, reached, _, _, _),) = reaching.calls
    assert list(reached) == expected
    assert len(calls.dilating) == (expected != list(module.dilation))
    assert not calls.misread


def test_the_guard_does_not_import_the_compiler():
    """It takes a second of CPU time, in each job that predicts."""
    code = (
        "import sys, torch; from nontrivial.networks.misread import SafeConvolutions\n"
        "with SafeConvolutions(): torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 1, 1))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
