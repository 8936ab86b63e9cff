"""Compare the workflow's training loop with a standard PyTorch loop, in samples per second.

    python benchmarks/train.py --network resnet34 pspnet_resnet34

Prints JSON, and the same as a table to standard error. Both sides have the same network with the
same initial weights, and the same samples, batch size, number of steps, kinds of augmentation and
thread count. They take turns in one process, round by round, after one round of each that does not
count. The goal is a ratio of 1.3 on two CPU cores and of 5 on a GPU.

"Ours" is ``nontrivial.training.loop.Training``. A round is one of its epochs, without validation.
The same loop also runs in fp32, which shows how much of the gain comes from the arithmetic and how
much from loading data. With --compile, the chosen precision also runs compiled.

"Theirs" is the standard loop: a torch Dataset over the same arrays in memory, a DataLoader
(shuffled, full batches, persistent workers, pinned memory on a GPU), torchvision's transforms v2 on
each sample, SGD with Nesterov momentum, OneCycleLR and cross-entropy (our loss in segmentation).
The loss is read once per round. The precision is fp32 on the CPU and automatic mixed precision in
bf16 on a GPU. Everything else has torch's defaults: contiguous images, no fused optimizer, no
compilation, cuDNN free to choose. It runs with each number of --workers, and the ratio is relative
to the fastest of them.

Both are timed by one clock around the round, which includes waiting for the device. Our side
includes the checks at the end of an epoch. Their side includes the first batch, which no worker has
prepared ahead. Without --data, images and labels are random, because speed does not depend on
values.

    python benchmarks/train.py --to-accuracy 0.84 --data FOLDER --device cuda \
        --configfile config/config.yaml --training cifar10-resnet34

Times one training from the start to its score on the test split (Dice in segmentation), with seed
0, and reports whether the score reached the number. The time starts with the process and includes
imports, all epochs of the recipe, validation after each epoch as in the workflow, and the test
score. It does not include preparing the data. Requires Linux, which reports when a process started.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

# As in the workflow's programs: OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1250")

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.data.prepared import open_checked
from nontrivial.data.setup import set_up
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.command_line import log
from nontrivial.execution.reproducibility import fix_arithmetic, seed_everything
from nontrivial.formats.dataset import SPLITS, Description, read_description
from nontrivial.networks.building import build
from nontrivial.networks.live_convolutions import without_dead_taps
from nontrivial.networks.registry import NETWORKS
from nontrivial.planning.configuration import DATASET_TASKS, complete, read_schema
from nontrivial.planning.plan import Plan
from nontrivial.training.augmentation import Augmentation
from nontrivial.training.loop import Epoch, Training
from nontrivial.training.losses import segmentation_loss
from nontrivial.training.misfits import refuse_misfit
from nontrivial.training.recipe import Recipe, read_recipe
from nontrivial.training.validation import METRICS, score

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
ROUNDS = 5
# A round starts with an empty queue of batches. On a GPU, where steps are short, a round must be
# long enough to make that negligible.
STEPS = {"cpu": 20, "cuda": 200}
TO_REACH = {"cpu": 1.3, "cuda": 5.0}


@dataclass(frozen=True)
class Defaults:
    """Random samples and the settings of a recipe for them."""

    batch_size: int
    size: int
    channels: int
    classes: int
    recipe: dict


DEFAULTS = {
    "classification": Defaults(128, 32, 3, 10, {"augmentation": {"crop_padding": 4, "flip": True}}),
    "segmentation": Defaults(
        16,
        64,
        1,
        3,
        {
            "dice_weight": 0.5,
            "augmentation": {
                "flip": True,
                "rotation": 10,
                "scale": 0.1,
                "translation": 0.05,
                "brightness": 0.1,
                "contrast": 0.1,
            },
        },
    ),
}
LEARNING_RATE = 0.01  # low enough for random labels


@dataclass(frozen=True)
class Case:
    """A network and samples that both sides train.

    Attributes:
        task: ``classification`` or ``segmentation``.
        network: builds the network on the CPU, with the same weights each time.
        images: (N, C, H, W), bytes or float32, in memory; N is the number of samples per round.
        labels: (N,) int64, or (N, H, W) uint8.
        mean: per channel, in stored units.
        std: per channel, in stored units.
        recipes: by variant of ours, the chosen one first; they differ only in arithmetic.
            Their epochs are the rounds, including the one that does not count.
        device: where both sides train.
    """

    task: str
    network: Callable[[], nn.Module]
    images: np.ndarray
    labels: np.ndarray
    mean: list[float]
    std: list[float]
    recipes: dict[str, Recipe]
    device: torch.device

    @property
    def chosen(self) -> str:
        return next(iter(self.recipes))

    @property
    def recipe(self) -> Recipe:
        return self.recipes[self.chosen]


# Our side.


def ours(case: Case, recipe: Recipe) -> Iterator[Epoch]:
    """Train one round at each step of the iterator."""
    channels, *size = case.images.shape[1:]
    description = Description(
        task=case.task,
        classes=[],
        channels=channels,
        size=tuple(size),
        dtype=str(case.images.dtype),
        mean=case.mean,
        std=case.std,
        counts={"train": len(case.images)},
        sha256={},
    )
    arrays = {"train": (case.images, case.labels)}
    setup = set_up(case.network(), description, arrays, recipe.precision, case.device)
    training = Training(setup, recipe, SEED, lambda: 0.0)
    with without_dead_taps(setup.network, channels, tuple(size)):
        yield from training.run()


# Their side.


class InMemory(Dataset):
    """A standard dataset: one transformed sample at a time."""

    def __init__(self, case: Case) -> None:
        self.images, self.labels = case.images, case.labels
        self.masked = case.task == "segmentation"
        self.transform = transforms(case)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor | int]:
        image = torch.from_numpy(self.images[row])
        if not self.masked:
            return self.transform(image), int(self.labels[row])
        mask = tv_tensors.Mask(torch.from_numpy(self.labels[row]))
        return self.transform(tv_tensors.Image(image), mask)


class Intensity(v2.Transform):
    """Change brightness and contrast of a normalized image as our side does.

    ColorJitter multiplies the brightness and clips to 0 to 1, which does not suit MRI.
    """

    def __init__(self, brightness: float, contrast: float) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast

    def make_params(self, flat_inputs: list) -> dict[str, float]:
        first, second = torch.empty(2).uniform_(-1, 1).tolist()
        return {"factor": 1 + self.contrast * first, "added": self.brightness * second}

    def transform(self, inpt: Tensor, params: dict[str, float]) -> Tensor:
        if isinstance(inpt, tv_tensors.Mask):
            return inpt
        mean = inpt.mean()
        return (inpt - mean) * params["factor"] + mean + params["added"]


def transforms(case: Case) -> v2.Compose:
    """Return torchvision's equivalents of the recipe's augmentation and normalization."""
    change: Augmentation = case.recipe.augmentation
    chain: list[nn.Module] = []
    if change.crop_padding:
        chain.append(v2.RandomCrop(case.images.shape[2:], padding=change.crop_padding))
    if change.flip:
        chain.append(v2.RandomHorizontalFlip())
    if change.affine:
        chain.append(
            v2.RandomAffine(
                change.rotation,
                translate=(change.translation, change.translation),
                scale=(1 - change.scale, 1 + change.scale),
                interpolation=v2.InterpolationMode.BILINEAR,  # masks always use the nearest pixel
            )
        )
    # Bytes are scaled to 0 to 1; floats stay as they are.
    scale = 255.0 if case.images.dtype == np.uint8 else 1.0
    chain += [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([x / scale for x in case.mean], [x / scale for x in case.std]),
    ]
    if change.brightness or change.contrast:
        chain.append(Intensity(change.brightness, change.contrast))
    return v2.Compose(chain)


def theirs(case: Case, workers: int) -> Iterator[float]:
    """Train one round at each step of the iterator, which yields the last loss."""
    recipe, gpu = case.recipe, case.device.type == "cuda"
    model = case.network().to(case.device).train()
    loader = DataLoader(
        InMemory(case),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=gpu,
        persistent_workers=workers > 0,
    )
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * len(loader)
    )
    for _ in range(recipe.epochs):
        # Settings of our side for reproducible results do not apply to theirs.
        with torch.backends.cudnn.flags(enabled=True):
            for images, labels in loader:
                images = images.to(case.device, non_blocking=True)
                labels = labels.to(case.device, non_blocking=True)
                optimizer.zero_grad()
                with torch.autocast(case.device.type, dtype=torch.bfloat16, enabled=gpu):
                    loss = their_loss(case, model(images), labels)
                loss.backward()
                optimizer.step()
                schedule.step()
        yield loss.item()


def their_loss(case: Case, logits: Tensor, labels: Tensor) -> Tensor:
    recipe = case.recipe
    if case.task == "segmentation":
        return segmentation_loss(logits, labels, recipe.label_smoothing, recipe.dice_weight)
    return functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)


# Times.


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that the work takes, including work on the GPU."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, workers: list[int]) -> dict[str, object]:
    """Return the measurements of both sides."""
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack, without_lines():
        sides = {name: ours(case, recipe) for name, recipe in case.recipes.items()}
        sides |= {f"theirs_workers_{count}": theirs(case, count) for count in workers}
        for name, side in sides.items():
            stack.enter_context(closing(side))
            next(side)  # the round that is not counted
            taken[name] = []
        for _ in range(case.recipe.epochs - 1):
            for name, side in sides.items():
                taken[name].append(seconds(partial(next, side), case.device))
    return figures_of(case, taken)


@contextmanager
def without_lines() -> Iterator[None]:
    """Silence the loop's messages: they describe one training, but here several take turns."""
    level = log.level
    log.setLevel("WARNING")
    try:
        yield
    finally:
        log.setLevel(level)


