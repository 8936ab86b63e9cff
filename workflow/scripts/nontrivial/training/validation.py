"""The score of a network on one split, for the learning curve."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from nontrivial.data.batches import Normalization, Samples, streamed
from nontrivial.inference.dice import by_subject

# At 250 the fp32 forward pass of a PSPNet took 20 times as long per slice as at 64 (H100,
# deterministic cuDNN), more than the training beside it.
BATCH_SIZE = 64
METRICS = {"classification": "accuracy", "segmentation": "dice"}


@torch.inference_mode()
def accuracy(
    model: nn.Module,
    samples: Samples,
    normalize: Normalization,
    device: torch.device,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """Return the fraction of samples whose largest logit is that of their label.

    In evaluation mode and fp32, like predict; the mode of the model is put back. What
    ``after_batch`` raises, between two batches, ends it.
    """
    right = torch.zeros((), dtype=torch.int64, device=device)
    for predicted, labels in _predictions(model, samples, normalize, after_batch):
        right += (predicted == labels).sum()
    return right.item() / len(samples)


@torch.inference_mode()
def mean_dice(
    model: nn.Module,
    samples: Samples,
    normalize: Normalization,
    device: torch.device,
    subjects: np.ndarray,
    classes: int,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """Return the mean over subjects of the mean Dice over foreground classes.

    In evaluation mode and fp32, like predict; the mode of the model is put back.

    Args:
        model: gives logits (N, K, H, W).
        samples: images and masks.
        normalize: what the network's input went through in training.
        device: where the model is.
        subjects: (N,) name of the subject of each slice.
        classes: K, the background included.
        after_batch: called between two batches; what it raises ends the scoring.
    """
    counts = [
        _confusions(predicted, masks, classes)
        for predicted, masks in _predictions(model, samples, normalize, after_batch)
    ]
    tp, fp, fn = torch.cat(counts, dim=1).cpu().numpy()
    _, values = by_subject(subjects, tp, fp, fn)
    return float(values[:, 1:].mean(axis=1).mean())


def _confusions(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Return (3, N, K): pixels of each class that are right, wrongly there, missed."""
    numbers = torch.arange(classes, device=masks.device)[None, :, None, None]
    said, true = predicted[:, None] == numbers, masks[:, None] == numbers
    return torch.stack([said & true, said & ~true, ~said & true]).sum(dim=(3, 4))


def _predictions(
    model: nn.Module,
    samples: Samples,
    normalize: Normalization,
    after_batch: Callable[[], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    was_training = model.training
    model.eval()
    try:
        for images, labels in streamed(samples, BATCH_SIZE):
            yield model(normalize(images)).argmax(dim=1), labels
            after_batch()
    finally:
        model.train(was_training)
