import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from nontrivial.replay import per_sample

shapes = st.tuples(st.integers(1, 6), st.integers(2, 5))
seeds = st.integers(0, 2**31)


@settings(deadline=None)
@given(shape=shapes, seed=seeds)
def test_classification_agrees_with_numpy_and_scipy(shape, seed):
    samples, classes = shape
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=shape).astype(np.float32) * 5
    labels = rng.integers(0, classes, samples)
    got = per_sample.classification(torch.from_numpy(logits), torch.from_numpy(labels))
    ranked = np.sort(logits, axis=1)
    np.testing.assert_array_equal(got["predicted"], logits.argmax(axis=1))
    np.testing.assert_array_equal(got["margin"], ranked[:, -1] - ranked[:, -2])
    wanted = log_softmax(logits.astype(np.float64), axis=1)[np.arange(samples), labels]
    np.testing.assert_allclose(got["log_prob"], wanted, rtol=1e-5, atol=1e-6)
    assert [got[name].dtype for name in ("predicted", "margin", "log_prob")] == [
        torch.int16,
        torch.float32,
        torch.float32,
    ]


def test_of_equal_logits_the_lower_class_is_predicted():
    logits = torch.zeros(3, 4)
    assert (
        per_sample.classification(logits, torch.zeros(3, dtype=torch.int64))["predicted"]
        .eq(0)
        .all()
    )


@settings(deadline=None)
@given(shape=shapes, height=st.integers(1, 5), width=st.integers(1, 5), seed=seeds)
def test_segmentation_counts_pixels_of_every_class(shape, height, width, seed):
    samples, classes = shape
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(samples, classes, height, width)).astype(np.float32)
    masks = rng.integers(0, classes, (samples, height, width), dtype=np.uint8)
    got = per_sample.segmentation(torch.from_numpy(logits), torch.from_numpy(masks))
    predicted = logits.argmax(axis=1)
    for k in range(classes):
        said, true = predicted == k, masks == k
        np.testing.assert_array_equal(got["tp"][:, k], (said & true).sum(axis=(1, 2)))
        np.testing.assert_array_equal(got["fp"][:, k], (said & ~true).sum(axis=(1, 2)))
        np.testing.assert_array_equal(got["fn"][:, k], (~said & true).sum(axis=(1, 2)))
    assert all(column.dtype == torch.int32 for column in got.values())
