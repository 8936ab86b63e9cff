"""Predict with a trained network, for all zeroing targets of a job: what each sample gets."""

import logging
import time
from dataclasses import asdict
from pathlib import Path

import torch

from nontrivial.data.batches import fastest_memory_format, normalization, place
from nontrivial.data.prepared import read_description
from nontrivial.data.split_arrays import open_checked
from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.atomic import replacing, write_text
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.execution.reuse import keep, kept, recall
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.formats.canonical import digest as content_digest
from nontrivial.formats.predictions import About, PredictionsWriter, read_identity
from nontrivial.formats.target_spec import TargetSpec, read_spec
from nontrivial.networks.convolutions import check_table, forward_calls
from nontrivial.networks.kernel_table import read_table, structure_digest
from nontrivial.networks.live_weights import count_weights
from nontrivial.networks.trained import load_trained
from nontrivial.replay import Replay
from nontrivial.replay.sweep import Question, count_flips, predict

log = logging.getLogger("nontrivial")


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
    """Find what each sample of a split gets with each target's kernels at zero, and store it.

    Predictions that were made already from the same settings, targets, weights, data, kernels
    and code are kept: something above was made again, with the same result.

    Args:
        settings: ``network`` (``name``, ``factory``), ``precision``, ``batch_size``, ``split``.
        data: folder of the prepared data.
        model: weights in safetensors, with the kernel table's digest in their metadata.
        kernels: the network's kernel table.
        targets: spec file of the targets.
        output: predictions to write, in the order of the spec (Parquet).
        digest: digest of their content to write (JSON).
        threads: threads of the CPU's operations; None leaves torch's choice.
        code: fingerprint of the code, as the rule knows it.

    Raises:
        UserError: an input is missing or bad, or inputs do not belong together.
    """
    fix_arithmetic(threads or torch.get_num_threads())
    device = devices.pick()
    description = read_description(data / "dataset.json")
    images, labels = open_checked(data, settings["split"], description)
    table = read_table(kernels)
    wanted = read_spec(targets, {kernel.path for kernel in table})

    network, metadata = load_trained(settings["network"], description, model)
    if metadata.get("kernels") != structure_digest(table):
        raise UserError(
            f"{model}: trained with another kernel table than {kernels};"
            " give the table that it was trained with, or train again"
        )
    identity = content_digest(
        {
            "settings": settings,
            "targets": file_digest(targets),
            "weights": file_digest(model),
            "data": file_digest(data / "dataset.json"),
            "kernels": structure_digest(table),
            "code": code,
        }
    )
    found = read_identity(kept(output))
    if found is not None and found[0] == identity:
        recall([output])
        write_text(digest, _voucher(found[1]))
        log.info("%s: predicted already from the same weights, data and code; kept", output)
        return
    check_table(table, network, description.channels, description.size, kernels)

    started = time.perf_counter()
    precision, batch_size = settings["precision"], settings["batch_size"]
    memory_format = fastest_memory_format(device, precision)
    network.to(device=device, memory_format=memory_format)
    question = Question(
        task=description.task,
        classes=len(description.classes),
        normalize=normalization(description.mean, description.std, device, memory_format),
    )
    samples = place({"split": (images, labels)}, device)["split"]

    def replayed(precision: str) -> Replay:
        with devices.out_of_memory_explained(batch_size):
            return Replay(
                network,
                (description.channels, *description.size),
                {target.name: target.kernels for target in wanted},
                batch_size=batch_size,
                precision=precision,
            )

    replay = replayed(precision)
    predicted = predict(replay, question, samples, batch_size)
    report = _report(replay, len(images), time.perf_counter() - started, device)
    if precision != "fp32":
        report["against_fp32"] = count_flips(
            replay, replayed("fp32"), question, samples, batch_size
        )
    provenance = {
        "device": devices.describe(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "batch_size": batch_size,
        "versions": devices.versions(),
        "identity": identity,
    }
    about = _about(network, replay, wanted, description.channels, description.size)
    digest.unlink(missing_ok=True)  # it must not vouch for the next file
    with replacing(output) as temporary:
        writer = PredictionsWriter(temporary, description.task, about, provenance)
        for target in wanted:
            writer.write(target.name, predicted[target.name])
        content = writer.close(report)
    write_text(digest, _voucher(content))
    keep([output])


def _voucher(content: str) -> str:
    return canonical({"sha256": content}) + "\n"


def _about(
    model: torch.nn.Module,
    replay: Replay,
    targets: list[TargetSpec],
    channels: int,
    size: tuple[int, int],
) -> dict[str, About]:
    calls = forward_calls(model, channels, size)
    return {
        target.name: About(replay.statuses[target.name], *count_weights(calls, target.kernels))
        for target in targets
    }


def _report(replay: Replay, samples: int, seconds: float, device: torch.device) -> dict:
    report = {
        "method": replay.method,
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "peak_memory_bytes": devices.peak_memory(device),
    }
    if replay.cost is not None:
        report["multiply_accumulates_per_sample"] = asdict(replay.cost)
    targets = len(replay.statuses)
    log.info(
        "%d samples, %d targets in %.1f s: %.0f samples/s, %.0f predictions/s, %.0f MiB at most",
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