def figures_of(case: Case, taken: dict[str, list[float]]) -> dict[str, object]:
    """Return rates and ratios from the seconds of each side in each round."""
    middle = {name: median(values) for name, values in taken.items()}
    fastest = min((name for name in taken if name not in case.recipes), key=middle.__getitem__)
    return {
        "rounds": len(taken[fastest]),
        "ours": case.chosen,
        "fastest_of_theirs": fastest,
        "ratio": {name: ratios(taken[fastest], taken[name]) for name in case.recipes},
        "to_reach": TO_REACH[case.device.type],
        "seconds": {name: spread(values) for name, values in taken.items()},
        "samples_per_second": {
            name: rounded(len(case.images) / value) for name, value in middle.items()
        },
    }


def ratios(of: list[float], to: list[float]) -> dict[str, float]:
    """Return the ratio of the seconds of two sides, over the rounds."""
    return spread([first / second for first, second in zip(of, to, strict=True)])


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: rounded(value) for name, value in found.items()}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


# The cases.


def complete_recipe(network: str, settings: dict) -> Recipe:
    """Return a checked recipe of a built-in network, with the workflow's defaults.

    Raises:
        UserError: a key is unknown or its value not allowed.
    """
    task = NETWORKS[network].task
    source = next(name for name, of in DATASET_TASKS.items() if of == task)
    training = {"dataset": "data", "network": network, "recipe": settings}
    config = {
        "datasets": {"data": {"source": source}},
        "trainings": {"benchmark": training},
        "experiments": {"benchmark": {"training": "benchmark"}},
    }
    _, recipe = training_of(config, "benchmark")
    return recipe


