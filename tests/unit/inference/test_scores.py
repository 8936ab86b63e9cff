import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.inference.scores import Scores, mean_by_group


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_means_by_group_are_those_of_numpy(groups):
    names, index = np.unique(groups, return_inverse=True)
    values = np.random.default_rng(0).random((3, len(groups)))
    found = mean_by_group(values, index, len(names))
    for k in range(len(names)):
        assert found[:, k] == pytest.approx(values[:, index == k].mean(axis=1))


def test_scores_of_one_seed_keep_everything_else():
    values = np.arange(6.0).reshape(2, 3)
    volumes = np.array([1.0, 2.0])
    both = Scores("dice", "subject", values, values + 1, "a", None, 4, volumes)
    one = both.of_seed(1)
    assert (one.seeds, one.units, both.seeds) == (1, 3, 2)
    assert one.value.tolist() == [[3, 4, 5]]
    assert one.drop.tolist() == [[1, 1, 1]]
    assert (one.class_name, one.empty, one.false_positive_ml.tolist()) == ("a", 4, [2])
    assert Scores("dice", "subject", values, values).of_seed(0).false_positive_ml is None
