import pytest

from nontrivial.errors import UserError
from nontrivial.training.augmentation import Augmentation
from nontrivial.training.recipe import read_recipe

GIVEN = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "warmup": 0.25,
    "label_smoothing": 0.1,
    "dice_weight": 0,
    "precision": "fp32",
    "compile": False,
    "threads": 1,
    "snapshots": [0, 1],
    "augmentation": {
        "crop_padding": 4,
        "flip": True,
        "rotation": 0,
        "scale": 0,
        "translation": 0,
        "brightness": 0,
        "contrast": 0,
    },
}


def test_values_are_read_by_name():
    recipe = read_recipe(GIVEN)
    assert (recipe.epochs, recipe.learning_rate, recipe.precision) == (2, 0.1, "fp32")
    assert recipe.augmentation == Augmentation(crop_padding=4, flip=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("learning_rate", "1e-1"),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", 0),
        ("momentum", 1),
        ("weight_decay", -1),
        ("warmup", 1),
        ("label_smoothing", 1),
        ("dice_weight", 1.1),
        ("schedule", "step"),
        ("precision", "fp16"),
        ("threads", 0),
        ("augmentation", None),
        ("snapshots", None),
        ("snapshots", 1),
        ("snapshots", [2]),
        ("snapshots", [-1]),
        ("snapshots", [0.5]),
        ("snapshots", [True]),
        ("snapshots", ["1"]),
        ("snapshots", [1, 1]),
    ],
)
def test_a_wrong_value_is_named(key, value):
    with pytest.raises(UserError, match=key) as caught:
        read_recipe({**GIVEN, key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("flip", 1), ("crop_padding", 1.5), ("scale", 1), ("rotation", -1)]
)
def test_a_wrong_augmentation_is_named(key, value):
    with pytest.raises(UserError, match=key):
        read_recipe({**GIVEN, "augmentation": {**GIVEN["augmentation"], key: value}})


def test_missing_and_unknown_keys_are_named():
    with pytest.raises(UserError, match="missing momentum"):
        read_recipe({key: value for key, value in GIVEN.items() if key != "momentum"})
    with pytest.raises(UserError, match="unknown nesterov"):
        read_recipe({**GIVEN, "nesterov": True})
    with pytest.raises(UserError, match="augmentation: unknown shear"):
        read_recipe({**GIVEN, "augmentation": {**GIVEN["augmentation"], "shear": 1}})