def training_of(config: dict, training: str) -> tuple[dict, Recipe]:
    """Return (network, recipe) of a training as the workflow's rule receives them.

    The network is its ``name`` and ``factory`` (or None).

    Raises:
        UserError: the configuration is wrong or has no such training.
    """
    filled = complete(config, read_schema(ROOT / "config" / "schema.yaml"))
    if training not in filled["trainings"]:
        raise UserError(
            f"--training: no training {training!r}; the configuration has"
            f" {', '.join(filled['trainings'])}"
        )
    settings = json.loads(Plan(filled, ROOT).training_settings(training))
    return settings["network"], read_recipe(settings["recipe"])


def make_case(name: str, arguments: argparse.Namespace) -> tuple[Case, dict[str, object]]:
    """Return a network's case and its description."""
    task = NETWORKS[name].task
    defaults = DEFAULTS[task]
    steps = arguments.steps or STEPS[arguments.device]
    batch_size = arguments.batch_size or defaults.batch_size
    recipes = make_recipes(name, batch_size, arguments)
    count = steps * batch_size
    if arguments.data:
        description = read_description(arguments.data / "dataset.json")
        refuse_misfit(name, description, next(iter(recipes.values())), arguments.data)
        stored = open_checked(arguments.data, "train", description)
        if len(stored[0]) < count:
            raise UserError(
                f"{arguments.data}: train has {len(stored[0])} samples, and {steps} steps of"
                f" {batch_size} need {count}; lower --steps or --batch-size"
            )
        images, labels = (np.array(array[:count]) for array in stored)
        classes, mean, std = len(description.classes), description.mean, description.std
    else:
        images, labels = random_samples(task, count, arguments.size or defaults.size)
        classes = defaults.classes
        mean, std = (
            [float(x) for x in function(images, axis=(0, 2, 3))] for function in (np.mean, np.std)
        )
    channels, size = images.shape[1], images.shape[2:]

    def network() -> nn.Module:
        seed_everything(SEED)
        return build(name, None, classes, channels, size)

    device = torch.device(arguments.device)
    case = Case(task, network, images, labels, mean, std, recipes, device)
    about = {
        "network": name,
        "data": arguments.data.name if arguments.data else "random",
        "batch_size": batch_size,
        "steps_per_round": steps,
        "samples_per_round": count,
        "size": list(size),
        "channels": channels,
        "classes": classes,
    }
    return case, about


