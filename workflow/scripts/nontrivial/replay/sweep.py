"""What every sample of a split gets from a network, for all zeroing targets of a job."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nontrivial.data.batches import Normalization, Samples, streamed
from nontrivial.errors import UserError
from nontrivial.execution.device import out_of_memory_explained
from nontrivial.replay import Replay, per_sample

log = logging.getLogger("nontrivial")

REPORT_EVERY = 10.0  # seconds
_COMPARED = 250  # samples on which reduced precision is compared with fp32


@dataclass(frozen=True)
class Question:
    """What a network is asked.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: number of classes, K.
        normalize: from stored values to the network's input.
    """

    task: str
    classes: int
    normalize: Normalization


@torch.inference_mode()
def predict(
    replay: Replay, question: Question, samples: Samples, batch_size: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return what every sample got, in stored order, by target.

    Args:
        replay: of the targets, on the device.
        question: what the network is asked.
        samples: images and labels, near the device.
        batch_size: samples in a batch; the last one may have fewer.

    Returns:
        For each target the columns of :func:`nontrivial.replay.per_sample.classification`,
        each (N,), or of :func:`nontrivial.replay.per_sample.segmentation`, each (N, K).
        Targets with one output share them.

    Raises:
        UserError: the logits are not finite or not of the shape that the task asks for, a
            label is no class number, or memory ran out.
    """
    answer = (
        per_sample.classification if question.task == "classification" else per_sample.segmentation
    )
    parts: dict[tuple[str, ...], list[per_sample.Columns]] = {}
    finite, known = [], []  # looked at after the pass: a look makes a GPU wait
    progress = _Progress(len(samples), len(replay.statuses))
    with out_of_memory_explained(batch_size):
        for images, labels in streamed(samples, batch_size):
            known.append((labels < question.classes).all())
            labels = labels.clamp(max=question.classes - 1)
            for names, logits in outputs(replay, question, images):
                finite.append(logits.isfinite().all())
                parts.setdefault(names, []).append(answer(logits, labels))
            progress.add(len(images))
    if not torch.stack(known).all():
        raise UserError(
            f"labels: a value is not below the number of classes, {question.classes};"
            " delete the prepared data and prepare them again"
        )
    if not torch.stack(finite).all():
        raise UserError("the network's output is not finite: its weights are bad; train it again")
    got = {}
    for names, batches in parts.items():
        columns = {
            column: torch.cat([batch[column] for batch in batches]).cpu().numpy()
            for column in batches[0]
        }
        got.update(dict.fromkeys(names, columns))
    return got


def outputs(
    replay: Replay, question: Question, images: Tensor
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield (targets, their logits) for a batch of stored images, each target once.

    Args:
        replay: of the targets, on the device.
        question: what the network is asked.
        images: (N, C, H, W) as stored, on the device.

    Yields:
        Logits float32 (N, K), or (N, K, H, W) in segmentation.

    Raises:
        UserError: the network's output is not of that shape.
    """
    wanted = (len(images), question.classes)
    if question.task == "segmentation":
        wanted += tuple(images.shape[2:])
    for names, logits in replay(question.normalize(images)):
        if tuple(logits.shape) != wanted:
            raise UserError(
                f"the network returns {tuple(logits.shape)} for {question.task}, not {wanted};"
                " correct its factory"
            )
        yield names, logits


@torch.inference_mode()
def count_flips(
    reduced: Replay, exact: Replay, question: Question, samples: Samples, batch_size: int
) -> Mapping[str, int]:
    """Count the predictions that reduced precision changes, on samples spread over the split.

    Args:
        reduced: the replay in question.
        exact: of the same targets, in fp32.
        question: what the network is asked.
        samples: images and labels, near the device.
        batch_size: samples in a batch.

    Returns:
        ``samples``, ``predictions`` (classes of samples, or of pixels, over all targets) and
        ``flipped``.
    """
    rows = torch.linspace(0, len(samples) - 1, min(_COMPARED, len(samples))).long()
    predictions = flipped = 0
    with out_of_memory_explained(batch_size):
        for chosen in rows.split(batch_size):
            images, _ = samples.take(chosen)
            found: dict[str, Tensor] = {}
            for names, logits in outputs(exact, question, images):
                found.update(dict.fromkeys(names, logits.argmax(dim=1)))
            for names, logits in outputs(reduced, question, images):
                classes = logits.argmax(dim=1)
                for name in names:
                    predictions += classes.numel()
                    flipped += int((classes != found[name]).sum())
    return {"samples": len(rows), "predictions": predictions, "flipped": flipped}


class _Progress:
    """Says now and then how far a pass is."""

    def __init__(self, samples: int, targets: int):
        self._samples, self._targets = samples, targets
        self._done = 0
        self._started = self._said = time.perf_counter()

    def add(self, samples: int) -> None:
        self._done += samples
        now = time.perf_counter()
        if now - self._said < REPORT_EVERY:
            return
        self._said = now
        rate = self._done / (now - self._started)
        log.info(
            "%d of %d samples, %d targets: %.0f samples/s (%.0f predictions/s), %.0f s left",
            self._done,
            self._samples,
            self._targets,
            rate,
            rate * self._targets,
            (self._samples - self._done) / rate,
        )
