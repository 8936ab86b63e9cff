"""Unusual networks and data: an interrupted training gives the same result as any other."""

import signal
from contextlib import nullcontext

import pyarrow.parquet as pq
import pytest
from small_trainings import COUNTS, run, set_up, settings_of, table_of

import train_network
from nontrivial.data import batches, sample_order
from nontrivial.errors import Interrupted
from nontrivial.execution.interruption import Interruption

NETWORKS = """
import random

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations


class Plain(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, classes, 3, padding=1)
        self.add()

    def add(self):
        pass

    def middle(self, maps):
        return maps

    def forward(self, images):
        maps = self.middle(torch.relu(self.norm(self.first(images))))
        return self.last(maps).mean(dim=(2, 3))


class TiedWeights(Plain):
    def add(self):
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.third.weight = self.second.weight

    def middle(self, maps):
        return self.third(torch.relu(self.second(maps)))


class BuffersOfManyKinds(Plain):
    def add(self):
        self.register_buffer("steps", torch.zeros((), dtype=torch.int32))
        self.register_buffer("odd", torch.tensor(False))
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.register_buffer("largest", torch.zeros((), dtype=torch.float64))
        self.register_buffer("coarse", torch.zeros(2, dtype=torch.bfloat16))
        self.register_buffer("absent", None)

    def middle(self, maps):
        if self.training:
            self.steps += 1
            self.odd.logical_not_()
            self.largest.copy_(torch.maximum(self.largest, maps.detach().max().double()))
            self.coarse += 0.1
        factor = 1 + 0.01 * self.steps + 0.1 * self.odd + self.coarse.float().mean()
        return maps * factor / (1 + self.largest.float())


class FrozenParameters(Plain):
    def add(self):
        self.first.requires_grad_(False)
        self.norm.bias.requires_grad_(False)


class ParametersWithoutGradient(Plain):
    def add(self):
        self.unused = nn.Linear(3, 3)
        self.scalar = nn.Parameter(torch.zeros(()))


class EveryGlobalRng(Plain):
    def middle(self, maps):
        if not self.training:
            return maps
        maps = maps * (1 + 0.1 * random.gauss(0, 1)) + 0.1 * np.random.standard_normal()
        return nn.functional.dropout(maps, 0.2) * (1 + 0.1 * torch.randn(()))


class RandomInEvaluation(Plain):
    def middle(self, maps):
        return nn.functional.dropout(maps, 0.2)


class ComputedWeights(Plain):
    def add(self):
        self.last = parametrizations.spectral_norm(self.last)
        self.second = parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))

    def middle(self, maps):
        return self.second(maps)


def build(kind):
    return lambda classes, channels, size: kind(classes, channels)


tied_weights = build(TiedWeights)
buffers_of_many_kinds = build(BuffersOfManyKinds)
frozen_parameters = build(FrozenParameters)
parameters_without_gradient = build(ParametersWithoutGradient)
every_global_rng = build(EveryGlobalRng)
random_in_evaluation = build(RandomInEvaluation)
computed_weights = build(ComputedWeights)
"""
UNUSUAL = [
    "tied_weights",
    "buffers_of_many_kinds",
    "frozen_parameters",
    "parameters_without_gradient",
    "every_global_rng",
    "random_in_evaluation",
    "computed_weights",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


class InterruptsAt(Interruption):
    """Acts as if SIGTERM arrived just before the check of that number, from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def check(self):
        if self.left == 0:
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


@pytest.fixture
def interrupt_and_resume(monkeypatch):
    """Return a function that interrupts a training at several checks and then finishes it."""

    def both(checks, *arguments, **keywords):
        for number in checks:
            with monkeypatch.context() as patched:
                patched.setattr(
                    train_network, "noticed", lambda at=number: nullcontext(InterruptsAt(at))
                )
                with pytest.raises(Interrupted):
                    run(*arguments, **keywords)
        return run(*arguments, **keywords)

    return both


def result(folder):
    """Return the bytes of the weights and what the learning curve shows."""
    columns = ["epoch", "learning_rate", "loss", "val", "test"]
    table = pq.read_table(folder / "training.parquet", columns=columns)
    return (folder / "model.safetensors").read_bytes(), table.to_pylist()


@pytest.mark.parametrize("kind", UNUSUAL)
def test_an_interrupted_network_is_the_same(folder, interrupt_and_resume, kind):
    (folder / "own_networks.py").write_text(NETWORKS)
    table_of(folder, "own", f"own_networks:{kind}")
    settings = settings_of("own", f"own_networks:{kind}")
    expected = result(run(folder, settings))
    # After the first step, in the validation, and in the middle of the second epoch.
    assert result(interrupt_and_resume([0, 1, 0], folder, settings, out="interrupted")) == expected


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_of_one_step(folder, interrupt_and_resume, epochs):
    table_of(folder, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=epochs, batch_size=1000)
    expected = result(run(folder, settings))
    for check in range(2 * epochs + 1):  # each has a step and a validation; then the test
        found = interrupt_and_resume([check], folder, settings, out=f"interrupted{check}")
        assert result(found) == expected


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_data_read_window_by_window(folder, interrupt_and_resume, monkeypatch, task):
    size = {"classification": 264, "segmentation": 1280}[task]  # bytes of a sample
    monkeypatch.setattr(sample_order, "WINDOW", 7 * size)
    monkeypatch.setattr(sample_order, "BLOCK", 2 * size)
    factory = {"classification": "classifier", "segmentation": "segmenter"}[task]
    table_of(folder, "own", f"own_networks:{factory}")
    settings = settings_of("own", f"own_networks:{factory}", batch_size=2)
    windows = sample_order.epoch_order(COUNTS["train"], size, 2, 0)
    assert len(windows) > 2
    assert all(window.batches > 1 for window in windows)
    read = []
    true_read = batches.StoredArray.read
    monkeypatch.setattr(
        batches.StoredArray,
        "read",
        lambda self, first, into: (read.append(first), true_read(self, first, into)),
    )
    expected = result(run(folder, settings, task))
    assert read  # from the file, not from its memory map
    # In each window of the first epoch, between two, and in the second epoch.
    for checks in ([0, 2, 2], [1], [3, 7]):
        out = "-".join(map(str, checks))
        assert result(interrupt_and_resume(checks, folder, settings, task, out=out)) == expected
