"""Normalizations folded into convolutions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_networks import check, digits, scrambled
from torch import nn

from nontrivial.replay.folding import fold, folded_parameters
from nontrivial.replay.graph import Kind
from nontrivial.replay.tracing import trace

SHAPE = (1, 8, 8)


def folded(layers, shape):
    """Return a network and its graph after folding."""
    model = scrambled(nn.Sequential(*layers), 1)
    return model, fold(trace(model, shape))


def kinds(graph):
    """Return the kinds of the operations that the output depends on, in order."""
    needed, waiting = set(), [graph.output]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting.extend(graph.operations[index].inputs)
    found = (graph.operations[index].kind for index in sorted(needed))
    return [kind for kind in found if kind is not Kind.PARAMETER]


@st.composite
def pairs(draw):
    """Draw (convolution, normalization after it, shape of a sample)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    sides = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 2, 3]))
    before, after = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    options = {
        "stride": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 1)),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    kind = {False: [nn.Conv1d, nn.Conv2d, nn.Conv3d]}.get(
        transposed, [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    )[sides - 1]
    module = kind(before, after, draw(st.integers(1, 3)), **options)
    normalization = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][sides - 1](
        after, eps=draw(st.sampled_from([1e-5, 1e-2, 1.0])), affine=draw(st.booleans())
    )
    return module, normalization, (before, *[5] * sides)


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_a_folded_pair_computes_the_same(drawn):
    module, normalization, shape = drawn
    model, graph = folded([module, normalization], shape)
    operation = graph.operations[graph.output]
    assert kinds(graph) == [Kind.INPUT, Kind.CONVOLUTION]
    assert operation.normalization is not None
    weight, bias = folded_parameters(operation, module.weight, module.bias, torch.float64)
    images = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double()(images)
        found = operation.function(images, weight, bias)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_bare_convolution_is_only_cast(dtype):
    _, graph = folded([nn.Conv2d(1, 4, 3, bias=False)], SHAPE)
    operation = graph.operations[graph.output]
    given_ = torch.randn(4, 1, 3, 3)
    weight, bias = folded_parameters(operation, given_, None, dtype)
    assert torch.equal(weight, given_.to(dtype))
    assert torch.equal(bias, torch.zeros(4, dtype=dtype))


class Branching(nn.Module):
    """A convolution that two operations read."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) * x


def test_a_convolution_with_other_readers_is_not_folded():
    torch.manual_seed(0)
    model = scrambled(Branching(), 1)
    graph = fold(trace(model, SHAPE))
    assert Kind.NORMALIZATION in kinds(graph)
    check(model, digits(4))


def test_only_the_first_of_two_normalizations_is_folded():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()]
    model, graph = folded(layers, SHAPE)
    assert kinds(graph) == [Kind.INPUT, Kind.CONVOLUTION, Kind.NORMALIZATION, Kind.RELU]
    check(model, digits(4))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3)],
        [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)],
        [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)],
    ],
)
def test_a_normalization_elsewhere_is_not_folded(layers):
    torch.manual_seed(0)
    model, graph = folded(layers, SHAPE)
    assert Kind.NORMALIZATION in kinds(graph)
    check(model, digits(4))


def test_a_normalization_by_the_batch_is_not_folded():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()]
    model, graph = folded(layers, SHAPE)
    assert Kind.NORMALIZATION not in kinds(graph)
    check(model, digits(4), {"baseline": []})


def test_zeroed_kernels_keep_the_folded_bias():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)]
    model, _ = folded(layers, SHAPE)
    norm = model[1]
    constant = norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
    replay = check(model, digits(4))
    ((_, output),) = [item for item in replay(digits(4)) if "0" in item[0]]
    torch.testing.assert_close(output, constant.detach()[:, None, None].expand(4, 4, 6, 6))
