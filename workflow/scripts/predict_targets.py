"""Predict with a trained network, once per zeroing target: what each sample gets."""

import argparse
import logging
import time
from pathlib import Path

import torch

from nontrivial import program
from nontrivial.atomic import replacing, write_text
from nontrivial.canonical import canonical, file_digest
from nontrivial.canonical import digest as content_digest
from nontrivial.compute import device as devices
from nontrivial.compute.batches import fastest_memory_format, normalization, place
from nontrivial.compute.reproducibility import fix_arithmetic
from nontrivial.data.prepared import read_description
from nontrivial.data.split_arrays import open_checked
from nontrivial.errors import UserError
from nontrivial.experiment.dependence import Dependence
from nontrivial.experiment.live_weights import count_weights
from nontrivial.experiment.prediction import Question, predict
from nontrivial.experiment.predictions import About, PredictionsWriter, read_identity
from nontrivial.experiment.target_spec import TargetSpec, read_spec
from nontrivial.experiment.zeroing import kernel_weights, state_digest, zeroed
from nontrivial.kept import keep, kept, recall
from nontrivial.network.convolutions import check_table, forward_calls
from nontrivial.network.kernels import read_table, structure_digest
from nontrivial.network.trained_network import load_trained

log = logging.getLogger("nontrivial")


def predict_targets(
    settings: dict,
    data: Path,
    model_path: Path,
    kernels_path: Path,
    targets_path: Path,
    output: Path,
    digest_path: Path,
    threads: int | None = None,
    code: str = "",
) -> None:
    """Zero each target, pass the whole split through the network, restore, and store.

    Predictions that were made already from the same settings, targets, weights, data, kernels
    and code are kept: something above was made again, with the same result.

    Args:
        settings: ``network`` (``name``, ``factory``), ``precision``, ``batch_size``, ``split``.
        data: folder of the prepared data.
        model_path: weights in safetensors, with the kernel table's digest in their metadata.
        kernels_path: the network's kernel table.
        targets_path: spec file of the targets.
        output: predictions to write, in the order of the spec (Parquet).
        digest_path: digest of their content to write (JSON).
        threads: threads of the CPU's operations; None leaves torch's choice.
        code: fingerprint of the code, as the rule knows it.

    Raises:
        UserError: an input is missing or bad, or inputs do not belong together.
        RuntimeError: the network is not what it was before (a defect).
    """
    fix_arithmetic(threads or torch.get_num_threads())
    device = devices.pick()
    description = read_description(data / "dataset.json")
    images, labels = open_checked(data, settings["split"], description)
    kernels = read_table(kernels_path)
    targets = read_spec(targets_path, {kernel.path for kernel in kernels})

    model, metadata = load_trained(settings["network"], description, model_path)
    if metadata.get("kernels") != structure_digest(kernels):
        raise UserError(
            f"{model_path}: trained with another kernel table than {kernels_path};"
            " give the table that it was trained with, or train again"
        )
    identity = content_digest(
        {
            "settings": settings,
            "targets": file_digest(targets_path),
            "weights": file_digest(model_path),
            "data": file_digest(data / "dataset.json"),
            "kernels": structure_digest(kernels),
            "code": code,
        }
    )
    results = [output, digest_path]
    if read_identity(kept(output)) == identity and kept(digest_path).is_file():
        recall(results)
        log.info("%s: predicted already from the same weights, data and code; kept", output)
        return
    untouched = state_digest(model)
    check_table(kernels, model, description.channels, description.size, kernels_path)
    about = _describe(model, targets, description.channels, description.size)

    memory_format = fastest_memory_format(device, settings["precision"])
    model.to(device=device, memory_format=memory_format)
    question = Question(
        task=description.task,
        classes=len(description.classes),
        normalize=normalization(description.mean, description.std, device, memory_format),
        precision=settings["precision"],
        device=device,
    )
    samples = place({"split": (images, labels)}, device)["split"]
    provenance = {
        "device": devices.describe(device),
        "threads": torch.get_num_threads(),
        "precision": settings["precision"],
        "batch_size": settings["batch_size"],
        "versions": devices.versions(),
        "identity": identity,
    }
    digest_path.unlink(missing_ok=True)  # it must not vouch for the next file
    with replacing(output) as temporary:
        writer = PredictionsWriter(temporary, description.task, about, provenance)
        seconds: dict[str, float] = {}
        for number, target in enumerate(targets, start=1):
            started = time.perf_counter()
            with zeroed(model, target.kernels):
                columns = predict(model, question, samples, settings["batch_size"])
            writer.write(target.name, columns)
            seconds[target.name] = time.perf_counter() - started
            _report(number, len(targets), target.name, len(images), seconds)
        content = writer.close(seconds)
        if state_digest(model) != untouched:
            raise RuntimeError(
                "the network is not what it was before: a kernel was not restored, or the forward"
                " pass changes the network's own state in evaluation mode"
            )
    write_text(digest_path, canonical({"sha256": content}) + "\n")
    keep(results)


def _describe(
    model: torch.nn.Module, targets: list[TargetSpec], channels: int, size: tuple[int, int]
) -> dict[str, About]:
    calls = forward_calls(model, channels, size)
    dependence = Dependence(model, channels, size)
    about = {}
    for target in targets:
        kernel_weights(model, target.kernels)  # refuse what cannot be zeroed before any pass
        live, total = count_weights(calls, target.kernels)
        about[target.name] = About(dependence.status(target.kernels, live), live, total)
    return about


def _report(number: int, count: int, name: str, samples: int, seconds: dict[str, float]) -> None:
    mean = sum(seconds.values()) / number
    log.info(
        "target %d/%d %s: %.1f s, %.0f samples/s, %.0f s left",
        number,
        count,
        name,
        seconds[name],
        samples / seconds[name],
        mean * (count - number),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=program.settings_argument, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared data")
    parser.add_argument("--model", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument("--kernels", type=Path, required=True, help="kernel table (TSV)")
    parser.add_argument("--targets", type=Path, required=True, help="spec of the targets (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="predictions (Parquet)")
    parser.add_argument("--digest", type=Path, required=True, help="their digest (JSON)")
    parser.add_argument("--threads", type=int, help="threads of the CPU's operations")
    parser.add_argument("--code", default="", help="fingerprint of the code")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    predict_targets(
        arguments.settings,
        arguments.data,
        arguments.model,
        arguments.kernels,
        arguments.targets,
        arguments.output,
        arguments.digest,
        arguments.threads,
        arguments.code,
    )


if __name__ == "__main__":
    program.run(_parser(), _main)
