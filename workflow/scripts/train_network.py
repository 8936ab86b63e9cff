"""Train one network on one prepared data set with one recipe and one seed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from nontrivial.data.batches import (
    Normalization,
    Samples,
    fastest_memory_format,
    normalization,
    place,
)
from nontrivial.data.prepared import SPLITS, Description, read_description
from nontrivial.data.split_arrays import open_checked
from nontrivial.errors import Interrupted, UserError
from nontrivial.execution import command_line
from nontrivial.execution import device as devices
from nontrivial.execution.atomic import write_text
from nontrivial.execution.command_line import log
from nontrivial.execution.interruption import Interruption, noticed
from nontrivial.execution.reproducibility import fix_arithmetic, seed_everything
from nontrivial.execution.reuse import keep, kept, recall
from nontrivial.formats import samples, weights
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.formats.canonical import digest as _digest
from nontrivial.formats.history import read_identity, write_history
from nontrivial.networks import building, registry
from nontrivial.networks.convolutions import check_table
from nontrivial.networks.kernel_table import read_table, structure_digest
from nontrivial.networks.live_convolutions import without_dead_taps
from nontrivial.training.checkpoint import Checkpoints
from nontrivial.training.loop import Problem, Training
from nontrivial.training.recipe import Recipe, read_recipe
from nontrivial.training.validation import METRICS, accuracy, mean_dice


def train_network(
    settings: dict,
    seed: int,
    data: Path,
    kernels: Path,
    output: Path,
    digest: Path,
    history: Path,
    code: str,
    checkpoint_minutes: float = 10,
) -> None:
    """Train, score on val after each epoch and on test once, and write the last weights.

    A network that was trained already from the same settings, seed, data, kernels and code is
    kept: a job that runs because its data were prepared again, with the same result, must not
    cost a day. One that was stopped goes on from its last checkpoint.

    Args:
        settings: ``{"network": {"name", "factory"}, "recipe": {...}}``.
        seed: of the first weights and of everything drawn afterwards.
        data: folder of the prepared data.
        kernels: the network's kernel table.
        output: ``model.safetensors``; the same weights give the same bytes.
        digest: ``model.json``, written last: it vouches for the other two.
        history: ``training.parquet``.
        code: fingerprint of the code, as the rule knows it.
        checkpoint_minutes: time between two checkpoints, which stand beside the output until
            the training ends.

    Raises:
        UserError: the settings, the data, the kernel table and the network do not fit
            together, the loss is not finite, or memory or the disk is short.
        Interrupted: a signal asked the process to end; a checkpoint is written.
        OSError: the disk is full or read-only; the last checkpoint stays.
    """
    recipe = read_recipe(settings["recipe"])
    network = settings["network"]
    description = read_description(data / "dataset.json")
    refuse_misfit(network["name"], description, recipe, data)
    table = read_table(kernels)
    origin = {
        "configuration": canonical(settings),
        "seed": str(seed),
        "data": file_digest(data / "dataset.json"),
        "kernels": structure_digest(table),
        "code": code,
    }
    results = [output, history, digest]
    # A checkpoint that lies there is of another training, tried in between, and stays.
    if is_trained(_digest(origin), *map(kept, results)):
        recall(results)
        log.info("%s: trained already from the same data, recipe and code; kept", output.parent)
        return
    device = devices.pick()
    # The states of chance of one kind of device mean nothing to another.
    checkpoints = Checkpoints(
        output.parent, {**origin, "kind of device": device.type}, 60 * checkpoint_minutes
    )
    fix_arithmetic(recipe.threads)
    seed_everything(seed)
    try:
        with noticed() as interruption, devices.out_of_memory_explained(recipe.batch_size):
            model = building.build(
                network["name"],
                network["factory"],
                len(description.classes),
                description.channels,
                description.size,
            )
            check_table(table, model, description.channels, description.size, kernels)
            checkpoints.refuse_small_disk(_checkpoint_size(model))
            memory_format = fastest_memory_format(device, recipe.precision)
            model = model.to(device=device, memory_format=memory_format)
            normalize = normalization(description.mean, description.std, device, memory_format)
            stored = {split: open_checked(data, split, description) for split in SPLITS}
            placed = place(stored, device)
            score = _scorer(description, data, placed, normalize, device, interruption.check)
            metric = METRICS[description.task]
            problem = Problem(
                description.task, placed["train"], normalize, partial(score, split="val"), metric
            )
            _tell(network["name"], recipe, device, len(placed["train"]))
            training = Training(model, problem, recipe, seed, device)
            with without_dead_taps(model, description.channels, description.size):
                _resume(training, checkpoints, device)
                between_steps = partial(_between_steps, training, checkpoints, interruption)
                with _kept_when_interrupted(training, checkpoints):
                    for _ in training.run(between_steps):
                        pass
                    test = score(model, "test")
            log.info("test %s: %.4f", metric, test)
            digest.unlink(missing_ok=True)  # it must not vouch for the next file
            weights.save(
                model, output, {"network": network["name"], "kernels": structure_digest(table)}
            )
            write_history(
                history,
                training.epochs,
                metric=metric,
                test=test,
                threads=recipe.threads,
                precision=recipe.precision,
                identity=_digest(origin),
            )
            write_text(digest, _voucher(output))
            keep(results)
            checkpoints.remove()
    except UserError as error:
        raise UserError(f"{output.parent}: {error}") from error


def _resume(training: Training, checkpoints: Checkpoints, device: torch.device) -> None:
    state = checkpoints.latest()
    if state is None:
        return
    try:
        training.resume(state)
    except (RuntimeError, KeyError) as error:  # its code is in no fingerprint, or it grows
        raise UserError(
            f"the checkpoint does not fit the network ({' '.join(str(error).split())}); delete the"
            " checkpoints there to start over"
        ) from error
    log.info("goes on from a checkpoint after %s", training.position)
    here = {"device": devices.describe(device), "versions": devices.versions()}
    for what, now in here.items():
        if state.values[what] != now:
            log.warning(
                "begun with %s %s, now %s: the weights may differ from those of a training that was"
                " not stopped",
                what,
                state.values[what],
                now,
            )


@contextmanager
def _kept_when_interrupted(training: Training, checkpoints: Checkpoints) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        checkpoints.save(training.state())
        log.info("checkpoint written after %s; the same command goes on from it", training.position)
        raise


def _between_steps(
    training: Training, checkpoints: Checkpoints, interruption: Interruption
) -> None:
    interruption.check()
    if not checkpoints.is_due:
        return
    state = training.state()
    try:
        checkpoints.save(state)
    except OSError as error:  # room may be made before the end
        log.warning("no checkpoint: %s; training goes on", command_line.explain(error))


def _checkpoint_size(model: nn.Module) -> int:
    """Return bytes of the network's state and of the momentum of its parameters."""
    state = 0
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"the network's state holds {name}, which is no tensor and cannot be saved; let its"
                " get_extra_state return a tensor"
            )
        state += value.nbytes
    return state + sum(parameter.nbytes for parameter in model.parameters())


