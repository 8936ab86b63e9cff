"""Compare the speed of replay and of the naive loop, on all zeroing targets of a network.

    python benchmarks/replay.py --network resnet34 --samples 500 --batch-size 250

Prints JSON to standard output and a table to standard error. The targets are the workflow's:
baseline, every layer, the blocks in the reading first-unit, and the shortcuts. For each target, the
naive loop zeroes the kernels, runs a forward pass over all samples, and restores the kernels. Both
sides read the same normalized samples from memory and turn logits into predictions. First, each
side passes over all samples once, and the predictions are compared. Then the sides take turns in
one process. setup_seconds is the time that replay takes once per network (tracing, folding). It is
not part of the ratio.

The ratio is relative to the naive loop in fp32, whatever the precision of replay. If replay runs in
bf16, there is also a ratio to the naive loop in bf16 (automatic mixed precision, channels last).

The floor is the ratio of multiply-accumulates, of all taps and of live taps only (the product of a
dead tap is zero). The share of the matrix-product rate counts live taps on both sides. It can
exceed 1 for convolutions that multiply less (Winograd). Without --data, images and weights are
random and the statistics of batch normalization are calibrated, because speed does not depend on
values.

Peak memory is that of a process that runs only replay over the same samples: its whole resident
set, including libraries, or the memory that torch allocated on the GPU.

With --captum, Captum's LayerFeatureAblation of each layer's whole output is also timed. It is the
most similar method in a public library. It attributes the logit of the class that the unmodified
network predicts. It sets the output of a convolution to zero, not its kernel, so it also removes a
bias. It handles only single layers, so all three methods are timed on the layer targets alone.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

# As in the workflow's programs: OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1250")

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from nontrivial.data.batches import normalization
from nontrivial.data.prepared import open_checked
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.reproducibility import fix_arithmetic, seed_everything
from nontrivial.formats.dataset import read_description
from nontrivial.networks.building import build
from nontrivial.networks.kernel_table import read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.networks.trained import load_trained
from nontrivial.replay import Replay
from nontrivial.targets.enumeration import SETS, enumerate_targets

ROOT = Path(__file__).resolve().parents[1]
SIDE = 2048  # of the square matrices whose product measures the rate of the device
REPEATS = 10
CALIBRATION = 4  # batches of random images
CALIBRATION_BATCH = 16
CAPTUM_SAMPLES = 64
MIB = 1 << 20


@dataclass(frozen=True)
class Defaults:
    samples: int
    batch_size: int
    size: int
    channels: int
    classes: int


DEFAULTS = {
    "classification": Defaults(500, 250, 32, 3, 10),
    "segmentation": Defaults(64, 64, 64, 1, 3),
}


@dataclass(frozen=True)
class Case:
    """A network in evaluation mode, its targets, and samples on its device."""

    model: nn.Module
    targets: dict[str, tuple[str, ...]]
    images: Tensor  # (N, C, H, W) float32, normalized
    batch_size: int

    @property
    def batches(self) -> tuple[Tensor, ...]:
        return self.images.split(self.batch_size)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def layers(self, samples: int) -> "Case":
        """Return the case with the layer targets and the first samples only."""
        targets = {name: paths for name, paths in self.targets.items() if name.startswith("layer-")}
        return Case(self.model, targets, self.images[:samples], min(self.batch_size, samples))

    def replay(self, precision: str) -> Replay:
        shape = tuple(self.images.shape[1:])
        return Replay(
            self.model, shape, self.targets, batch_size=self.batch_size, precision=precision
        )


# The two sides, and captum


@contextmanager
def zero(model: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Set kernels to zero in the block, without the checks of the library's ``zeroed``."""
    weights = [model.get_submodule(path).weight for path in paths]
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.zero_()
    yield
    for weight, saved in zip(weights, before, strict=True):
        weight.copy_(saved)


@torch.inference_mode()
def naive_loop(case: Case, batches: Iterable[Tensor], precision: str) -> Iterator[tuple]:
    """Yield (target, logits) for every target and batch."""
    for name, paths in case.targets.items():
        with zero(case.model, paths):
            for images in batches:
                with devices.arithmetic(case.device, precision):
                    logits = case.model(images)
                yield name, logits


