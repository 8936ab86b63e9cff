"""Predict a few slices, chosen by a written rule, once per zeroing target: maps to look at."""

import logging
from pathlib import Path

import numpy as np
import torch

from nontrivial.data.batches import fastest_memory_format, normalization
from nontrivial.data.example_slices import choose, shades
from nontrivial.data.prepared import read_description
from nontrivial.data.split_arrays import open_checked
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.formats import examples, samples
from nontrivial.formats.examples import Example
from nontrivial.formats.target_spec import read_spec
from nontrivial.networks.convolutions import convolutions
from nontrivial.networks.trained import load_trained
from nontrivial.replay import Replay
from nontrivial.replay.sweep import Question, outputs

log = logging.getLogger("nontrivial")


def predict_examples(settings: dict, data: Path, model: Path, targets: Path, output: Path) -> None:
    """Store image, truth and prediction of each example slice and target.

    Args:
        settings: ``network`` (``name``, ``factory``), ``precision``, ``split``, ``subjects``.
        data: folder of the prepared data, of a segmentation.
        model: weights in safetensors.
        targets: spec file of the targets.
        output: file to write (Parquet), slices in their order within targets in theirs.

    Raises:
        UserError: an input is missing or bad, or the task is no segmentation.
    """
    fix_arithmetic(torch.get_num_threads())
    device = devices.pick()
    description = read_description(data / "dataset.json")
    if description.task != "segmentation":
        raise UserError(f"{data}: example slices are for segmentation, not {description.task}")
    images, masks = open_checked(data, settings["split"], description)
    table = samples.read(data / settings["split"] / "samples.parquet").to_pydict()
    rows = choose(table["subject"], table["slice"], masks, settings["subjects"])

    network, _ = load_trained(settings["network"], description, model)
    wanted = read_spec(targets, convolutions(network))
    memory_format = fastest_memory_format(device, settings["precision"])
    network.to(device=device, memory_format=memory_format)
    question = Question(
        task=description.task,
        classes=len(description.classes),
        normalize=normalization(description.mean, description.std, device, memory_format),
    )
    with devices.out_of_memory_explained(len(rows)):
        replay = Replay(
            network,
            (description.channels, *description.size),
            {target.name: target.kernels for target in wanted},
            batch_size=len(rows),
            precision=settings["precision"],
        )
        predicted = _classes(replay, images[rows], question, device)

    log.info("%d targets, %d slices", len(wanted), len(rows))
    examples.write(
        output,
        [
            Example(
                sample=row,
                subject=table["subject"][row],
                slice=table["slice"][row],
                target=target.name,
                image=shades(images[row]),
                truth=masks[row],
                predicted=predicted[target.name][place],
            )
            for target in wanted
            for place, row in enumerate(rows)
        ],
    )


def _classes(
    replay: Replay, images: np.ndarray, question: Question, device: torch.device
) -> dict[str, np.ndarray]:
    """Return each target's class of every pixel, uint8 (N, H, W), of images (N, C, H, W)."""
    classes = {}
    for names, logits in outputs(replay, question, torch.from_numpy(images).to(device)):
        if not logits.isfinite().all():
            raise UserError(
                "the network's output is not finite: its weights are bad; train it again"
            )
        found = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        classes.update(dict.fromkeys(names, found))
    return classes


if __name__ == "__main__":
    command_line.run(predict_examples)
