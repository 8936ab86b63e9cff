import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_networks import state_digest
from torch import nn
from torch.nn.utils import parametrizations, prune

from nontrivial.errors import UserError
from nontrivial.networks.building import build
from nontrivial.replay.zeroing import same_bits, zeroed

RESNET = build("resnet18", None, 10, 3, (32, 32)).eval()
CONVOLUTIONS = [name for name, m in RESNET.named_modules() if isinstance(m, nn.Conv2d)]


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(same_bits(tensor, before[name]) for name, tensor in model.state_dict().items())


class StoppedError(Exception):
    pass


@settings(deadline=None, max_examples=20)
@given(paths=st.lists(st.sampled_from(CONVOLUTIONS), max_size=5), raises=st.booleans())
def test_weights_come_back_bit_by_bit_even_when_the_block_raises(paths, raises):
    before, digest = snapshot(RESNET), state_digest(RESNET)
    try:
        with zeroed(RESNET, paths):
            for path in CONVOLUTIONS:
                assert RESNET.get_submodule(path).weight.any() == (path not in paths)
            if raises:
                raise StoppedError
    except StoppedError:
        pass
    assert unchanged(RESNET, before)
    assert state_digest(RESNET) == digest


def test_signs_of_zero_and_nan_come_back():
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([-0.0, float("nan")]).view(2, 1, 1, 1)
    before = snapshot(model)
    with zeroed(model, ["0"]):
        pass
    assert unchanged(model, before)
    assert torch.signbit(model[0].weight[0]).all()


def test_the_bias_stays_and_the_output_is_the_bias():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    with zeroed(model, ["0"]), torch.inference_mode():
        output = model(torch.randn(2, 3, 8, 8))
    assert torch.equal(output, model[0].bias.detach()[None, :, None, None].expand_as(output))


def test_transposed_convolutions_and_channels_last_too():
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 3)).to(memory_format=torch.channels_last)
    before = snapshot(model)
    with zeroed(model, ["0"]):
        assert not model[0].weight.any()
    assert unchanged(model, before)


def test_a_weight_that_two_modules_share_is_zero_in_both_and_comes_back():
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    before = snapshot(model)
    with zeroed(model, ["0", "1"]):
        assert not model[0].weight.any()
        assert not model[1].weight.any()
    assert unchanged(model, before)
    assert before["0.weight"].any()


@pytest.mark.parametrize("path", ["bn1", "layer1", "layer1.0.conv9", ""])
def test_a_path_that_is_no_convolution_is_refused(path):
    before = snapshot(RESNET)
    with pytest.raises(UserError, match="is not a convolution"), zeroed(RESNET, ["conv1", path]):
        pass
    assert unchanged(RESNET, before)


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        lambda module: prune.l1_unstructured(module, "weight", amount=0.5),
    ],
)
def test_a_weight_that_is_computed_cannot_be_zeroed_and_is_refused(wrap):
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    wrap(model[0])
    with pytest.raises(UserError, match="computed from other parameters"), zeroed(model, ["0"]):
        pass


def test_weights_that_do_not_come_back_are_noticed():
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    with pytest.raises(RuntimeError, match="not restored"), zeroed(model, ["0"]):
        model.half()
