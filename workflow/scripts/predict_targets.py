"""Predict every sample of a split with a trained network, once for each zeroing target."""

import time
from dataclasses import asdict
from pathlib import Path

from nontrivial.data.prepared import open_checked
from nontrivial.data.setup import Setup, set_up
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.atomic import replacing, write_text
from nontrivial.execution.command_line import log
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.execution.reuse import reused
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.formats.canonical import digest as content_digest
from nontrivial.formats.dataset import read_description
from nontrivial.formats.predictions import PredictionsWriter, TargetProperties
from nontrivial.formats.target_spec import TargetSpec, read_spec
from nontrivial.networks.convolutions import forward_calls
from nontrivial.networks.kernel_table import Kernel, read_table, structure_digest
from nontrivial.networks.live_weights import count_weights
from nontrivial.networks.trained import load_trained
from nontrivial.replay import Replay
from nontrivial.replay.sweep import count_flips, predict


def predict_targets(
    settings: dict,
    data: Path,
    model: Path,
    kernels: Path,
    targets: Path,
    output: Path,
    digest: Path,
    threads: int | None = None,
    code: str = "",
) -> None:
    """Predict every sample of a split, once for each target with its kernels set to zero.

    Predictions that were made before with the same settings, targets, weights, data, kernels and
    code are reused.

    Args:
        settings: ``network`` (``name``, ``factory``, ``arguments``), ``precision``, ``batch_size``,
            ``split``.
        data: folder of the prepared data.
        model: weights (safetensors), with the digest of the kernel table in their metadata.
        kernels: kernel table of the network.
        targets: spec file of the targets.
        output: predictions to write (Parquet), in the order of the spec.
        digest: digest of their content to write (JSON).
        threads: CPU threads; None leaves torch's default.
        code: fingerprint of the code.

    Raises:
        UserError: an input is missing or damaged, or inputs do not belong together.
    """
    description, table = read_description(data / "dataset.json"), read_table(kernels)
    identity = content_digest(
        {
            "settings": settings,
            "targets": file_digest(targets),
            "weights": file_digest(model),
            "data": description.content_digest,
            "kernels": structure_digest(table),
            "code": code,
        }
    )
    fix_arithmetic(threads)
    with reused([output, digest], identity) as is_done:
        if is_done:
            log.info("%s: reused; weights, data, targets and code are unchanged", output)
            return
        wanted = read_spec(targets, {kernel.path for kernel in table})
        network, metadata = load_trained(settings["network"], description.factory_arguments, model)
        _refuse_other_table(metadata, table, model, kernels)
        split, precision = settings["split"], settings["precision"]
        arrays = {split: open_checked(data, split, description)}
        setup = set_up(network, description, arrays, precision)
        started = time.perf_counter()
        replay = _replay(setup, wanted, settings["batch_size"], precision)
        predicted = predict(replay, setup, split, settings["batch_size"])
        report = _report(replay, len(setup.samples[split]), time.perf_counter() - started, setup)
        if precision != "fp32":
            exact = _replay(setup, wanted, settings["batch_size"], "fp32")
            report["against_fp32"] = count_flips(
                replay, exact, setup, split, settings["batch_size"]
            )
        provenance = {
            **devices.environment(setup.device),
            "precision": precision,
            "batch_size": settings["batch_size"],
        }
        with replacing(output) as temporary:
            writer = PredictionsWriter(
                temporary, description.task, _properties(setup, replay, wanted), provenance
            )
            for target in wanted:
                writer.write(target.name, predicted[target.name])
            content = writer.close(report)
        write_text(digest, canonical({"sha256": content}) + "\n")


def _refuse_other_table(metadata: dict, table: list[Kernel], model: Path, kernels: Path) -> None:
    if metadata.get("kernels") != structure_digest(table):
        raise UserError(
            f"{model}: trained with another kernel table than {kernels};"
            " give the table that it was trained with, or train again"
        )


def _replay(setup: Setup, targets: list[TargetSpec], batch_size: int, precision: str) -> Replay:
    with devices.out_of_memory_explained(batch_size):
        return Replay(
            setup.network,
            (setup.description.channels, *setup.description.size),
            {target.name: target.kernels for target in targets},
            batch_size=batch_size,
            precision=precision,
        )


def _properties(
    setup: Setup, replay: Replay, targets: list[TargetSpec]
) -> dict[str, TargetProperties]:
    calls = forward_calls(setup.network, setup.description.channels, setup.description.size)
    return {
        target.name: TargetProperties(
            replay.statuses[target.name], *count_weights(calls, target.kernels)
        )
        for target in targets
    }


def _report(replay: Replay, samples: int, seconds: float, setup: Setup) -> dict:
    report = {
        "method": replay.method,
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "peak_memory_bytes": devices.peak_memory(setup.device),
    }
    if replay.cost is not None:
        report["multiply_accumulates_per_sample"] = asdict(replay.cost)
    targets = len(replay.statuses)
    log.info(
        "%d samples, %d targets in %.1f s: %.0f samples/s, %.0f predictions/s, peak %.0f MiB",
        samples,
        targets,
        seconds,
        samples / seconds,
        samples * targets / seconds,
        report["peak_memory_bytes"] / 2**20,
    )
    return report


if __name__ == "__main__":
    command_line.run(predict_targets)
