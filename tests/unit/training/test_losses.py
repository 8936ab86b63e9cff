import math

import pytest
import torch

from nontrivial.training.losses import (
    SMOOTHING,
    classification_loss,
    segmentation_loss,
    soft_dice_loss,
)


def test_classification_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
    labels = torch.tensor([1])
    assert classification_loss(logits, labels, 0.0).item() == pytest.approx(-math.log(0.75))
    smoothed = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))  # 0.2 over two classes
    assert classification_loss(logits, labels, 0.2).item() == pytest.approx(smoothed)


def test_soft_dice_by_hand():
    # Two pixels, three classes; class 2 is absent and its probability is zero.
    probabilities = torch.tensor([[[[0.2, 0.6]], [[0.8, 0.4]], [[0.0, 0.0]]]])
    truth = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]]])
    first = (2 * 0.8 + SMOOTHING) / (1.2 + 1.0 + SMOOTHING)
    assert soft_dice_loss(probabilities, truth).item() == pytest.approx(1 - (first + 1) / 2)


def test_segmentation_is_the_weighted_sum_by_hand():
    logits = torch.tensor([[[[0.0]], [[math.log(3.0)]]]])
    masks = torch.tensor([[[1]]], dtype=torch.uint8)
    entropy, dice = -math.log(0.75), 1 - (2 * 0.75 + SMOOTHING) / (1.75 + SMOOTHING)
    for weight in (0.0, 0.3, 1.0):
        expected = (1 - weight) * entropy + weight * dice
        assert segmentation_loss(logits, masks, 0.0, weight).item() == pytest.approx(expected)


def test_perfect_prediction_costs_nothing():
    masks = torch.randint(0, 3, (4, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = 100.0 * torch.nn.functional.one_hot(masks, 3).movedim(-1, 1).float()
    for weight in (0.0, 0.5, 1.0):
        assert segmentation_loss(logits, masks, 0.0, weight).item() == pytest.approx(0, abs=1e-6)


def test_cross_entropy_part_equals_torch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 3, 5, 4), generator=generator, requires_grad=True)
    masks = torch.randint(0, 3, (2, 5, 4), generator=generator)
    ours = segmentation_loss(logits, masks.to(torch.uint8), 0.1, 0.0)
    theirs = torch.nn.functional.cross_entropy(logits, masks, label_smoothing=0.1)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_class_missing_from_the_batch_keeps_the_loss_finite():
    logits = torch.randn((2, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    loss = segmentation_loss(logits.requires_grad_(), torch.zeros(2, 6, 6), 0.0, 1.0)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
