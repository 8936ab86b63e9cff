"""The recipe of a training, as the configuration gives it, with every key present."""

import math
from dataclasses import dataclass, fields

from nontrivial.errors import UserError
from nontrivial.execution.device import PRECISIONS
from nontrivial.training.augmentation import Augmentation
from nontrivial.training.learning_rate import SCHEDULES


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the train split.
        batch_size: samples per step.
        learning_rate: the highest of the schedule.
        momentum: Nesterov momentum of the stochastic gradient descent.
        weight_decay: added to the gradient of convolutions and matrices, in units of the
            weight; biases and batch normalization have none.
        schedule: one of :data:`nontrivial.training.learning_rate.SCHEDULES`.
        warmup: fraction of all steps in which the learning rate rises.
        label_smoothing: probability mass spread evenly over the classes.
        dice_weight: share of the soft Dice loss, 0 to 1; segmentation only.
        precision: ``fp32`` (TF32 off) or ``bf16`` (autocast), whatever the device.
        compile: whether torch.compile builds the network's forward and backward pass.
        threads: processor threads, because their number changes the last bits.
        augmentation: what is changed at random in each sample.
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
    augmentation: Augmentation


def read_recipe(settings: dict) -> Recipe:
    """Check a recipe's keys and values.

    Raises:
        UserError: a key is missing or unknown, or a value is of the wrong kind or range.
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
    # Nesterov momentum is not defined without momentum.
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
    return Recipe(**{**settings, "augmentation": Augmentation(**changes)})


def _same_keys(settings: dict, kind: type, where: str) -> None:
    known = {field.name for field in fields(kind)}
    if missing := known - settings.keys():
        raise UserError(f"{where}: missing {', '.join(sorted(missing))}")
    if unknown := settings.keys() - known:
        raise UserError(f"{where}: unknown {', '.join(sorted(unknown))}; remove it")


def _check(settings: dict, key: str, wanted: str, valid, *, whole: bool = False) -> None:
    value = settings[key]
    kinds = (int,) if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not valid(value):
        raise UserError(f"recipe: {key} must be {wanted}, not {value!r}")