def make_recipes(name: str, batch_size: int, arguments: argparse.Namespace) -> dict[str, Recipe]:
    """Return the recipe of each variant of ours, the chosen one first."""
    precision = arguments.precision or "bf16"
    settings = {
        "epochs": (arguments.rounds or ROUNDS) + 1,
        "batch_size": batch_size,
        "learning_rate": LEARNING_RATE,
        "threads": torch.get_num_threads(),
        **DEFAULTS[NETWORKS[name].task].recipe,
    }
    variants: dict[str, dict] = {
        f"ours_{kind}": {"precision": kind} for kind in (precision, "fp32")
    }
    if arguments.compile:
        variants[f"ours_{precision}_compiled"] = {"precision": precision, "compile": True}
    return {
        variant: complete_recipe(name, {**settings, **own}) for variant, own in variants.items()
    }


def random_samples(task: str, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (bytes or float32) and labels or masks."""
    generator = np.random.default_rng(SEED)
    defaults = DEFAULTS[task]
    shape = (count, defaults.channels, size, size)
    if task == "segmentation":
        images = generator.standard_normal(shape, dtype=np.float32)
        return images, generator.integers(0, defaults.classes, (count, size, size), dtype=np.uint8)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    return images, generator.integers(0, defaults.classes, count)


# The time to reach a score.


def to_accuracy(
    network: dict, recipe: Recipe, data: Path, wanted: float, device: torch.device
) -> dict[str, object]:
    """Train once and return the seconds since the process started and the score on test.

    Args:
        network: ``name`` and ``factory`` (or None).
        recipe: how to train.
        data: folder of the prepared data.
        wanted: score to reach.
        device: where to train.

    Raises:
        UserError: network, recipe and data do not belong together, or the loss is not finite.
    """
    description = read_description(data / "dataset.json")
    refuse_misfit(network["name"], description, recipe, data)
    size = description.size
    shape = len(description.classes), description.channels, size
    seed_everything(SEED)
    model = build(network["name"], network["factory"], *shape)
    arrays = {split: open_checked(data, split, description) for split in SPLITS}
    setup = set_up(model, description, arrays, recipe.precision, device)
    before = seconds_since_start()
    training = Training(setup, recipe, SEED, partial(score, setup, "val", data))
    with without_dead_taps(model, description.channels, size):
        epochs = list(training.run())
        test = score(setup, "test", data)
    wall = seconds_since_start()
    return {
        "network": network["name"],
        "data": data.name,
        "metric": METRICS[description.task],
        "wanted": wanted,
        "test": rounded(test),
        "reached": test >= wanted,
        "wall_seconds": rounded(wall),
        "counted": "from the start of the process, imports included, to the test score",
        "seconds_before_the_first_step": rounded(before),
        "seconds_of_steps": rounded(sum(epoch.seconds for epoch in epochs)),
        "samples_per_second": rounded(median(epoch.samples_per_second for epoch in epochs)),
        "val": [rounded(epoch.val) for epoch in epochs],
        "recipe": asdict(recipe),
    }


def seconds_since_start() -> float:
    """Return the age of this process; the system counts it in hundredths of a second."""
    status = Path("/proc/self/stat").read_text(encoding="utf-8")
    ticks = int(status.rpartition(")")[2].split()[19])  # field 22: the start, since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def read_training(arguments: argparse.Namespace) -> tuple[dict, Recipe]:
    """Return the (network, recipe) to time until a score."""
    if arguments.configfile:
        return training_of(read_file(arguments.configfile, yaml.safe_load), arguments.training)
    (name,) = arguments.network or ["resnet34"]
    settings = read_file(arguments.recipe, json.loads)
    return {"name": name, "factory": NETWORKS[name].factory}, complete_recipe(name, settings)


def read_file(path: Path, read: Callable[[str], object]) -> dict:
    try:
        content = read(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); correct it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: contains no keys with values; see config/README.md")
    return content


# The program.


def table(figures: dict) -> str:
    """Return one case as readable lines."""
    lines = [
        f"{figures['network']}: {figures['steps_per_round']} steps of {figures['batch_size']}"
        f" samples ({figures['data']}) of {figures['size'][0]} x {figures['size'][1]} a round,"
        f" {figures['rounds']} rounds",
        row("", "seconds a round", "samples/s", "ratio"),
    ]
    for name, times in figures["seconds"].items():
        ratio = figures["ratio"].get(name)
        lines.append(
            row(
                name.replace("_", " "),
                shown(times),
                f"{figures['samples_per_second'][name]:,.0f}",
                shown(ratio) if ratio else "",
            )
        )
    lines.append(
        f"  ratio: {figures['fastest_of_theirs'].replace('_', ' ')}, the fastest of theirs, to"
        f" ours; to reach {TO_REACH['cpu']:g} on two CPU cores; {TO_REACH['cuda']:g} on a GPU"
    )
    return "\n".join(lines) + "\n"


def row(*cells: str) -> str:
    return "  " + "".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


WIDTHS = (22, 28, 12, 24)


def shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:.3g} ({figures['min']:.3g} to {figures['max']:.3g})"


def line(figures: dict) -> str:
    """Return the time to a score as a readable line."""
    return (
        f"{figures['network']} on {figures['data']}: {figures['wall_seconds']:.1f} s from nothing"
        f" to test {figures['metric']} {figures['test']:.4f}"
        f" ({len(figures['val'])} epochs; {figures['wanted']:g}"
        f" {'reached' if figures['reached'] else 'not reached'})"
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser for whole numbers from a minimum."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
        return int(text)

    return read


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--network", nargs="+", choices=NETWORKS, help="default resnet34; -cifar is the CIFAR stem"
    )
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument(
        "--data",
        type=Path,
        help="folder of prepared data; uses the first samples of its train split",
    )
    made.add_argument("--output", type=Path, help="write the JSON here instead of printing it")

    paired = made.add_argument_group("both loops, in turns")
    paired.add_argument(
        "--precision", choices=devices.PRECISIONS, help="precision of ours; default bf16"
    )
    paired.add_argument(
        "--threads", type=at_least(1), help="number of CPU threads; by default, torch's choice"
    )
    paired.add_argument(
        "--workers",
        type=at_least(0),
        nargs="+",
        help="workers of their DataLoader; default 0 1 2 on the CPU, 4, 8 and the cores on a GPU",
    )
    paired.add_argument("--batch-size", type=at_least(2), help="default 128; 16 in segmentation")
    paired.add_argument(
        "--size", type=at_least(8), help="side of random images; default 32, or 64 in segmentation"
    )
    paired.add_argument(
        "--steps",
        type=at_least(1),
        help=f"steps per round; default {STEPS['cpu']}, {STEPS['cuda']} on a GPU",
    )
    paired.add_argument("--rounds", type=at_least(1), help=f"default {ROUNDS}")
    paired.add_argument("--compile", action="store_true", help="also time ours compiled")

    single = made.add_argument_group("one training, from nothing to a score")
    single.add_argument(
        "--to-accuracy",
        type=float,
        metavar="SCORE",
        help="score to reach on the test split of --data",
    )
    single.add_argument("--recipe", type=Path, help="JSON file with the keys of a recipe")
    single.add_argument(
        "--configfile",
        type=Path,
        help="take network and recipe from this configuration; needs --training",
    )
    single.add_argument("--training", help="name of the training in --configfile")
    return made


PAIRED_ONLY = (
    "precision",
    "threads",
    "workers",
    "batch_size",
    "size",
    "steps",
    "rounds",
    "compile",
)
SINGLE_ONLY = ("recipe", "configfile", "training")


def refuse_contradictions(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        UserError: naming the option.
    """

    def given(*names: str) -> str:
        found = [name for name in names if getattr(arguments, name) not in (None, False)]
        return ", ".join(f"--{name.replace('_', '-')}" for name in found)

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU; use --device cpu")
    if arguments.to_accuracy is None:
        if found := given(*SINGLE_ONLY):
            raise UserError(f"{found}: only with --to-accuracy; leave it out")
        if arguments.data and arguments.size:
            raise UserError(
                "--size is for random images, and prepared data have their own size; leave it out"
            )
        return
    if found := given(*PAIRED_ONLY):
        raise UserError(f"{found}: not with --to-accuracy, where the recipe decides; leave it out")
    if not arguments.data:
        raise UserError("--to-accuracy: give prepared data with --data")
    if bool(arguments.recipe) == bool(arguments.configfile):
        raise UserError("--to-accuracy: give a recipe, with --recipe or with --configfile")
    if bool(arguments.configfile) != bool(arguments.training):
        raise UserError("--configfile and --training belong together: give both")
    if arguments.configfile and arguments.network:
        raise UserError("--network: the training of --configfile has its own; leave it out")
    if len(arguments.network or []) > 1:
        raise UserError("--network: --to-accuracy trains one network; name one")


def workers_of(arguments: argparse.Namespace) -> list[int]:
    """Return the numbers of workers to try, each once."""
    cores = os.cpu_count() or 1
    if arguments.workers:
        return sorted(set(arguments.workers))
    if arguments.device == "cuda":
        return sorted({4, 8, cores})
    return [count for count in (0, 1, 2) if count <= cores]


def main(arguments: argparse.Namespace) -> None:
    refuse_contradictions(arguments)
    device = torch.device(arguments.device)
    if arguments.to_accuracy is not None:
        network, recipe = read_training(arguments)
        fix_arithmetic(recipe.threads)
        with devices.out_of_memory_explained(recipe.batch_size):
            found = to_accuracy(network, recipe, arguments.data, arguments.to_accuracy, device)
        print(line(found), file=sys.stderr, flush=True)
        content = {"to_accuracy": found}
    else:
        fix_arithmetic(arguments.threads)
        cases = []
        for name in arguments.network or ["resnet34"]:
            case, about = make_case(name, arguments)
            with devices.out_of_memory_explained(case.recipe.batch_size):
                found = about | measure(case, workers_of(arguments))
            print(table(found), file=sys.stderr, flush=True)
            cases.append(found)
        content = {"clock": "around each round, on both sides", "cases": cases}
    report = {
        "date": date.today().isoformat(),
        "device": devices.describe(device),
        "threads": torch.get_num_threads(),
        "versions": devices.versions(),
        **content,
    }
    text = json.dumps(report, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    command_line.call(lambda: main(parser().parse_args()))
