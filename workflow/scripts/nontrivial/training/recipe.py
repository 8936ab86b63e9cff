"""The recipe of a training: the section of the configuration, defaults filled in."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from nontrivial.errors import UserError
from nontrivial.execution.device import PRECISIONS
from nontrivial.training.augmentation import Augmentation
from nontrivial.training.learning_rate import SCHEDULES


@dataclass(frozen=True)
class Recipe:
    """How to train a network.

    Attributes:
        epochs: passes over the train split.
        batch_size: samples per step.
        learning_rate: peak of the schedule.
        momentum: Nesterov momentum of SGD.
        weight_decay: L2 penalty on the weights of convolution and linear layers, not on biases
            and batch normalization.
        schedule: one of :data:`nontrivial.training.learning_rate.SCHEDULES`.
        warmup: fraction of all steps in which the learning rate rises.
        label_smoothing: label smoothing of the cross-entropy.
        dice_weight: weight of the soft Dice loss, 0 to 1; segmentation only.
        precision: ``fp32`` (without TF32) or ``bf16`` (autocast), on every device.
        compile: whether to compile the forward and backward pass with torch.compile.
        threads: CPU threads, because their number changes the last bits.
        snapshots: epochs, below the last, after which the state of the network is stored.
        augmentation: random changes of each sample.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    label_smoothing: float
    dice_weight: float
    precision: str
    compile: bool
    threads: int
    snapshots: tuple[int, ...]
    augmentation: Augmentation


def read_recipe(settings: dict) -> Recipe:
    """Return a recipe from its section of the configuration.

    Raises:
        UserError: a key is missing or unknown, or a value has the wrong type or range.
    """
    _same_keys(settings, Recipe, "recipe")
    changes = settings["augmentation"]
    if not isinstance(changes, dict):
        raise UserError("recipe: augmentation must be a section of its own")
    _same_keys(changes, Augmentation, "recipe: augmentation")
    for key in ("epochs", "batch_size", "threads"):
        _check(settings, key, "a whole number from 1", lambda x: x >= 1, whole=True)
    _check(settings, "learning_rate", "a number above 0", lambda x: x > 0)
    _check(settings, "weight_decay", "a number from 0", lambda x: x >= 0)
    # torch requires momentum for the Nesterov form.
    _check(settings, "momentum", "a number above 0 and below 1", lambda x: 0 < x < 1)
    for key in ("warmup", "label_smoothing"):
        _check(settings, key, "a number from 0, below 1", lambda x: 0 <= x < 1)
    _check(settings, "dice_weight", "a number from 0 to 1", lambda x: 0 <= x <= 1)
    _check(changes, "crop_padding", "a whole number from 0", lambda x: x >= 0, whole=True)
    for key in ("rotation", "translation", "brightness"):
        _check(changes, key, "a number from 0", lambda x: x >= 0)
    for key in ("scale", "contrast"):
        _check(changes, key, "a number from 0, below 1", lambda x: 0 <= x < 1)
    for key, section in (("flip", changes), ("compile", settings)):
        if not isinstance(section[key], bool):
            raise UserError(f"recipe: {key} must be true or false, not {section[key]!r}")
    for key, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
        if settings[key] not in known:
            raise UserError(
                f"recipe: {key} must be one of {', '.join(known)}, not {settings[key]!r}"
            )
    _check_snapshots(settings["snapshots"], settings["epochs"])
    return Recipe(
        **{
            **settings,
            "snapshots": tuple(settings["snapshots"]),
            "augmentation": Augmentation(**changes),
        }
    )


def _same_keys(settings: dict, kind: type, where: str) -> None:
    known = {field.name for field in fields(kind)}
    if missing := known - settings.keys():
        raise UserError(f"{where}: missing {', '.join(sorted(missing))}")
    if unknown := settings.keys() - known:
        raise UserError(f"{where}: unknown {', '.join(sorted(unknown))}; remove it")


def _check_snapshots(snapshots: object, epochs: int) -> None:
    if not isinstance(snapshots, list):
        raise UserError(f"recipe: snapshots must be a list of epochs, not {snapshots!r}")
    for epoch in snapshots:
        whole = isinstance(epoch, int) and not isinstance(epoch, bool)
        if not whole or not 0 <= epoch < epochs:
            raise UserError(
                f"recipe: snapshots must be whole numbers from 0, below epochs ({epochs}; the last"
                f" epoch is model.safetensors), not {epoch!r}"
            )
    if len(set(snapshots)) < len(snapshots):
        raise UserError(f"recipe: snapshots: {snapshots} names an epoch twice; remove one")


def _check(
    settings: dict,
    key: str,
    wanted: str,
    is_valid: Callable[[float], bool],
    *,
    whole: bool = False,
) -> None:
    value = settings[key]
    kinds = (int,) if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not is_valid(value):
        raise UserError(f"recipe: {key} must be {wanted}, not {value!r}")
