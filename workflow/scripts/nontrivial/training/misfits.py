"""Misfits of a network, a recipe and a data set, found before a training starts.

Training does not import this module, so a new check makes no trained network stale.
"""

from pathlib import Path

from nontrivial.data.prepared import open_split
from nontrivial.errors import UserError
from nontrivial.formats.dataset import Description
from nontrivial.networks.registry import NETWORKS
from nontrivial.training.recipe import Recipe

_LEAST_SAMPLES = {"train": 2, "val": 1, "test": 1}


def refuse_misfit(network: str, description: Description, recipe: Recipe, data: Path) -> None:
    """Refuse a network or a recipe that cannot be used with the data.

    Raises:
        UserError: the network is for another task, the Dice loss is configured for
            classification, the crop padding is as wide as the image, or a split is too small or
            has no foreground.
    """
    where = data / "dataset.json"
    entry = NETWORKS.get(network)
    if entry is not None and entry.task != description.task:
        raise UserError(
            f"network {network} is for {entry.task} but {where} is for {description.task};"
            " choose a network and a data set for the same task"
        )
    if recipe.dice_weight > 0 and description.task != "segmentation":
        raise UserError(
            f"recipe: dice_weight is {recipe.dice_weight:g} but {where} is for"
            f" {description.task}; set it to 0"
        )
    padding = recipe.augmentation.crop_padding
    if padding >= min(description.size):
        raise UserError(
            f"recipe: crop_padding is {padding} but the images of {where} are"
            f" {description.size[0]} x {description.size[1]}; make it smaller"
        )
    for split, least in _LEAST_SAMPLES.items():
        if description.counts[split] < least:
            raise UserError(
                f"{where}: split {split} has {description.counts[split]} samples, at least {least}"
                " are required; change the fractions of the data set"
            )
        if description.task == "segmentation" and not _has_foreground(data, split):
            raise UserError(
                f"{where}: no mask of split {split} has foreground, so its Dice is undefined;"
                " change the fractions of the data set"
            )


def _has_foreground(data: Path, split: str) -> bool:
    _, masks = open_split(data, split)
    return any(mask.any() for mask in masks)
