"""Loss functions."""

import torch
from torch import Tensor
from torch.nn import functional

# Pixels added to numerator and denominator: a class that is absent from a batch, and not predicted,
# costs nothing, and no denominator is zero.
SMOOTHING = 1.0


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) and labels (N,)."""
    return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def segmentation_loss(
    logits: Tensor, masks: Tensor, label_smoothing: float, dice_weight: float
) -> Tensor:
    """Return (1 - w) * cross-entropy + w * soft Dice loss.

    Cross-entropy is written as a sum over one-hot classes, because torch's own for images sums in
    no fixed order on a GPU.

    Args:
        logits: (N, K, H, W).
        masks: (N, H, W), class numbers.
        label_smoothing: of the cross-entropy only.
        dice_weight: w, from 0 to 1.
    """
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    truth = one_hot(masks, logits.shape[1])
    smoothed = truth * (1 - label_smoothing) + label_smoothing / logits.shape[1]
    cross_entropy = -(smoothed * log_probabilities).sum(dim=1).mean()
    if dice_weight == 0:
        return cross_entropy
    dice = soft_dice_loss(log_probabilities.exp(), truth)
    return (1 - dice_weight) * cross_entropy + dice_weight * dice


def soft_dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - mean over foreground classes of the batch's soft Dice.

    Per class, sums run over all pixels of the batch: (2 * sum(p * t) + s) / (sum(p) +
    sum(t) + s) with s = :data:`SMOOTHING`. Class 0 is the background.

    Args:
        probabilities: (N, K, H, W).
        truth: (N, K, H, W), one-hot.
    """
    pixels = (0, 2, 3)
    both = (probabilities * truth).sum(dim=pixels)
    total = probabilities.sum(dim=pixels) + truth.sum(dim=pixels)
    return 1 - ((2 * both + SMOOTHING) / (total + SMOOTHING))[1:].mean()


def one_hot(masks: Tensor, classes: int) -> Tensor:
    """Return the one-hot encoding, float (N, K, H, W), of a mask (N, H, W)."""
    numbers = torch.arange(classes, device=masks.device)[None, :, None, None]
    return (masks[:, None] == numbers).float()
