"""Predictions of every sample of a split, for all zeroing targets of a job."""

import logging
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from nontrivial.data.batches import streamed
from nontrivial.data.setup import Setup
from nontrivial.errors import UserError
from nontrivial.execution.device import out_of_memory_explained
from nontrivial.replay import Replay, per_sample

log = logging.getLogger("nontrivial")

REPORT_EVERY = 10.0  # seconds
_COMPARED = 250  # samples on which reduced precision is compared with fp32


@torch.inference_mode()
def predict(
    replay: Replay, setup: Setup, split: str, batch_size: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return the predictions of every sample, in stored order, by target.

    Args:
        replay: of the targets, on the device.
        setup: network and data on the device.
        split: name of the split.
        batch_size: samples in a batch; the last one may have fewer.

    Returns:
        For each target the columns of :func:`nontrivial.replay.per_sample.classification`,
        each (N,), or of :func:`nontrivial.replay.per_sample.segmentation`, each (N, K).
        Targets with the same output share them.

    Raises:
        UserError: the logits are not finite or do not have the task's shape, a label is not a
            class number, or memory ran out.
    """
    samples, classes = setup.samples[split], len(setup.description.classes)
    to_columns = getattr(per_sample, setup.description.task)
    parts: dict[tuple[str, ...], list[per_sample.Columns]] = {}
    finite, known = [], []  # read after the pass, because reading waits for a GPU
    progress = _Progress(len(samples), len(replay.statuses))
    with out_of_memory_explained(batch_size):
        for images, labels in streamed(samples, batch_size):
            known.append((labels < classes).all())
            labels = labels.clamp(max=classes - 1)
            for names, logits in outputs(replay, setup, images):
                finite.append(logits.isfinite().all())
                parts.setdefault(names, []).append(to_columns(logits, labels))
            progress.add(len(images))
    if not torch.stack(known).all():
        raise UserError(
            f"labels: a value is not below the number of classes, {classes};"
            " delete the prepared data and prepare it again"
        )
    if not torch.stack(finite).all():
        raise UserError(
            "the output of the network is not finite: its weights are damaged; train it again"
        )
    found = {}
    for names, batches in parts.items():
        columns = {
            column: torch.cat([batch[column] for batch in batches]).cpu().numpy()
            for column in batches[0]
        }
        found.update(dict.fromkeys(names, columns))
    return found


def outputs(
    replay: Replay, setup: Setup, images: Tensor
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield (targets, their logits) for a batch of stored images, each target once.

    Args:
        replay: of the targets, on the device.
        setup: network and data on the device.
        images: (N, C, H, W) as stored, on the device.

    Yields:
        Logits float32 (N, K), or (N, K, H, W) in segmentation.

    Raises:
        UserError: the output of the network has another shape.
    """
    wanted: tuple[int, ...] = (len(images), len(setup.description.classes))
    if setup.description.task == "segmentation":
        wanted += tuple(images.shape[2:])
    for names, logits in replay(setup.normalize(images)):
        if tuple(logits.shape) != wanted:
            raise UserError(
                f"the network returns {tuple(logits.shape)} for {setup.description.task},"
                f" not {wanted}; correct its factory"
            )
        yield names, logits


@torch.inference_mode()
def count_flips(
    reduced: Replay, exact: Replay, setup: Setup, split: str, batch_size: int
) -> Mapping[str, int]:
    """Count the predictions that reduced precision changes, on samples spread over the split.

    Args:
        reduced: replay in reduced precision.
        exact: replay of the same targets in fp32.
        setup: network and data on the device.
        split: name of the split.
        batch_size: samples in a batch.

    Returns:
        ``samples``, ``predictions`` (classes of samples, or of pixels, over all targets) and
        ``flipped``.
    """
    samples = setup.samples[split]
    rows = torch.linspace(0, len(samples) - 1, min(_COMPARED, len(samples))).long()
    predictions = flipped = 0
    with out_of_memory_explained(batch_size):
        for chosen in rows.split(batch_size):
            images, _ = samples.take(chosen)
            found: dict[str, Tensor] = {}
            for names, logits in outputs(exact, setup, images):
                found.update(dict.fromkeys(names, logits.argmax(dim=1)))
            for names, logits in outputs(reduced, setup, images):
                classes = logits.argmax(dim=1)
                for name in names:
                    predictions += classes.numel()
                    flipped += int((classes != found[name]).sum())
    return {"samples": len(rows), "predictions": predictions, "flipped": flipped}


class _Progress:
    """Logs the progress of a pass now and then."""

    def __init__(self, samples: int, targets: int):
        self._samples, self._targets = samples, targets
        self._done = 0
        self._started = self._logged = time.perf_counter()

    def add(self, samples: int) -> None:
        self._done += samples
        now = time.perf_counter()
        if now - self._logged < REPORT_EVERY:
            return
        self._logged = now
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
