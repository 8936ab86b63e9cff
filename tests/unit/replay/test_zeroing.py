"""Zeroed kernels, and that they are restored bit by bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_networks import state_digest
from torch import nn
from torch.nn.utils import parametrizations, prune

from nontrivial.errors import UserError
from nontrivial.replay.zeroing import same_bits, zeroed


def unit():
    return nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())


NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), *[unit() for _ in range(5)]).eval()
CONVOLUTIONS = [name for name, m in NETWORK.named_modules() if isinstance(m, nn.Conv2d)]


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(same_bits(tensor, before[name]) for name, tensor in model.state_dict().items())


class StoppedError(Exception):
    pass


@settings(deadline=None)
@given(paths=st.lists(st.sampled_from(CONVOLUTIONS), max_size=5), raises=st.booleans())
def test_weights_are_restored_bit_by_bit_even_when_the_block_raises(paths, raises):
    before, digest = snapshot(NETWORK), state_digest(NETWORK)
    try:
        with zeroed(NETWORK, paths):
            for path in CONVOLUTIONS:
                assert NETWORK.get_submodule(path).weight.any() == (path not in paths)
            if raises:
                raise StoppedError
    except StoppedError:
        pass
    assert unchanged(NETWORK, before)
    assert state_digest(NETWORK) == digest


def test_signs_of_zero_and_nan_are_restored():
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([-0.0, float("nan")]).view(2, 1, 1, 1)
    before = snapshot(model)
    with zeroed(model, ["0"]):
        pass
    assert unchanged(model, before)
    assert torch.signbit(model[0].weight[0]).all()


def test_the_bias_keeps_its_value_and_is_the_output():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    with zeroed(model, ["0"]), torch.inference_mode():
        output = model(torch.randn(2, 3, 8, 8))
    assert torch.equal(output, model[0].bias.detach()[None, :, None, None].expand_as(output))


def test_transposed_convolutions_and_channels_last():
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 3)).to(memory_format=torch.channels_last)
    before = snapshot(model)
    with zeroed(model, ["0"]):
        assert not model[0].weight.any()
    assert unchanged(model, before)


def test_a_weight_that_two_modules_share_is_zero_in_both_and_restored():
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    before = snapshot(model)
    with zeroed(model, ["0", "1"]):
        assert not model[0].weight.any()
        assert not model[1].weight.any()
    assert unchanged(model, before)
    assert before["0.weight"].any()


@pytest.mark.parametrize("path", ["1.1", "1", "1.9", ""])
def test_a_path_that_is_no_convolution_is_refused(path):
    before = snapshot(NETWORK)
    with pytest.raises(UserError, match="is not a convolution"), zeroed(NETWORK, ["0", path]):
        pass
    assert unchanged(NETWORK, before)


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        lambda module: prune.l1_unstructured(module, "weight", amount=0.5),
    ],
)
def test_a_computed_weight_is_refused(wrap):
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    wrap(model[0])
    with pytest.raises(UserError, match="computed from other parameters"), zeroed(model, ["0"]):
        pass


def test_weights_that_cannot_be_restored_are_reported():
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    with pytest.raises(RuntimeError, match="not restored"), zeroed(model, ["0"]):
        model.half()