def replayed(replay: Replay, batches: Iterable[Tensor]) -> Iterator[tuple]:
    """Yield (targets, logits) for every batch and output."""
    for images in batches:
        yield from replay(images)


@torch.inference_mode()
def take_classes(outputs: Iterable[tuple]) -> None:
    for _, logits in outputs:
        logits.argmax(dim=1)


@torch.inference_mode()
def ablate(case: Case, classes: Iterable[Tensor]) -> Iterator[tuple]:
    """Yield (target, decrease of the logits by its ablation) for every target and batch."""
    # Imported here so that it does not count towards the memory of replay.
    from captum.attr import LayerFeatureAblation

    def logit(images: Tensor, chosen: Tensor) -> Tensor:
        of_chosen = case.model(images).gather(1, chosen[:, None])
        return of_chosen.flatten(1).mean(dim=1)  # over the pixels, in segmentation

    one_feature = torch.zeros(1, dtype=torch.int64, device=case.device)
    for name, (path,) in case.targets.items():
        ablation = LayerFeatureAblation(logit, case.model.get_submodule(path))
        for images, chosen in zip(case.batches, classes, strict=True):
            yield (
                name,
                ablation.attribute(
                    images,
                    layer_baselines=0,
                    layer_mask=one_feature,
                    additional_forward_args=(chosen,),
                ),
            )


# Times


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes, also on a GPU."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    sides: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of each side in each round."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(seconds(work, device))
    return taken


def ratios(of: list[float], to: list[float]) -> dict[str, float]:
    """Return the ratio of the times of two sides, over the rounds."""
    return spread([first / second for first, second in zip(of, to, strict=True)])


