"""Predict a few example slices, chosen by a fixed rule, once for each zeroing target."""

from pathlib import Path

import numpy as np

from nontrivial.data.batches import streamed
from nontrivial.data.example_slices import choose, shades
from nontrivial.data.prepared import open_checked
from nontrivial.data.setup import Setup, set_up
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.command_line import log
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.formats import examples, samples
from nontrivial.formats.dataset import read_description
from nontrivial.formats.examples import Example
from nontrivial.formats.target_spec import read_spec
from nontrivial.networks.convolutions import convolutions
from nontrivial.networks.trained import load_trained
from nontrivial.replay import Replay
from nontrivial.replay.sweep import outputs


def predict_examples(
    settings: dict,
    data: Path,
    model: Path,
    targets: Path,
    output: Path,
    threads: int | None = None,
) -> None:
    """Store image, true mask and predicted mask of each example slice and target.

    Args:
        settings: ``network`` (``name``, ``factory``, ``arguments``), ``precision``, ``split``,
            ``subjects``.
        data: folder of the prepared data of a segmentation.
        model: weights (safetensors).
        targets: spec file of the targets.
        output: file to write (Parquet), sorted by target, then by slice.
        threads: CPU threads; None leaves torch's default.

    Raises:
        UserError: an input is missing or damaged, or the task is not segmentation.
    """
    fix_arithmetic(threads)
    description = read_description(data / "dataset.json")
    if description.task != "segmentation":
        raise UserError(f"{data}: example slices need a segmentation, not {description.task}")
    images, masks = open_checked(data, settings["split"], description)
    table = samples.read(data / settings["split"] / "samples.parquet").to_pydict()
    rows = choose(table["subject"], table["slice"], masks, settings["subjects"])

    network, _ = load_trained(settings["network"], description.factory_arguments, model)
    wanted = read_spec(targets, convolutions(network))
    chosen = {"examples": (images[rows], masks[rows])}
    setup = set_up(network, description, chosen, settings["precision"])
    with devices.out_of_memory_explained(len(rows)):
        replay = Replay(
            network,
            (description.channels, *description.size),
            {target.name: target.kernels for target in wanted},
            batch_size=len(rows),
            precision=settings["precision"],
        )
        predicted = _classes(replay, setup, len(rows))

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


def _classes(replay: Replay, setup: Setup, batch_size: int) -> dict[str, np.ndarray]:
    """Return each target's predicted class of every pixel of the examples, uint8 (N, H, W)."""
    ((images, _),) = streamed(setup.samples["examples"], batch_size)
    classes = {}
    for names, logits in outputs(replay, setup, images):
        if not logits.isfinite().all():
            raise UserError(
                "the output of the network is not finite: its weights are damaged; train it again"
            )
        found = logits.argmax(dim=1).cpu().numpy().astype(np.uint8)
        classes.update(dict.fromkeys(names, found))
    return classes


if __name__ == "__main__":
    command_line.run(predict_examples)
