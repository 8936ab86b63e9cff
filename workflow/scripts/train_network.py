"""Train one network on one data set with one recipe and one seed."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nontrivial.data.prepared import open_checked
from nontrivial.data.setup import Setup, set_up
from nontrivial.errors import Interrupted, UserError, located
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.atomic import write_text
from nontrivial.execution.command_line import log
from nontrivial.execution.interruption import Interruption, noticed
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.execution.reuse import reused
from nontrivial.formats import weights
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.formats.canonical import digest as content_digest
from nontrivial.formats.dataset import SPLITS, read_description
from nontrivial.formats.history import write_history
from nontrivial.formats.snapshots import write_snapshots
from nontrivial.networks.factory import initialize
from nontrivial.networks.live_convolutions import without_dead_taps
from nontrivial.training.checkpoint import Checkpoints
from nontrivial.training.loop import Training
from nontrivial.training.recipe import Recipe, read_recipe
from nontrivial.training.validation import METRICS, score


def train_network(
    settings: dict,
    seed: int,
    data: Path,
    kernels: str,
    output: Path,
    snapshots: Path,
    history: Path,
    digest: Path,
    code: str,
    checkpoint_minutes: float = 10,
    check: Path | None = None,
    kernel_table: Path | None = None,
) -> None:
    """Train a network, validate it after each epoch, and test it once after the last epoch.

    A network that was trained before with the same settings, seed, data, kernels and code is
    reused. An interrupted training resumes from its last checkpoint.

    Args:
        settings: ``{"network": {"name", "factory", "arguments"}, "recipe": {...}}``.
        seed: of the initialization and of everything random in the training.
        data: folder of the prepared data.
        kernels: digest of the structure of the kernel table, for the metadata of the weights.
        output: ``model.safetensors``, weights after the last epoch.
        snapshots: ``snapshots.safetensors``, states after the epochs that the recipe names.
        history: ``training.parquet``, a row per epoch.
        digest: ``model.json``, written last: digests of weights and snapshots.
        code: fingerprint of the code.
        checkpoint_minutes: time between two checkpoints, which are beside the output until the
            training ends.
        check: ``check_network.py``, to be run before a training starts; None checks nothing.
        kernel_table: kernel table of the network, for the check.

    Raises:
        UserError: settings, data and network do not fit together, the loss is not finite, or
            memory or disk space is short.
        Interrupted: after a signal; a checkpoint was written.
        OSError: the disk is full or read-only; the last checkpoint is unchanged.
    """
    recipe, network = read_recipe(settings["recipe"]), settings["network"]
    description = read_description(data / "dataset.json")
    origin = {
        "configuration": canonical(settings),
        "seed": str(seed),
        "data": description.content_digest,
        "kernels": kernels,
        "code": code,
    }
    fix_arithmetic(recipe.threads)
    outputs, folder = [output, snapshots, history, digest], output.parent
    # Until everything is recorded, a signal must not interrupt what follows the training.
    with (
        noticed() as interruption,
        reused(outputs, content_digest(origin)) as is_done,
        located(folder),
    ):
        if is_done:
            log.info("%s: reused; data, recipe, seed and code are unchanged", folder)
            return
        if check is not None:
            _run_check(check, settings, data, kernel_table, interruption)
        # The RNG state of one device type means nothing to another.
        origin["device type"] = devices.pick().type
        checkpoints = Checkpoints(folder, origin, 60 * checkpoint_minutes)
        with devices.out_of_memory_explained(recipe.batch_size):
            model = initialize(
                network["factory"], *description.factory_arguments, seed, network.get("arguments")
            )
            arrays = {split: open_checked(data, split, description) for split in SPLITS}
            setup = set_up(model, description, arrays, recipe.precision)
            _log_start(network["name"], setup, recipe)
            validate, test = (
                partial(score, setup, split, data, interruption.check) for split in ("val", "test")
            )
            training = Training(setup, recipe, seed, validate)
            checkpoints.refuse_small_disk(training.checkpoint_bytes)
            with without_dead_taps(model, description.channels, description.size):
                tested = _train(training, test, checkpoints, interruption)
        metric = METRICS[description.task]
        log.info("test %s: %.4f", metric, tested)
        about = {"network": network["name"], "kernels": kernels}
        weights.save(model, output, about)
        write_snapshots(snapshots, training.snapshots, about)
        write_history(
            history,
            training.epochs,
            metric=metric,
            test=tested,
            threads=recipe.threads,
            precision=recipe.precision,
        )
        digests = {"sha256": file_digest(output), "snapshots": file_digest(snapshots)}
        write_text(digest, canonical(digests) + "\n")
    checkpoints.remove()


def _run_check(
    program: Path, settings: dict, data: Path, kernels: Path | None, interruption: Interruption
) -> None:
    """Run ``check_network.py`` in a process, so that its code is not part of this program's."""
    command = [sys.executable, program, "--settings", canonical(settings), "--data", data]
    done = subprocess.run(
        [*command, "--kernels", str(kernels)], stderr=subprocess.PIPE, text=True, check=False
    )
    interruption.check()
    *lines, last = done.stderr.splitlines() or ["the check of the network said nothing"]
    for line in lines:
        log.info("%s", line)
    if done.returncode:
        raise UserError(last.removeprefix("error: "))
    log.info("%s", last)


def _train(
    training: Training,
    test: Callable[[], float],
    checkpoints: Checkpoints,
    interruption: Interruption,
) -> float:
    """Resume or start the training, finish it and return its metric on the test split."""
    _resume(training, checkpoints)
    try:
        for _ in training.run(partial(_between_steps, training, checkpoints, interruption)):
            pass
        return test()
    except Interrupted:
        checkpoints.save(training.state())
        log.info("checkpoint written after %s; run the same command to resume", training.position)
        raise


def _resume(training: Training, checkpoints: Checkpoints) -> None:
    state = checkpoints.latest()
    if state is None:
        return
    try:
        training.resume(state)
    except (RuntimeError, KeyError) as error:  # the network changed, and no fingerprint shows it
        raise UserError(
            f"the checkpoint does not fit the network ({' '.join(str(error).split())}); delete the"
            " checkpoints beside the weights to train from the beginning"
        ) from error
    log.info("resumed from a checkpoint after %s", training.position)
    here = {"device": devices.describe(devices.pick()), "versions": devices.versions()}
    for what, now in here.items():
        if state.values[what] != now:
            log.warning(
                "started with %s %s, resumed with %s: the weights may differ from those of an"
                " uninterrupted training",
                what,
                state.values[what],
                now,
            )


def _between_steps(
    training: Training, checkpoints: Checkpoints, interruption: Interruption
) -> None:
    interruption.check()
    if not checkpoints.is_due:
        return
    state = training.state()
    try:
        checkpoints.save(state)
    except OSError as error:  # space may be freed before the training ends
        log.warning("no checkpoint: %s; training continues", command_line.explain(error))


def _log_start(network: str, setup: Setup, recipe: Recipe) -> None:
    device = devices.describe(setup.device)
    if recipe.precision == "bf16" and devices.has_bf16_instructions(setup.device) is False:
        log.warning("%s has no bf16 instructions: precision fp32 is likely faster", device)
    log.info(
        "%s on %s, %s, %d threads: %d samples, %d epochs, batch size %d",
        network,
        device,
        recipe.precision,
        recipe.threads,
        len(setup.samples["train"]),
        recipe.epochs,
        recipe.batch_size,
    )


if __name__ == "__main__":
    command_line.run(train_network)
