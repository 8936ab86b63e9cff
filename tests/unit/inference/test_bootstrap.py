import numpy as np
import pytest
from scipy.stats import bootstrap

from nontrivial.inference.bootstrap import mean_intervals


def test_interval_agrees_with_scipys_percentile_bootstrap():
    scores = np.random.default_rng(0).beta(8, 2, 52)
    expected = bootstrap(
        (scores,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = mean_intervals(scores[:, None], np.random.default_rng(2))[0]
    # Two draws of 10,000 resamples: the quantiles' own spread is about 2% of the width.
    tolerance = 0.08 * (expected.high - expected.low)
    assert low == pytest.approx(expected.low, abs=tolerance)
    assert high == pytest.approx(expected.high, abs=tolerance)


def test_all_columns_come_from_the_same_resamples():
    scores = np.random.default_rng(0).random((30, 1))
    intervals = mean_intervals(np.hstack([scores, scores + 1, -scores]), np.random.default_rng(4))
    np.testing.assert_allclose(intervals[1], intervals[0] + 1, atol=1e-12)
    np.testing.assert_allclose(intervals[2], -intervals[0][::-1], atol=1e-12)


def test_a_constant_difference_has_an_interval_of_one_point():
    intervals = mean_intervals(np.full((20, 1), 0.25), np.random.default_rng(0))
    assert intervals.tolist() == [[0.25, 0.25]]


def test_equal_generators_give_equal_bytes():
    scores = np.random.default_rng(0).random((40, 3))
    first = mean_intervals(scores, np.random.default_rng(9))
    assert first.tobytes() == mean_intervals(scores, np.random.default_rng(9)).tobytes()
    assert first.tobytes() != mean_intervals(scores, np.random.default_rng(8)).tobytes()
