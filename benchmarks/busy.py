"""Measure training beside a busy program, with and without the workflow's OpenMP settings.

    python benchmarks/busy.py

Two processes train the same network with the workflow's training loop. Each uses two threads, and
both are pinned to the same two CPU cores. They differ in two environment variables, which OpenMP
reads when torch is imported. In ``passive``, ``OMP_WAIT_POLICY=PASSIVE`` and
``GOMP_SPINCOUNT=1250`` make threads sleep soon while they wait. In ``default``, neither is set, so
threads spin for long. The processes take turns, and the waiting one is stopped. Each round measures
both alone and both beside a single-threaded busy loop, in alternating order. The first round does
not count.

Prints JSON. Each ratio pairs two turns of the same round: the geometric mean over rounds, with a
95% t interval of the logarithm. There are two goals. Beside the busy loop, ``passive`` keeps at
least 0.5 of its rate alone. Alone, the interval of ``passive`` over ``default`` is not below 0.97.
Run this on an otherwise idle host: the load before the run is printed. Linux only.
"""

import json
import math
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import torch  # before the library, which sets the policy if none is set
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))
sys.path.append(str(Path(__file__).resolve().parent))  # train.py, also when tests import this

import train

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.reproducibility import fix_arithmetic

CORES = THREADS = 2
POLICIES = ("passive", "default")
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TARGETS = {"beside the busy loop, of the rate alone": 0.5, "alone, passive to default": 0.97}
BUSY_LOOP = "while True: pass"

Turn = tuple[str, bool]  # the policy, and whether the busy loop runs
TURNS: list[Turn] = [(policy, busy) for busy in (False, True) for policy in POLICIES]


def busy(
    network: str = "resnet18",
    batch_size: int = 128,
    size: int = 32,
    steps: int = 4,
    rounds: int = 10,
    spin_count: int = 1250,
) -> None:
    """Measure the rate of training under each policy, alone and beside a busy loop.

    Args:
        network: a built-in network that classifies.
        batch_size: samples per step; the default is that of a recipe.
        size: side of the random images in pixels.
        steps: steps per turn.
        rounds: turns of each kind, at least 2; one more does not count.
        spin_count: ``GOMP_SPINCOUNT`` under ``passive``; the default is that of the workflow.
    """
    if rounds < 2:
        raise UserError(f"--rounds {rounds}: an interval needs at least 2; increase it")
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    if len(cores) < CORES:
        raise UserError(f"this benchmark needs {CORES} CPU cores, and {len(cores)} is available")
    os.sched_setaffinity(0, cores)
    load = os.getloadavg()
    print(f"load before the run: {load[0]:.2f} (1 min), {load[1]:.2f} (5 min)", file=sys.stderr)
    options = {"batch-size": batch_size, "size": size, "steps": steps, "rounds": 2 * rounds + 1}
    with ExitStack() as stack:
        passive = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(spin_count)}
        trainings = {
            policy: stack.enter_context(training(settings, network, options))
            for policy, settings in zip(POLICIES, (passive, {}), strict=True)
        }
        seconds = take_turns(trainings, rounds)
    report = {
        "date": date.today().isoformat(),
        "device": devices.describe(torch.device("cpu")),
        "cores": CORES,
        "threads": THREADS,
        "versions": devices.versions(),
        "load_before": [round(value, 2) for value in load],
        "network": network,
        "batch_size": batch_size,
        "size": size,
        "steps_per_turn": steps,
        "spin_count": spin_count,
        **figures(seconds, steps * batch_size),
    }
    print(json.dumps(report, indent=2))


# A training in a separate process.


@contextmanager
def training(
    settings: dict[str, str], network: str, options: dict
) -> Iterator[Callable[[], float]]:
    """Start a training; yield a function that trains one turn and returns its seconds."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=train_on_request, args=(theirs, network, options))
    with in_environment(settings):
        process.start()
    theirs.close()

    def turn() -> float:
        os.kill(process.pid, signal.SIGCONT)
        ours.send(None)
        taken = ours.recv()
        os.kill(process.pid, signal.SIGSTOP)  # its threads may still spin
        return taken

    try:
        yield turn
    finally:
        process.kill()
        process.join()


@contextmanager
def in_environment(settings: dict[str, str]) -> Iterator[None]:
    """Give the processes that the block starts these OpenMP settings and no others."""
    before = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


def train_on_request(requests: Connection, network: str, options: dict) -> None:
    """Train one turn per request, and answer with its seconds."""
    fix_arithmetic(THREADS)
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    arguments = train.parser().parse_args(["--precision", "fp32", *words])
    case, _ = train.make_case(network, arguments)
    with train.without_lines():
        turns = train.ours(case, case.recipe)
        while True:
            requests.recv()
            requests.send(train.seconds(lambda: next(turns), case.device))


@contextmanager
def busy_loop() -> Iterator[None]:
    """Keep one CPU core busy during the block."""
    process = subprocess.Popen([sys.executable, "-c", BUSY_LOOP])
    time.sleep(0.1)  # the interpreter's start
    try:
        yield
    finally:
        process.kill()
        process.wait()


# Turns and figures.


def order(round_number: int) -> list[Turn]:
    """Return the turns of a round; every other round reverses them."""
    return TURNS if round_number % 2 == 0 else TURNS[::-1]


def take_turns(trainings: dict[str, Callable[[], float]], rounds: int) -> dict[Turn, list[float]]:
    """Return the seconds of each kind of turn, round by round."""
    taken: dict[Turn, list[float]] = {turn: [] for turn in TURNS}
    for turn in trainings.values():
        turn()  # the first one is slower, so it does not count
    for number in range(rounds):
        for policy, beside in order(number):
            with ExitStack() as stack:
                if beside:
                    stack.enter_context(busy_loop())
                taken[policy, beside].append(trainings[policy]())
    return taken


def figures(seconds: dict[Turn, list[float]], samples: int) -> dict[str, object]:
    """Return rates and paired ratios.

    Args:
        seconds: of each kind of turn, round by round.
        samples: number of samples per turn.
    """
    passive, default = POLICIES
    return {
        "rounds": len(seconds[passive, False]),
        "samples_per_second": {
            policy: {
                name: rounded(samples / statistics.median(seconds[policy, beside]))
                for name, beside in (("alone", False), ("beside_busy_loop", True))
            }
            for policy in POLICIES
        },
        "rate_beside_busy_loop_to_alone": {
            policy: ratio(seconds[policy, False], seconds[policy, True]) for policy in POLICIES
        },
        "rate_passive_to_default": {
            "alone": ratio(seconds[default, False], seconds[passive, False]),
            "beside_busy_loop": ratio(seconds[default, True], seconds[passive, True]),
        },
        "targets": TARGETS,
    }


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """Return the geometric mean of paired ratios with its 95% interval."""
    logs = [math.log(one / other) for one, other in zip(numerators, denominators, strict=True)]
    middle = statistics.mean(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    found = {"mean": middle, "low": middle - half, "high": middle + half}
    return {name: rounded(math.exp(value)) for name, value in found.items()}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    command_line.run(busy)