def _tell(network: str, recipe: Recipe, device: torch.device, samples: int) -> None:
    if recipe.precision == "bf16" and devices.has_bf16_instructions(device) is False:
        log.warning(
            "%s has no bf16 instructions: precision fp32 is likely faster", devices.describe(device)
        )
    log.info(
        "%s on %s, %s, %d threads: %d samples, %d epochs, batches of %d",
        network,
        devices.describe(device),
        recipe.precision,
        recipe.threads,
        samples,
        recipe.epochs,
        recipe.batch_size,
    )


def is_trained(identity: str, output: Path, history: Path, digest: Path) -> bool:
    """Return whether complete results of a training with this identity are there."""
    if read_identity(history) != identity or not output.is_file() or not digest.is_file():
        return False
    return digest.read_text(encoding="utf-8") == _voucher(output)


def _voucher(output: Path) -> str:
    return canonical({"sha256": file_digest(output)}) + "\n"


def refuse_misfit(network: str, description: Description, recipe: Recipe, data: Path) -> None:
    """Refuse a network and a recipe that the data cannot be used with.

    Raises:
        UserError: the network is for another task, the Dice loss is wanted without
            segmentation, the crop is wider than the image, or there is next to no data.
    """
    where = data / "dataset.json"
    entry = registry.NETWORKS.get(network)
    if entry is not None and entry.task != description.task:
        raise UserError(
            f"network {network} is for {entry.task} but {where} is for {description.task};"
            " choose a network and a data set of one task"
        )
    if recipe.dice_weight > 0 and description.task != "segmentation":
        raise UserError(
            f"recipe: dice_weight is {recipe.dice_weight:g} but {where} is for"
            f" {description.task}; set it to 0"
        )
    padding = recipe.augmentation.crop_padding
    if padding >= min(description.size):
        raise UserError(
            f"recipe: crop_padding is {padding} but the images of {where} are"
            f" {description.size[0]} x {description.size[1]}; make it smaller"
        )
    for split, least in (("train", 2), ("val", 1), ("test", 1)):
        if description.counts[split] < least:
            raise UserError(
                f"{where}: {split} has {description.counts[split]} samples and needs {least};"
                " change how the data are split"
            )


def _scorer(
    description: Description,
    data: Path,
    placed: dict[str, Samples],
    normalize: Normalization,
    device: torch.device,
    after_batch: Callable[[], None],
) -> Callable[[nn.Module, str], float]:
    """Return the function that scores a network on a split by name."""

    def by_image(model: nn.Module, split: str) -> float:
        return accuracy(model, placed[split], normalize, device, after_batch)

    def by_subject(model: nn.Module, split: str) -> float:
        subjects = samples.read(data / split / "samples.parquet")["subject"].to_numpy()
        return mean_dice(
            model,
            placed[split],
            normalize,
            device,
            subjects,
            len(description.classes),
            after_batch,
        )

    return by_image if description.task == "classification" else by_subject


if __name__ == "__main__":
    command_line.run(train_network)
