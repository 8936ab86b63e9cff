"""One pass of a network over a split: the reference that every faster way must equal."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nontrivial import answers
from nontrivial.batches import Normalization, Samples, in_order
from nontrivial.device import arithmetic, out_of_memory_explained
from nontrivial.errors import UserError


@dataclass(frozen=True)
class Problem:
    """What a network is asked.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: number of classes, K.
        samples: images and labels, near the device.
        normalize: from stored values to the network's input.
        batch_size: samples in a forward pass; the last one may have fewer.
        precision: ``fp32`` or ``bf16``.
        device: where the network is.
    """

    task: str
    classes: int
    samples: Samples
    normalize: Normalization
    batch_size: int
    precision: str
    device: torch.device


@torch.inference_mode()
def predict(model: torch.nn.Module, problem: Problem) -> dict[str, np.ndarray]:
    """Return what every sample got, in stored order.

    Args:
        model: in evaluation mode, on the device.
        problem: what it is asked.

    Returns:
        The columns of :func:`nontrivial.answers.classification`, each (N,), or of
        :func:`nontrivial.answers.segmentation`, each (N, K).

    Raises:
        UserError: the logits are not finite or not of the shape that the task asks for, a
            label is no class number, or memory ran out.
    """
    answer = answers.classification if problem.task == "classification" else answers.segmentation
    parts: list[answers.Columns] = []
    finite, known = [], []  # looked at after the pass: a look makes a GPU wait
    for rows in in_order(len(problem.samples), problem.batch_size, problem.device):
        with out_of_memory_explained(problem.batch_size):
            images, labels = problem.samples.take(rows)
            logits = forward(model, images, problem)
            finite.append(logits.isfinite().all())
            known.append((labels < problem.classes).all())
            parts.append(answer(logits, labels.clamp(max=problem.classes - 1)))
    if not torch.stack(known).all():
        raise UserError(
            f"labels: a value is not below the number of classes, {problem.classes};"
            " delete the prepared data and prepare them again"
        )
    if not torch.stack(finite).all():
        raise UserError("the network's output is not finite: its weights are bad; train it again")
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}


@torch.inference_mode()
def forward(model: torch.nn.Module, images: Tensor, problem: Problem) -> Tensor:
    """Return the float32 logits of a batch of stored images.

    Args:
        model: in evaluation mode, on the device.
        images: (N, C, H, W) as stored, on the device.
        problem: what it is asked; its samples are not read.

    Returns:
        (N, K), or (N, K, H, W) in segmentation.

    Raises:
        UserError: the network's output is not of that shape.
    """
    with arithmetic(problem.device, problem.precision):
        logits = model(problem.normalize(images))
    wanted = (len(images), problem.classes)
    if problem.task == "segmentation":
        wanted += tuple(images.shape[2:])
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != wanted:
        raise UserError(
            f"the network returns {found} for {problem.task}, not {wanted}; correct its factory"
        )
    return logits.float()
