"""Networks and data out of the ordinary: stopped and taken up, they end as if never stopped."""

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


class EveryGlobalGenerator(Plain):
    def middle(self, maps):
        if not self.training:
            return maps
        maps = maps * (1 + 0.1 * random.gauss(0, 1)) + 0.1 * np.random.standard_normal()
        return nn.functional.dropout(maps, 0.2) * (1 + 0.1 * torch.randn(()))


class ChanceInEvaluation(Plain):
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
every_global_generator = build(EveryGlobalGenerator)
chance_in_evaluation = build(ChanceInEvaluation)
computed_weights = build(ComputedWeights)
"""
UNUSUAL = [
    "tied_weights",
    "buffers_of_many_kinds",
    "frozen_parameters",
    "parameters_without_gradient",
    "every_global_generator",
    "chance_in_evaluation",
    "computed_weights",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with networks and data."""
    return set_up(tmp_path, monkeypatch)


class StopsAt(Interruption):
    """Is as if SIGTERM came right before the look of that number, from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def check(self):
        if self.left == 0:
            raise Interrupted(signal.SIGTERM)
        self.left -= 1


@pytest.fixture
def stop_and_go_on(monkeypatch):
    """A function that stops a training at looks, one after the other, and ends it."""

    def both(looks, *arguments, **keywords):
        for look in looks:
            with monkeypatch.context() as patched:
                patched.setattr(train_network, "noticed", lambda at=look: nullcontext(StopsAt(at)))
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
def test_a_network_ends_the_same(place, stop_and_go_on, kind):
    (place / "own_networks.py").write_text(NETWORKS)
    table_of(place, "own", f"own_networks:{kind}")
    settings = settings_of("own", f"own_networks:{kind}")
    wanted = result(run(place, settings))
    # After the first step, in the validation, and in the middle of the second epoch.
    assert result(stop_and_go_on([0, 1, 0], place, settings, out="stopped")) == wanted


@pytest.mark.parametrize("epochs", [1, 3])
def test_one_step_is_an_epoch(place, stop_and_go_on, epochs):
    table_of(place, "own", "own_networks:classifier")
    settings = settings_of("own", "own_networks:classifier", epochs=epochs, batch_size=1000)
    wanted = result(run(place, settings))
    for look in range(2 * epochs + 1):  # a step and a validation each, and the test
        stopped = stop_and_go_on([look], place, settings, out=f"stopped{look}")
        assert result(stopped) == wanted


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_data_read_window_by_window(place, stop_and_go_on, monkeypatch, task):
    size = {"classification": 264, "segmentation": 1280}[task]  # bytes of a sample
    monkeypatch.setattr(sample_order, "WINDOW", 7 * size)
    monkeypatch.setattr(sample_order, "BLOCK", 2 * size)
    factory = {"classification": "classifier", "segmentation": "segmenter"}[task]
    table_of(place, "own", f"own_networks:{factory}")
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
    wanted = result(run(place, settings, task))
    assert read  # from the file, not from its map
    # In each window of the first epoch, between two, and in the second epoch.
    for looks in ([0, 2, 2], [1], [3, 7]):
        out = "-".join(map(str, looks))
        assert result(stop_and_go_on(looks, place, settings, task, out=out)) == wanted
