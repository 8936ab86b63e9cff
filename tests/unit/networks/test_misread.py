"""Convolutions that torch may compute from the wrong memory."""

import pytest
import torch
from torch import nn

from nontrivial.networks.misread import computed_safely, dilates_one_tap, may_skip_rows

pairs = [
    (nn.Conv2d(1, 4, 3, (1, 2)), True),
    (nn.Conv2d(3, 6, 3, (1, 2), groups=3), True),
    (nn.Conv2d(2, 4, 3, (1, 2)), False),
    (nn.Conv2d(1, 4, (3, 1), (1, 2)), False),
    (nn.Conv2d(1, 4, 3, (2, 2)), False),
    (nn.Conv2d(1, 4, 3, (2, 1)), False),
    (nn.Conv1d(1, 4, 3, 2), False),
    (nn.ConvTranspose2d(1, 4, 3, (1, 2)), False),
]


@pytest.mark.parametrize(("module", "expected"), pairs, ids=str)
def test_which_convolutions_may_skip_rows(module, expected):
    assert may_skip_rows(module) == expected
    assert not dilates_one_tap(module)


def test_which_convolutions_dilate_one_tap():
    assert dilates_one_tap(nn.Conv2d(4, 4, (3, 1), 2, dilation=2))
    assert not dilates_one_tap(nn.Conv2d(4, 4, (3, 1), (2, 1), dilation=2))
    assert not dilates_one_tap(nn.Conv2d(4, 4, (3, 1), 2, dilation=(2, 1)))


@pytest.mark.parametrize("stride", [(1, 3), (3, 3)])
def test_only_a_network_that_holds_one_runs_without_onednn(stride):
    model = nn.Sequential(nn.Conv2d(1, 1, 5, stride))
    before = torch.backends.mkldnn.enabled
    with computed_safely(model):
        assert torch.backends.mkldnn.enabled == (before and stride == (3, 3))
    assert torch.backends.mkldnn.enabled == before
