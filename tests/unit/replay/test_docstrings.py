"""The examples in the docstrings of the engine and of its geometry run and are true."""

import doctest

import pytest

from nontrivial.networks import tap_geometry
from nontrivial.replay import engine


@pytest.mark.parametrize("module", [engine, tap_geometry], ids=lambda module: module.__name__)
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
