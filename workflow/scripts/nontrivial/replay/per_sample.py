"""The columns of the stored predictions, computed from logits."""

import torch
from torch import Tensor

Columns = dict[str, Tensor]


def classification(logits: Tensor, labels: Tensor) -> Columns:
    """Return the prediction of each image.

    Args:
        logits: (N, K) float32, K at least 2.
        labels: (N,) int64, true classes.

    Returns:
        ``predicted`` int16, ``margin`` float32 (largest minus second largest logit) and
        ``log_prob`` float32 (of the true class), each (N,). If logits are equal, the class
        with the lower number is predicted.
    """
    top = logits.topk(2, dim=1).values
    return {
        "predicted": logits.argmax(dim=1).to(torch.int16),
        "margin": top[:, 0] - top[:, 1],
        "log_prob": logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0],
    }


def segmentation(logits: Tensor, masks: Tensor) -> Columns:
    """Return the pixel counts of each slice and class.

    Args:
        logits: (N, K, H, W) float32.
        masks: (N, H, W), true classes, below K.

    Returns:
        ``tp``, ``fp``, ``fn`` int32, each (N, K): true positive, false positive and false
        negative pixels.
    """
    samples, classes = logits.shape[:2]
    predicted = logits.argmax(dim=1)
    sample = torch.arange(samples, device=logits.device)[:, None, None]
    cell = (sample * classes + masks.long()) * classes + predicted
    confusion = torch.bincount(cell.flatten(), minlength=samples * classes**2)
    confusion = confusion.view(samples, classes, classes)  # true class, predicted class
    right = confusion.diagonal(dim1=1, dim2=2)
    counts = {
        "tp": right,
        "fp": confusion.sum(dim=1) - right,
        "fn": confusion.sum(dim=2) - right,
    }
    return {name: count.to(torch.int32) for name, count in counts.items()}
