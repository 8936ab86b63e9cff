"""One pass of a network over a split: the reference that every faster way must equal."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nontrivial.compute.batches import Normalization, Samples, in_order
from nontrivial.compute.device import arithmetic, out_of_memory_explained
from nontrivial.errors import UserError
from nontrivial.experiment import answers


@dataclass(frozen=True)
class Question:
    """What a network is asked.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: number of classes, K.
        normalize: from stored values to the network's input.
        precision: ``fp32`` or ``bf16``.
        device: where the network is.
    """

    task: str
    classes: int
    normalize: Normalization
    precision: str
    device: torch.device


@torch.inference_mode()
def predict(
    model: torch.nn.Module, question: Question, samples: Samples, batch_size: int
) -> dict[str, np.ndarray]:
    """Return what every sample got, in stored order.

    Args:
        model: in evaluation mode, on the device.
        question: what it is asked.
        samples: images and labels, near the device.
        batch_size: samples in a forward pass; the last one may have fewer.

    Returns:
        The columns of :func:`nontrivial.experiment.answers.classification`, each (N,), or of
        :func:`nontrivial.experiment.answers.segmentation`, each (N, K).

    Raises:
        UserError: the logits are not finite or not of the shape that the task asks for, a
            label is no class number, or memory ran out.
    """
    answer = answers.classification if question.task == "classification" else answers.segmentation
    parts: list[answers.Columns] = []
    finite, known = [], []  # looked at after the pass: a look makes a GPU wait
    for rows in in_order(len(samples), batch_size, question.device):
        with out_of_memory_explained(batch_size):
            images, labels = samples.take(rows)
            logits = forward(model, images, question)
            finite.append(logits.isfinite().all())
            known.append((labels < question.classes).all())
            parts.append(answer(logits, labels.clamp(max=question.classes - 1)))
    if not torch.stack(known).all():
        raise UserError(
            f"labels: a value is not below the number of classes, {question.classes};"
            " delete the prepared data and prepare them again"
        )
    if not torch.stack(finite).all():
        raise UserError("the network's output is not finite: its weights are bad; train it again")
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}


@torch.inference_mode()
def forward(model: torch.nn.Module, images: Tensor, question: Question) -> Tensor:
    """Return the float32 logits of a batch of stored images.

    Args:
        model: in evaluation mode, on the device.
        images: (N, C, H, W) as stored, on the device.
        question: what it is asked.

    Returns:
        (N, K), or (N, K, H, W) in segmentation.

    Raises:
        UserError: the network's output is not of that shape.
    """
    with arithmetic(question.device, question.precision):
        logits = model(question.normalize(images))
    wanted = (len(images), question.classes)
    if question.task == "segmentation":
        wanted += tuple(images.shape[2:])
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != wanted:
        raise UserError(
            f"the network returns {found} for {question.task}, not {wanted}; correct its factory"
        )
    return logits.float()
