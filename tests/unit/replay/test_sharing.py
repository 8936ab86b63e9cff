"""What replay does not compute, and what it does not hold in memory."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from replay_networks import digits, every_kernel, naive_loop, replayed, scrambled
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from nontrivial.networks.building import build
from nontrivial.networks.kernel_table import read_table
from nontrivial.replay import Replay, winograd
from nontrivial.targets.enumeration import enumerate_targets

SHAPE = (1, 16, 16)
ROWS = 3
WIDTH = 4
MAP = 4 * WIDTH * 16 * 16  # bytes of one sample of a feature map
TABLES = Path(__file__).parents[3] / "resources" / "kernels"


class Residual(nn.Module):
    """A chain of residual units, all on maps of one size."""

    def __init__(self, units):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(units))
        self.second = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(units))
        self.unused = nn.Conv2d(WIDTH, WIDTH, 1)
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        self.unused(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = F.relu(x + second(F.relu(first(x))))
        return self.fc(x.mean((2, 3)))


STEM = 9 * WIDTH * 256
CONVOLUTION = 9 * WIDTH * WIDTH * 256
FC = 5 * WIDTH


@pytest.fixture(autouse=True)
def _plain_convolutions(monkeypatch):
    """Compute no convolution with fewer products than it has."""
    monkeypatch.setattr(winograd, "is_faster", lambda *_: False)


def computed(model, targets, shape=SHAPE, **options):
    """Return the multiply-accumulates per sample of replay, counted by torch, and its cost."""
    replay = Replay(model.eval(), shape, targets, batch_size=ROWS, **options)
    images = digits(ROWS, shape)
    with FlopCounterMode(display=False) as counter:
        replayed(replay, images, ROWS)
    return counter.get_total_flops() / 2 / ROWS, replay.cost


UNIT = 2 * CONVOLUTION


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ({"baseline": []}, STEM + 3 * UNIT + FC),
        # A kernel of the first unit: no clean value after the stem is needed.
        ({"a": ["second.0"]}, STEM + 2 * UNIT + FC),
        ({"a": ["first.0"]}, STEM + 2 * UNIT + FC),
        # A kernel of the last unit: everything before it, and nothing of its own unit.
        ({"a": ["second.2"]}, STEM + 2 * UNIT + FC),
        ({"a": ["second.2"], "baseline": []}, STEM + 3 * UNIT + FC + FC),
        # The second kernel of a unit makes the first irrelevant.
        ({"a": ["second.1"], "b": ["first.1", "second.1"]}, STEM + UNIT + UNIT + FC),
        # Two targets share the clean first unit.
        ({"a": ["second.1"], "b": ["second.2"]}, STEM + 2 * UNIT + UNIT + 2 * FC),
        # Cuts, and kernels without effect.
        ({"a": ["stem"]}, 0),
        ({"a": ["stem"], "b": ["stem", "second.1"], "c": ["stem", "first.2"]}, 0),
        ({"a": ["unused"], "b": []}, STEM + 3 * UNIT + FC),
        ({"a": ["unused"], "b": ["second.0"]}, 2 * (2 * UNIT + FC) + UNIT + STEM),
        ({"a": ["unused", "second.0"], "b": ["second.0"]}, STEM + 2 * UNIT + FC),
        # The same kernels twice, in another order, and named twice.
        (
            {"a": ["first.0", "second.1"], "b": ["second.1", "first.0"], "c": ["first.0"] * 2},
            STEM + UNIT + FC + 2 * UNIT + FC,
        ),
    ],
)
@pytest.mark.parametrize("stack_bytes", [1, None, 1 << 30])
def test_only_what_is_needed_is_computed(targets, expected, stack_bytes):
    count, cost = computed(Residual(3), targets, stack_bytes=stack_bytes)
    assert count == expected == cost.clean + cost.recomputed


@pytest.mark.parametrize("stack_bytes", [1, None, 1 << 30])
def test_the_work_equals_the_cost(stack_bytes):
    model = Residual(4)
    count, cost = computed(model, every_kernel(model), stack_bytes=stack_bytes)
    assert count == cost.clean + cost.recomputed
    model = build("resnet18-cifar", None, 10, 3, (16, 16))
    count, cost = computed(model, every_kernel(model), (3, 16, 16), stack_bytes=stack_bytes)
    assert count == cost.clean + cost.recomputed


def test_the_work_of_the_naive_loop_equals_its_cost():
    model = Residual(3).eval()
    targets = every_kernel(model)
    with FlopCounterMode(display=False) as counter:
        naive_loop(model, targets, digits(ROWS, SHAPE), ROWS)
    unused = WIDTH * WIDTH * 256 * len(targets)  # which the loop computes nevertheless
    cost = Replay(model, SHAPE, targets, batch_size=ROWS).cost
    assert counter.get_total_flops() // 2 // ROWS == cost.passes + unused


def test_dead_taps_are_not_computed():
    model = nn.Sequential(nn.Conv2d(1, 8, 8, stride=8), nn.Conv2d(8, 8, 3, padding=1)).eval()
    count, cost = computed(model, {"baseline": []}, (1, 8, 8))
    assert count == cost.live_clean == 64 * 8 + 8 * 8
    assert cost.clean == 64 * 8 + 9 * 8 * 8


def test_the_reference_computes_all_samples_and_taps_but_no_clean_value_twice():
    model = Residual(3)
    count, _ = computed(model, {"a": ["second.0"], "baseline": []}, reference=True)
    # The zeroed convolution itself is computed, as in a full pass.
    assert count == STEM + 3 * UNIT + FC + CONVOLUTION + 2 * UNIT + FC


def outputs(model, targets, shape=SHAPE, **options):
    """Return the names that share each output of a batch."""
    replay = Replay(model.eval(), shape, targets, batch_size=2, **options)
    return [set(names) for names, _ in replay(digits(2, shape))]


@pytest.mark.parametrize("reference", [False, True])
def test_targets_that_leave_the_same_network_share_an_output(reference):
    targets = {
        "baseline": [],
        "nothing": ["unused"],
        "a": ["first.0", "second.1"],
        "b": ["second.1", "unused", "first.0"],
        "c": ["second.1"],
        "cut": ["stem"],
        "also cut": ["stem", "second.2"],
        "another cut": ["stem", "unused"],
    }
    found = outputs(Residual(3), targets, reference=reference)
    assert sum(map(len, found)) == len(targets)
    assert {"baseline", "nothing"} in found
    assert {"a", "b"} in found
    assert {"c"} in found
    assert {"cut", "another cut"} in found


def test_the_43_targets_of_a_resnet34_are_40_networks():
    kernels = read_table(TABLES / "resnet34.tsv")
    sets = ["layer", "block", "shortcut"]
    targets = enumerate_targets(kernels, sets, ["first-unit"], {}, "set")
    named = {target.name: target.kernels for target in targets}
    model = build("resnet34", None, 10, 3, (32, 32))
    found = outputs(model, named, (3, 32, 32))
    assert len(named) == 1 + 43
    assert len(found) == 1 + 40


# Memory


def peak(model, targets, rows=ROWS, **options):
    """Return the peak memory of torch's CPU allocator for a batch, in bytes."""
    shape = SHAPE
    replay = Replay(model.eval(), shape, targets, batch_size=rows, **options)
    images = digits(rows, shape)
    for _ in replay(images):  # allocates what is reused from batch to batch
        pass
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in replay(images):
            pass
    events = profiler.profiler.kineto_results.events()
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(("reference", "most"), [(False, 6), (True, 10)])
def test_memory_does_not_grow_with_the_depth_of_a_network(reference, most):
    def maps(units, targets):
        model = scrambled(Residual(units), 1)
        chosen = every_kernel(model) if targets == "all" else {"baseline": []}
        return peak(model, chosen, reference=reference, stack_bytes=1) / (ROWS * MAP)

    for targets in ("baseline", "all"):
        # The clean values that are held, and the few maps of one unit.
        assert maps(12, targets) == pytest.approx(maps(3, targets), abs=0.1)
        assert maps(12, targets) <= most


def test_memory_grows_with_batch_and_stack_size():
    model = scrambled(Residual(6), 1)
    targets = every_kernel(model)
    alone = peak(model, targets, stack_bytes=1)
    assert peak(model, targets, rows=2 * ROWS, stack_bytes=1) <= 2.1 * alone
    for stack in (2, 4, 8):
        together = peak(model, targets, stack_bytes=stack * ROWS * MAP)
        # Clean values are held for the targets of a stack, and a few stacks exist at a time.
        assert together <= alone + 4 * stack * ROWS * MAP


def test_an_output_is_freed_before_the_next():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        *[Shortcut(2) for _ in range(12)],
        nn.Upsample(scale_factor=8),
    )
    output_bytes = 2 * 128 * 128 * 4 * ROWS
    targets = every_kernel(model)
    assert peak(model, targets, stack_bytes=1) <= 3.5 * output_bytes


class Shortcut(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.inner(x)
