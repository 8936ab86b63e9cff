"""What the tests of convolution algorithms share: one convolution as replay computes it."""

import copy

import torch
from torch import nn

from nontrivial.networks.misread import SafeConvolutions
from nontrivial.replay.convolution_algorithms import choose_algorithm
from nontrivial.replay.folding import folded_parameters
from nontrivial.replay.graph import Kind
from nontrivial.replay.tracing import trace
from nontrivial.replay.value_numbering import convolution_geometry
from nontrivial.replay.winograd import TensorOptions, Workspace

CPU = torch.device("cpu")
FLOAT32 = TensorOptions(CPU, torch.float32)
TOLERANCE = 1e-5  # of the largest result, in float32


def prepared(module, images, options=FLOAT32, workspace=None):
    """Return a convolution as replay computes it for images of a size."""
    graph = trace(nn.Sequential(module).eval(), tuple(images.shape[1:]))
    (operation,) = (o for o in graph.operations if o.kind is Kind.CONVOLUTION)
    weight, bias = folded_parameters(operation, module.weight, module.bias, options.dtype)
    axes = convolution_geometry(graph, operation)
    return choose_algorithm(operation, weight, bias, axes, options, workspace or Workspace())


def memory_formats(images):
    """Return the images in every memory format that replay makes."""
    return [
        images,
        images.clone(memory_format=torch.channels_last),
        torch.cat([images, images])[len(images) :],
        images.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
    ]


def difference(found, expected, terms=None):
    """Return the largest difference relative to the largest value, or to the largest sum of terms.

    Terms that cancel give a value far smaller than themselves, but not a smaller error.
    """
    assert found.shape == expected.shape
    scale = (expected if terms is None else terms).abs().max().item()
    return (found.double() - expected).abs().max().item() / (scale or 1.0)


@torch.no_grad()
def compare(module, images, tolerance=TOLERANCE, options=FLOAT32):
    """Compare a convolution as replay computes it with torch's in float64."""
    expected = module.double()(images.double())
    terms = _magnitudes(module)(images.double().abs())
    module.float()
    convolve = prepared(module, images, options)
    for given in memory_formats(images):
        with SafeConvolutions():
            found = convolve(given.to(options.dtype))
        assert difference(found, expected, terms) <= tolerance


def _magnitudes(module):
    """Return the convolution whose weights are the absolute values."""
    positive = copy.deepcopy(module)
    for parameter in positive.parameters():
        parameter.abs_()
    return positive
