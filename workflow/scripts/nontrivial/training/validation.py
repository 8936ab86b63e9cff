"""The metric of a network on one split, for the learning curve."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nontrivial.data.batches import Normalization, Samples, streamed
from nontrivial.data.setup import Setup
from nontrivial.errors import UserError
from nontrivial.formats import samples as sample_table

# At 250 the fp32 forward pass of a PSPNet took 20 times as long per slice as at 64 (H100,
# deterministic cuDNN), longer than the training steps.
BATCH_SIZE = 64
METRICS = {"classification": "accuracy", "segmentation": "dice"}


def score(
    setup: Setup, split: str, data: Path, after_batch: Callable[[], None] = lambda: None
) -> float:
    """Return the accuracy or, for a segmentation, the mean Dice of a network on a split.

    The network runs in evaluation mode and fp32, as in prediction; its mode is then restored.

    Args:
        setup: network and split on the device.
        split: name of the split.
        data: folder of the prepared data, for the subjects of the slices.
        after_batch: called after each batch; an exception from it ends the scoring.
    """
    split_samples = setup.samples[split]
    if setup.description.task == "classification":
        return accuracy(setup.network, split_samples, setup.normalize, after_batch)
    subjects = sample_table.read(data / split / "samples.parquet")["subject"].to_numpy()
    classes = len(setup.description.classes)
    return mean_dice(setup.network, split_samples, setup.normalize, subjects, classes, after_batch)


@torch.inference_mode()
def accuracy(
    model: nn.Module,
    samples: Samples,
    normalize: Normalization,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """Return the share of samples whose largest logit is that of their label."""
    right = torch.zeros((), dtype=torch.int64, device=samples.device)
    for predicted, labels in _predictions(model, samples, normalize, after_batch):
        right += (predicted == labels).sum()
    return right.item() / len(samples)


@torch.inference_mode()
def mean_dice(
    model: nn.Module,
    samples: Samples,
    normalize: Normalization,
    subjects: np.ndarray,
    classes: int,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """Return the mean over subjects of the mean Dice over their foreground classes.

    Pixels are counted over all slices of a subject. A class that a subject does not have is left
    out of the subject's mean, and a subject without foreground is left out.

    Args:
        model: returns logits (N, K, H, W).
        samples: images and masks.
        normalize: from stored images to the network's input.
        subjects: (N,) subject of each slice.
        classes: K, background included.
        after_batch: called after each batch.

    Raises:
        UserError: no subject has foreground.
    """
    counts = [
        _confusions(predicted, masks, classes)
        for predicted, masks in _predictions(model, samples, normalize, after_batch)
    ]
    by_slice = torch.cat(counts, dim=1)[:, :, 1:].cpu().numpy()
    names, index = np.unique(subjects, return_inverse=True)
    sums = np.zeros((3, len(names), classes - 1), dtype=np.int64)
    for summed, added in zip(sums, by_slice, strict=True):
        np.add.at(summed, index, added)
    tp, fp, fn = sums
    has_class = tp + fn > 0
    dice = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    kept = has_class.any(axis=1)
    if not kept.any():
        raise UserError("no subject of the split has foreground; change how the data are split")
    return float(dice[kept].mean(axis=1, where=has_class[kept]).mean())


def _confusions(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Return true positive, false positive and false negative pixels, (3, N, K)."""
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
