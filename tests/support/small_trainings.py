"""Fast trainings of small networks on small data."""

import copy
import json
import sys
from pathlib import Path

import numpy as np

from nontrivial.formats import samples
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.formats.samples import Sample
from nontrivial.networks import building
from nontrivial.networks.convolutions import forward_calls, forward_order
from nontrivial.networks.kernel_table import read_table, structure_digest, write_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.networks.roles import describe
from train_network import train_network

PROGRAM = Path(__file__).parents[2] / "workflow" / "scripts" / "train_network.py"
COUNTS = {"train": 18, "val": 6, "test": 6}
SIZE = (16, 16)
RECIPE = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.02,
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
        "crop_padding": 2,
        "flip": True,
        "rotation": 10,
        "scale": 0.1,
        "translation": 0.05,
        "brightness": 0.1,
        "contrast": 0.1,
    },
}

# Custom networks, in a module of the working directory.
OWN = """
import torch
from torch import nn


class Small(nn.Sequential):
    def __init__(self, classes, channels):
        super().__init__(
            nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv2d(4, classes, 3, padding=1),
        )


class Classifier(Small):
    def forward(self, images):
        return super().forward(images).mean(dim=(2, 3))


class Hungry(Classifier):
    def forward(self, images):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(images)


class Diverging(Classifier):
    steps = 0

    def forward(self, images):
        self.steps += self.training
        return super().forward(images) * (float("inf") if self.steps == 3 else 1.0)


class Unsaved(Classifier):
    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, images):
        self.steps += self.training
        return super().forward(images) * (1 + self.steps)


def unsaved(classes, channels, size):
    return Unsaved(classes, channels)


class Extra(Classifier):
    def get_extra_state(self):
        return {"steps": 1}

    def set_extra_state(self, state):
        pass


def extra(classes, channels, size):
    return Extra(classes, channels)


class Late(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.early = Classifier(classes, channels)
        self.late = nn.Conv2d(channels, classes, 1)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        logits = self.early(images)
        if self.training and self.steps < 3:
            return logits
        return logits + self.late(images).mean(dim=(2, 3))


def late(classes, channels, size):
    return Late(classes, channels)


def classifier(classes, channels, size):
    return Classifier(classes, channels)


def segmenter(classes, channels, size):
    return Small(classes, channels)


def hungry(classes, channels, size):
    return Hungry(classes, channels)


def diverging(classes, channels, size):
    return Diverging(classes, channels)
"""


def prepare(folder, task):
    """Write a small prepared data set: a bright square, left or right (or where its mask is)."""
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        truth = np.zeros((count, *SIZE), dtype=np.uint8)
        labels = np.arange(count, dtype=np.int64) % 2
        for row, label in enumerate(labels):
            truth[row, 4:12, 2 + 7 * label : 8 + 7 * label] = 1
        noise = generator.normal(0, 10, (count, 1, *SIZE))
        images = (100 * truth[:, None] + 60 + noise).clip(0, 255)
        segmentation = task == "segmentation"
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images.astype("f4" if segmentation else "u1"))
        np.save(folder / split / "labels.npy", truth if segmentation else labels)
        rows = [
            Sample("made", f"person{row % 3}", row, None)
            if segmentation
            else Sample("made", label=int(labels[row]))
            for row in range(count)
        ]
        samples.write(folder / split / "samples.parquet", rows)
    description = Description(
        task,
        ["background", "square"],
        1,
        SIZE,
        "uint8",
        [80.0],
        [40.0],
        COUNTS,
        {split: "" for split in SPLITS},
    )
    (folder / "dataset.json").write_text(description.to_json())
    return folder


def set_up(folder, monkeypatch):
    """Make a working directory: a module of networks and two data sets."""
    (folder / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    for task in ("classification", "segmentation"):
        prepare(folder / task, task)
    return folder


def table_of(folder, name, factory):
    model = building.build(name, factory, 2, 1, SIZE)
    kernels = describe(forward_order(forward_calls(model, 1, SIZE)))
    write_table(folder / f"{name}.tsv", kernels)
    return kernels


def settings_of(name, factory=None, **changes):
    recipe = copy.deepcopy(RECIPE)
    recipe.update(changes)
    if "snapshots" not in changes:
        recipe["snapshots"] = [e for e in recipe["snapshots"] if e < recipe["epochs"]]
    factory = factory or NETWORKS[name].factory
    return {"network": {"name": name, "factory": factory}, "recipe": recipe}


def kernels_of(folder, settings):
    """Return the digest of a network's kernel table."""
    return structure_digest(read_table(folder / f"{settings['network']['name']}.tsv"))


def arguments_of(folder, settings, out, task="classification", seed=0):
    """Return the command line of the program, without its log."""
    pairs = {
        "--settings": json.dumps(settings),
        "--seed": str(seed),
        "--data": task,
        "--kernels": kernels_of(folder, settings),
        "--output": f"{out}/model.safetensors",
        "--snapshots": f"{out}/snapshots.safetensors",
        "--history": f"{out}/training.parquet",
        "--digest": f"{out}/model.json",
        "--code": "code",
    }
    return [word for pair in pairs.items() for word in pair]


def run(
    folder, settings, task="classification", seed=0, out="out", code="code", seconds=600, **check
):
    target = folder / out
    train_network(
        settings,
        seed,
        folder / task,
        kernels_of(folder, settings),
        target / "model.safetensors",
        target / "snapshots.safetensors",
        target / "training.parquet",
        target / "model.json",
        code,
        seconds / 60,
        **check,
    )
    return target
