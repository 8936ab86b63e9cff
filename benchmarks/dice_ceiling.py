"""Print the Dice that an oracle reaches on the grid of a segmentation network's logits.

    python benchmarks/dice_ceiling.py --data results/data/hippocampus

Prints JSON, and the same as a table to standard error. A network that computes logits on a coarse
grid and upsamples them cannot draw every contour, however well it is trained. The oracle knows the
masks. It chooses the logits on that grid; the network's own upsampling enlarges them, and the class
with the largest logit is the prediction. Grid and upsampling are taken from the network, built for
the size of the data.

The oracle's Dice is computed like the workflow's, so you can compare it with ``training.parquet``:
the mean over subjects of the mean over foreground classes, with counts summed over a subject's
slices. It is a lower bound of the true ceiling, because Adam finds a good prediction but not
necessarily the best one. The loss goes from smooth to sharp. Cross-entropy dominates at first, and
at the end the soft Dice of increasingly large logits, which approaches the Dice of the prediction.
The best prediction found is kept. The result of a search with half as many iterations is printed
too. If it is much lower, increase --iterations. Slices without foreground need no search: all
background is the correct prediction.

``foreground`` is the Dice of the same prediction with all foreground classes merged.
``right_class`` is the Dice if each foreground pixel that was predicted as foreground also had its
true class. If ``right_class`` is near 1 and ``dice`` is not, classes are the limit. If
``right_class`` is not near 1, contours are the limit.

With --model, the same figures of a trained network, in fp32, are printed beside the oracle's.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# As in the workflow's programs: OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1250")

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.data.batches import MappedSamples, normalization, streamed
from nontrivial.data.prepared import open_checked
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.command_line import log
from nontrivial.execution.reproducibility import fix_arithmetic, seed_everything
from nontrivial.formats import samples
from nontrivial.formats.dataset import SPLITS, Description, read_description
from nontrivial.inference.dice import by_subject
from nontrivial.networks.building import build
from nontrivial.networks.registry import NETWORKS
from nontrivial.networks.trained import load_trained
from nontrivial.training.losses import one_hot, soft_dice_loss
from nontrivial.training.validation import BATCH_SIZE

CPU = torch.device("cpu")  # a GPU sums the gradient of the upsampling in no fixed order
PIXELS = 1 << 21  # searched together; each takes about 100 bytes with three classes
CHECK = 10  # iterations between two evaluations of the prediction
ITERATIONS = 400
# From the first iteration to the last, in equal ratios. Of a dozen schedules, this one reached the
# highest Dice on the hippocampus at 1 mm (0.909 on five subjects; soft Dice alone 0.894) and on
# masks that the grid can represent.
RATE = (1.0, 0.01)
SHARPNESS = (2.0, 100.0)  # logits are multiplied by this in the loss
CROSS_ENTROPY = (1.0, 0.1)  # weight relative to the soft Dice


# The network's grid.


@dataclass(frozen=True)
class Grid:
    """The last step from a network's coarse logits to its output.

    Attributes:
        size: (height, width) of the map that the upsampling enlarges.
        upsampling: the network's own module, from (N, K, h, w) to (N, K, H, W).
    """

    size: tuple[int, int]
    upsampling: nn.Module


@torch.inference_mode()
def find_grid(model: nn.Module, channels: int, size: tuple[int, int]) -> Grid:
    """Return the grid of a network's logits, observed in a forward pass.

    Raises:
        UserError: the logits do not come from an upsampling module.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def see(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.append((module, inputs[0], output))

    modules = [module for module in model.modules() if isinstance(module, nn.Upsample)]
    hooks = [module.register_forward_hook(see) for module in modules]
    try:
        logits = model.eval()(torch.zeros(1, channels, *size))
    finally:
        for hook in hooks:
            hook.remove()
    if not calls or not torch.equal(calls[-1][2], logits):
        raise UserError(
            "the network's last step is not a torch.nn.Upsample, so it has no coarse grid; choose"
            " another network"
        )
    upsampling, coarse, _ = calls[-1]
    return Grid(tuple(coarse.shape[2:]), upsampling)


# The oracle.


def search(masks: Tensor, classes: int, grid: Grid, iterations: int) -> np.ndarray:
    """Search for the logits on the grid whose prediction has the highest Dice.

    Args:
        masks: (N, H, W), slices of one subject with foreground.
        classes: K, the background included.
        grid: of the logits.
        iterations: of the search, which ends early if all pixels are correct.

    Returns:
        Confusions of the best prediction, (N, K, K).
    """
    truth = one_hot(masks, classes)
    logits = torch.zeros(len(masks), classes, *grid.size, requires_grad=True)
    optimizer = torch.optim.Adam([logits])
    best, best_score = np.empty(0), -1.0
    for iteration in range(iterations + 1):
        enlarged = grid.upsampling(logits)
        if iteration % CHECK == 0:
            answer = confusions(enlarged.detach().max(dim=1).indices, masks, classes)
            score = mean_dice(subject_dice(np.zeros(len(masks)), answer))
            if score > best_score:
                best, best_score = answer, score
            if best_score == 1:
                break
        done = iteration / iterations
        optimizer.param_groups[0]["lr"] = between(RATE, done)
        sharp = (enlarged * between(SHARPNESS, done)).log_softmax(dim=1)
        loss = soft_dice_loss(sharp.exp(), truth)
        loss = loss - between(CROSS_ENTROPY, done) * (truth * sharp).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best


def between(ends: tuple[float, float], done: float) -> float:
    """Interpolate geometrically at a fraction of the way."""
    return ends[0] * (ends[1] / ends[0]) ** done


def search_split(
    masks: np.ndarray, subjects: np.ndarray, classes: int, grid: Grid, iterations: int
) -> np.ndarray:
    """Return the best confusions of all slices, (N, K, K).

    Args:
        masks: (N, H, W), in memory or memory-mapped.
        subjects: (N,) name of the subject of each slice.
        classes: K, the background included.
        grid: of the logits.
        iterations: of each search.
    """
    pixels = masks[0].size
    best = np.zeros((len(masks), classes, classes), dtype=np.int64)
    best[:, 0, 0] = pixels  # correct for slices without foreground
    for subject, rows in groups(masks, subjects, max(1, PIXELS // pixels)):
        best[rows] = search(torch.from_numpy(masks[rows]), classes, grid, iterations)
        score = mean_dice(subject_dice(subjects[rows], best[rows]))
        log.info("%s: %.4f after %d iterations", subject, score, iterations)
    return best


def groups(masks: np.ndarray, subjects: np.ndarray, most: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (subject, rows) of slices with foreground, with at most this many rows."""
    foreground = np.array([mask.any() for mask in masks])
    for subject in np.unique(subjects):
        rows = np.flatnonzero(foreground & (subjects == subject))
        for first in range(0, len(rows), most):
            yield subject, rows[first : first + most]


# Scores.


def confusions(predicted: Tensor, masks: Tensor, classes: int) -> np.ndarray:
    """Return the pixels of each slice by true and predicted class, int64 (N, K, K)."""
    numbers = torch.arange(len(masks))[:, None, None]
    cells = (numbers * classes + masks.long()) * classes + predicted
    counts = torch.bincount(cells.flatten(), minlength=len(masks) * classes**2)
    return counts.view(len(masks), classes, classes).numpy()


def merged(confusions: np.ndarray) -> np.ndarray:
    """Return the confusions of background and foreground, (N, 2, 2)."""
    return np.add.reduceat(np.add.reduceat(confusions, [0, 1], axis=1), [0, 1], axis=2)


def rightly_named(confusions: np.ndarray) -> np.ndarray:
    """Return the confusions as if detected foreground had its true class."""
    named = confusions.copy()
    named[:, 1:, 1:] = 0
    diagonal = np.arange(1, confusions.shape[1])
    named[:, diagonal, diagonal] = confusions[:, 1:, 1:].sum(axis=2)
    return named


def subject_dice(subjects: np.ndarray, confusions: np.ndarray) -> np.ndarray:
    """Return the Dice of every subject and foreground class, (S, K - 1)."""
    tp = confusions.diagonal(axis1=1, axis2=2)
    fp, fn = confusions.sum(axis=1) - tp, confusions.sum(axis=2) - tp
    return by_subject(subjects, tp, fp, fn)[1][:, 1:]


def figures(subjects: np.ndarray, confusions: np.ndarray, names: list[str]) -> dict:
    """Return all variants of Dice; ``names`` are those of the classes."""
    dice = subject_dice(subjects, confusions)
    return {
        "dice": rounded(dice),
        "right_class": rounded(subject_dice(subjects, rightly_named(confusions))),
        "foreground": rounded(subject_dice(subjects, merged(confusions))),
        "per_class": {name: rounded(dice[:, k]) for k, name in enumerate(names[1:])},
    }


def mean_dice(dice: np.ndarray) -> float:
    """Return the mean over subjects of the mean over the classes that they have."""
    dice = dice.reshape(len(dice), -1)
    kept = dice[~np.isnan(dice).all(axis=1)]
    return float(np.nanmean(kept, axis=1).mean())


def rounded(dice: np.ndarray) -> float:
    return round(mean_dice(dice), 6)


@torch.inference_mode()
def ask(model: nn.Module, description: Description, split: MappedSamples) -> np.ndarray:
    """Return the confusions of a trained network's predictions, (N, K, K)."""
    normalize = normalization(description.mean, description.std, CPU)
    return np.concatenate(
        [
            confusions(model(normalize(images)).argmax(dim=1), masks, len(description.classes))
            for images, masks in streamed(split, BATCH_SIZE)
        ]
    )


# The program.


def measure(arguments: argparse.Namespace) -> dict:
    """Return what the program prints.

    Raises:
        UserError: the data, the network and its weights do not belong together.
    """
    description = read_description(arguments.data / "dataset.json")
    if description.task != "segmentation":
        raise UserError(f"{arguments.data}: Dice needs masks; give segmentation data")
    names = description.classes
    images, masks = open_checked(arguments.data, arguments.split, description)
    table = samples.read(arguments.data / arguments.split / "samples.parquet")
    subjects = np.array(table["subject"].to_pylist())
    seed_everything(0)
    built = build(arguments.network, None, len(names), description.channels, description.size)
    grid = find_grid(built, description.channels, description.size)
    half, whole = (
        search_split(masks, subjects, len(names), grid, iterations)
        for iterations in (arguments.iterations // 2, arguments.iterations)
    )
    report = {
        "data": arguments.data.name,
        "split": arguments.split,
        "network": arguments.network,
        "classes": names,
        "subjects": len(np.unique(subjects)),
        "slices": len(masks),
        "slices_with_foreground": int((whole[:, 1:].sum(axis=(1, 2)) > 0).sum()),
        "size": list(description.size),
        "grid": list(grid.size),
        "upsampling": {
            "mode": grid.upsampling.mode,
            "align_corners": grid.upsampling.align_corners,
        },
        "iterations": arguments.iterations,
        "ceiling_with_half_the_iterations": figures(subjects, half, names),
        "ceiling": figures(subjects, whole, names),
    }
    if arguments.model:
        factory = NETWORKS[arguments.network].factory
        model, _ = load_trained(
            {"factory": factory}, description.factory_arguments, arguments.model
        )
        answers = ask(model, description, MappedSamples(images, masks, CPU))
        report["trained"] = figures(subjects, answers, names)
    return report | {"versions": devices.versions()}


def shown(report: dict) -> str:
    """Return the report as readable lines."""
    lines = [
        f"{report['data']}, {report['split']}: {report['subjects']} subjects,"
        f" {report['slices_with_foreground']} of {report['slices']} slices with foreground;"
        f" logits {report['grid'][0]} x {report['grid'][1]} for"
        f" {report['size'][0]} x {report['size'][1]} pixels",
        row("", ["Dice", "right class", "foreground", *report["classes"][1:]]),
    ]
    for name in ("ceiling_with_half_the_iterations", "ceiling", "trained"):
        if found := report.get(name):
            dice = (found["dice"], found["right_class"], found["foreground"])
            values = [f"{value:.4f}" for value in (*dice, *found["per_class"].values())]
            lines.append(row(name.replace("_", " "), values))
    return "\n".join(lines)


def row(name: str, cells: list[str]) -> str:
    return f"  {name:<34}" + "".join(f"{cell:<14}" for cell in cells).rstrip()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    segmenting = [name for name, entry in NETWORKS.items() if entry.task == "segmentation"]
    made.add_argument("--data", type=Path, required=True, help="folder of prepared data")
    made.add_argument("--split", choices=SPLITS, default="val")
    made.add_argument("--network", choices=segmenting, default="pspnet_resnet34")
    made.add_argument("--model", type=Path, help="its trained weights (safetensors)")
    made.add_argument("--iterations", type=int, default=ITERATIONS, help=f"default {ITERATIONS}")
    made.add_argument(
        "--threads", type=int, help="number of CPU threads; by default, torch's choice"
    )
    return made


def main(arguments: argparse.Namespace) -> None:
    fix_arithmetic(arguments.threads)
    report = measure(arguments)
    print(shown(report), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.call(lambda: main(parser().parse_args()))
