"""What random tests draw does not depend on the tests before them."""

import random

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("run", [1, 2])
def test_every_test_starts_from_the_same_rng_states(run):
    assert random.random() == random.Random(0).random()
    assert np.random.random() == np.random.RandomState(0).random()
    expected = torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(1), expected)