def spread(values: list[float]) -> dict[str, float]:
    figures = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: rounded(value) for name, value in figures.items()}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def matrix_rate(device: torch.device, precision: str) -> float:
    """Return the multiply-accumulates per second of a product of large square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    multiply = partial(torch.mm, first, second)
    multiply()
    return SIDE**3 / min(seconds(multiply, device) for _ in range(REPEATS))


# Outputs


@dataclass
class Difference:
    """Difference of one side's logits from those of the naive loop in fp32.

    Attributes:
        answers: number of compared predictions, of samples or of pixels.
        changed: number of predictions that differ.
        largest: per batch and target, largest difference of a logit relative to the largest logit.
        margins: of changed predictions, largest minus second largest logit in the naive loop.
    """

    answers: int = 0
    changed: int = 0
    largest: list[float] = field(default_factory=list)
    margins: list[Tensor] = field(default_factory=list)

    def add(self, naive: Tensor, other: Tensor) -> None:
        scale = naive.abs().amax().clamp(min=torch.finfo(naive.dtype).tiny)
        self.largest.append(float((other - naive).abs().amax() / scale))
        differs = naive.argmax(dim=1) != other.argmax(dim=1)
        self.answers += differs.numel()
        self.changed += int(differs.sum())
        two = naive.movedim(1, -1)[differs].topk(2).values
        self.margins.append((two[:, 0] - two[:, 1]).cpu())

    def figures(self) -> dict[str, object]:
        margins = torch.cat(self.margins).tolist()
        return {
            "answers": self.answers,
            "changed": self.changed,
            "changed_per_million": rounded(self.changed / self.answers * 1e6),
            "margins_of_changed": spread(margins) if margins else None,
            "largest_relative_difference": rounded(float(np.max(self.largest))),
        }


Outputs = Callable[[Tensor], Iterable[tuple]]  # of a batch, each with its target names


@torch.inference_mode()
def compare(naive: Outputs, others: dict[str, Outputs], batches: Iterable[Tensor]) -> dict:
    """Return the difference of each other side from the naive loop."""
    differences = {name: Difference() for name in others}
    for images in batches:
        expected = dict(naive(images))
        for side, outputs in others.items():
            missing = set(expected)
            for names, logits in outputs(images):
                for name in (names,) if isinstance(names, str) else names:
                    differences[side].add(expected[name], logits.float())
                    missing.remove(name)
            if missing:
                raise RuntimeError(f"{side} left out {', '.join(sorted(missing))}")
    return differences


# Cases


def make_case(name: str, arguments: argparse.Namespace) -> tuple[Case, dict[str, object]]:
    """Return the case of a network, and its description."""
    defaults = DEFAULTS[NETWORKS[name].task]
    device = torch.device(arguments.device)
    seed_everything(0)
    count = arguments.samples or defaults.samples
    if arguments.data:
        description = read_description(arguments.data / "dataset.json")
        classes, channels = len(description.classes), description.channels
        size = description.size
        stored, _ = open_checked(arguments.data, "test", description)
        # Spread over the split, because neighbors are slices of one subject.
        rows = np.unique(np.linspace(0, len(stored) - 1, min(count, len(stored))).astype(int))
        normalize = normalization(description.mean, description.std, torch.device("cpu"))
        images = normalize(torch.from_numpy(stored[rows]))
    else:
        classes, channels = defaults.classes, defaults.channels
        size = (arguments.size or defaults.size,) * 2
        images = torch.randn(count, channels, *size)
    if arguments.model:
        model, _ = load_trained(
            {"factory": NETWORKS[name].factory}, description.factory_arguments, arguments.model
        )
    else:
        model = build(name, None, classes, channels, size)
        calibrate(model, (channels, *size))
        model.eval().requires_grad_(False)
    kernels = read_table(ROOT / "resources" / "kernels" / NETWORKS[name].table)
    targets = enumerate_targets(kernels, list(SETS), ["first-unit"], {}, "set")
    case = Case(
        model.to(device),
        {target.name: target.kernels for target in targets},
        images.to(device),
        min(arguments.batch_size or defaults.batch_size, len(images)),
    )
    about = {
        "network": name,
        "weights": "trained" if arguments.model else "random",
        "data": arguments.data.name if arguments.data else "random",
        "samples": len(images),
        "batch_size": case.batch_size,
        "size": list(size),
        "channels": channels,
        "classes": classes,
        "targets": len(targets),
    }
    return case, about


@torch.no_grad()
def calibrate(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Set the statistics of batch normalization to those of random images."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean over the batches
    model.train()
    for _ in range(CALIBRATION):
        model(torch.randn(CALIBRATION_BATCH, *shape))


def measure(case: Case, precision: str, rounds: int, rates: dict[str, float]) -> dict[str, object]:
    """Return the measurements of replay in one precision and of the naive loops."""
    start = time.perf_counter()
    replay = case.replay(precision)
    synchronize(case.device)
    setup = time.perf_counter() - start

    def naive(batches: Iterable[Tensor]) -> Iterator[tuple]:
        return naive_loop(case, batches, "fp32")

    sides = {"naive_fp32": lambda: take_classes(naive(case.batches))}
    others: dict[str, Outputs] = {}
    if precision == "bf16":
        last = torch.channels_last
        model = copy.deepcopy(case.model).to(memory_format=last)
        reduced = Case(model, case.targets, case.images.to(memory_format=last), case.batch_size)
        sides["naive_bf16"] = lambda: take_classes(naive_loop(reduced, reduced.batches, "bf16"))
        others["naive_bf16"] = lambda images: naive_loop(
            reduced, [images.to(memory_format=last)], "bf16"
        )
    sides["replay"] = lambda: take_classes(replayed(replay, case.batches))
    others["replay"] = replay
    # This also warms up each side.
    differences = compare(lambda images: naive([images]), others, case.batches)
    difference = {name: found.figures() for name, found in differences.items()}
    if not rounds:
        return {"precision": precision, "method": replay.method, "difference": difference}
    taken = take_turns(sides, rounds, case.device)

    cost = replay.cost
    work = len(case.images) * len(case.targets)
    shares = None
    if cost:
        useful = {name: cost.live_passes for name in sides}
        useful["replay"] = cost.live_clean + cost.live_recomputed
        shares = {
            name: rounded(
                products
                * len(case.images)
                / median(taken[name])
                / rates["fp32" if name == "naive_fp32" else precision]
            )
            for name, products in useful.items()
        }
    return {
        "precision": precision,
        "method": replay.method,
        "statuses": dict(Counter(replay.statuses.values())),
        "rounds": rounds,
        "ratio": {name: ratios(taken[name], taken["replay"]) for name in taken if name != "replay"},
        "floor": floor(cost) if cost else None,
        "seconds": {name: spread(values) for name, values in taken.items()},
        "setup_seconds": rounded(setup),
        "samples_targets_per_second": {
            name: rounded(work / median(values)) for name, values in taken.items()
        },
        "multiply_accumulates_per_sample": asdict(cost) if cost else None,
        "share_of_matrix_rate": shares,
        "difference": difference,
    }


def floor(cost) -> dict[str, float]:
    return {
        "every_tap": rounded(cost.passes / (cost.clean + cost.recomputed)),
        "live_taps": rounded(cost.live_passes / (cost.live_clean + cost.live_recomputed)),
    }


def measure_captum(case: Case, rounds: int) -> dict[str, object]:
    """Return the measurements of Captum, replay and the naive loop, in fp32."""
    with torch.inference_mode():
        classes = [case.model(images).argmax(dim=1) for images in case.batches]
    replay = case.replay("fp32")

    def run_captum() -> None:
        for _ in ablate(case, classes):
            pass

    sides = {
        "captum": run_captum,
        "naive_fp32": lambda: take_classes(naive_loop(case, case.batches, "fp32")),
        "replay": lambda: take_classes(replayed(replay, case.batches)),
    }
    take_turns(sides, 1, case.device)  # warm-up
    taken = take_turns(sides, rounds, case.device)
    return {
        "version": version("captum"),
        "samples": len(case.images),
        "layer_targets": len(case.targets),
        "rounds": rounds,
        "ratio": {
            "captum_to_replay": ratios(taken["captum"], taken["replay"]),
            "captum_to_naive": ratios(taken["captum"], taken["naive_fp32"]),
            "naive_to_replay": ratios(taken["naive_fp32"], taken["replay"]),
        },
        "seconds": {name: spread(values) for name, values in taken.items()},
    }


# Peak memory


def run_alone(case: Case, precision: str) -> int:
    """Run replay once over all samples and return the peak memory of this process, in MiB."""
    take_classes(replayed(case.replay(precision), case.batches))
    return peak(case.device)


def peak(device: torch.device) -> int:
    return round(devices.peak_memory(device) / MIB)


def memory_of_child(name: str, precision: str, arguments: argparse.Namespace) -> dict:
    """Return the memory of another process: its libraries at the start, and its peak."""
    command = [sys.executable, __file__, "--replay-only", "--network", name]
    command += ["--precision", precision]
    for option in ("samples", "batch_size", "device", "threads", "size", "data", "model"):
        value = getattr(arguments, option)
        if value is not None:
            command += [f"--{option.replace('_', '-')}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# Program


def table(figures: dict) -> str:
    """Return one case as a table."""
    about = (
        f"{figures['network']}, replay in {figures['precision']}: {figures['samples']} samples"
        f" ({figures['data']}) of {figures['size'][0]} x {figures['size'][1]} in batches of"
        f" {figures['batch_size']}, {figures['targets']} targets"
    )
    if "seconds" not in figures:
        return "\n".join([about, *difference_lines(figures)]) + "\n"
    about += f", {figures['rounds']} rounds"
    lines = [about, row("", "seconds", "ratio to replay", "samples x targets/s", "of matrix rate")]
    shares = figures["share_of_matrix_rate"] or {}
    for name, times in figures["seconds"].items():
        ratio = figures["ratio"].get(name)
        lines.append(
            row(
                name.replace("_", " "),
                shown(times),
                shown(ratio) if ratio else "",
                f"{figures['samples_targets_per_second'][name]:,.0f}",
                f"{shares[name]:.2f}" if name in shares else "",
            )
        )
    lines += difference_lines(figures)
    memory = figures["memory_mib"]
    lines.append(
        f"  setup {figures['setup_seconds']:.2f} s; peak memory {memory['peak']} MiB"
        + (f" (libraries alone: {memory['libraries']} MiB)" if memory["libraries"] else "")
    )
    if bound := figures["floor"]:
        lines.append(
            f"  floor {bound['every_tap']:.2f}, {bound['live_taps']:.2f} with live taps only"
        )
    if captum := figures.get("captum"):
        lines.append(
            f"  captum {captum['version']}, {captum['layer_targets']} layer targets alone,"
            f" {captum['samples']} samples: {shown(captum['ratio']['captum_to_replay'])} times"
            f" replay, {shown(captum['ratio']['captum_to_naive'])} times the naive loop"
        )
    return "\n".join(lines) + "\n"


def difference_lines(figures: dict) -> list[str]:
    lines = []
    for name, found in figures["difference"].items():
        margins = found["margins_of_changed"]
        lines.append(
            f"  {name.replace('_', ' ')}: {found['changed']} of {found['answers']:,} answers"
            f" changed ({found['changed_per_million']:g} in a million"
            + (f"; margins {shown(margins)}" if margins else "")
            + f"), logits differ by {found['largest_relative_difference']:.1e} of their scale"
        )
    return lines


def row(*cells: str) -> str:
    return "  " + "".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


WIDTHS = (12, 28, 24, 22, 14)


def shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:.3g} ({figures['min']:.3g} to {figures['max']:.3g})"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--network",
        nargs="+",
        choices=NETWORKS,
        required=True,
        help="network; -cifar means with the CIFAR stem",
    )
    made.add_argument("--samples", type=int, help="default 500; 64 in segmentation")
    made.add_argument("--batch-size", type=int, help="default 250; 64 in segmentation")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument(
        "--precision",
        nargs="+",
        choices=devices.PRECISIONS,
        default=["fp32"],
        help="precision of replay",
    )
    made.add_argument(
        "--rounds", type=int, default=5, help="number of rounds; 0 only compares predictions"
    )
    made.add_argument(
        "--threads", type=int, help="number of CPU threads; by default, torch's choice"
    )
    made.add_argument(
        "--size", type=int, help="side of random images; default 32, or 64 in segmentation"
    )
    made.add_argument("--data", type=Path, help="folder of prepared data; uses its test split")
    made.add_argument("--model", type=Path, help="trained weights (safetensors); needs --data")
    made.add_argument(
        "--captum",
        type=int,
        nargs="?",
        const=CAPTUM_SAMPLES,
        metavar="SAMPLES",
        help=f"also time Captum in fp32, with this many samples (default {CAPTUM_SAMPLES})",
    )
    made.add_argument("--output", type=Path, help="write the JSON here instead of printing it")
    made.add_argument(
        "--replay-only",
        action="store_true",
        help="internal: run replay once and print the peak memory",
    )
    return made


def main(arguments: argparse.Namespace) -> None:
    if arguments.model and not arguments.data:
        raise UserError("--model: also give the data that it was trained on, with --data")
    if arguments.data and arguments.size:
        raise UserError(
            "--size is for random images; prepared data have their own. Leave out --size or --data."
        )
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU. Use --device cpu.")
    fix_arithmetic(arguments.threads)
    if arguments.replay_only:
        (name,), (precision,) = arguments.network, arguments.precision
        libraries = peak(torch.device("cpu")) if arguments.device == "cpu" else None
        case, _ = make_case(name, arguments)
        print(json.dumps({"libraries": libraries, "peak": run_alone(case, precision)}))
        return
    device = torch.device(arguments.device)
    rates = {
        precision: matrix_rate(device, precision) for precision in {"fp32", *arguments.precision}
    }
    cases = []
    for name in arguments.network:
        case, about = make_case(name, arguments)
        for precision in arguments.precision:
            figures = about | measure(case, precision, arguments.rounds, rates)
            if arguments.rounds:
                figures["memory_mib"] = memory_of_child(name, precision, arguments)
            if arguments.rounds and arguments.captum and precision == "fp32":
                figures["captum"] = measure_captum(case.layers(arguments.captum), arguments.rounds)
            print(table(figures), file=sys.stderr, flush=True)
            cases.append(figures)
    report = {
        "date": date.today().isoformat(),
        "device": devices.describe(device),
        "threads": torch.get_num_threads(),
        "versions": devices.versions(),
        "matrix_gmac_per_second": {name: rounded(rate / 1e9) for name, rate in rates.items()},
        "cases": cases,
    }
    text = json.dumps(report, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    command_line.call(lambda: main(parser().parse_args()))
