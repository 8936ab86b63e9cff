"""The training loop: nothing between the steps waits for the device."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nontrivial.compute.batches import Normalization, Samples, shuffled, steps_per_epoch
from nontrivial.compute.device import arithmetic
from nontrivial.compute.reproducibility import derive_seed, seed_everything
from nontrivial.errors import UserError
from nontrivial.training.augmentation import change_intensity, crop_and_flip, deform
from nontrivial.training.losses import classification_loss, segmentation_loss
from nontrivial.training.optimizer import nesterov, set_learning_rate
from nontrivial.training.progress import Progress
from nontrivial.training.recipe import Recipe
from nontrivial.training.schedule import learning_rate

CHECK_EVERY = 50  # steps between two looks at whether the loss was finite: each look waits

# Uses of chance in an epoch; each has a seed of its own, so that none shifts another.
_ORDER, _AUGMENTATION, _NETWORK = range(3)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: its number, from 1.
        learning_rate: that of its last step.
        loss: mean over its steps.
        val: score on the val split after it.
        seconds: time its steps took, without the validation.
        samples_per_second: samples trained on in that time.
    """

    epoch: int
    learning_rate: float
    loss: float
    val: float
    seconds: float
    samples_per_second: float


@dataclass(frozen=True)
class Problem:
    """What is to be learned.

    Attributes:
        task: ``classification`` or ``segmentation``.
        samples: the train split.
        normalize: from stored values to the network's input.
        validate: score of a network on the val split.
        metric: name of that score.
    """

    task: str
    samples: Samples
    normalize: Normalization
    validate: Callable[[nn.Module], float]
    metric: str


def train(
    model: nn.Module, problem: Problem, recipe: Recipe, seed: int, device: torch.device
) -> Iterator[Epoch]:
    """Train in place, yielding after each epoch; the last epoch's weights are the result.

    All chance in an epoch comes from (seed, epoch), so an epoch depends on the state at its
    start and on nothing before it.

    Args:
        model: on the device.
        problem: data, task and score.
        recipe: how to train.
        seed: of the order of samples, the augmentation and the network's own chance (dropout).
        device: where everything is.

    Raises:
        UserError: the loss is not finite.
    """
    optimizer = nesterov(model, recipe.momentum, recipe.weight_decay, device)
    steps = steps_per_epoch(len(problem.samples), recipe.batch_size)
    size = min(recipe.batch_size, len(problem.samples))
    with Progress(recipe.epochs, steps, size) as progress:
        for epoch in range(1, recipe.epochs + 1):
            started = time.perf_counter()
            loss, rate = _train_epoch(
                model, problem, recipe, seed, device, optimizer, epoch, progress
            )
            seconds = time.perf_counter() - started
            val = problem.validate(model)
            result = Epoch(epoch, rate, loss, val, seconds, steps * size / seconds)
            progress.epoch(epoch, loss, problem.metric, val, result.samples_per_second)
            yield result


def _train_epoch(
    model: nn.Module,
    problem: Problem,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    progress: Progress,
) -> tuple[float, float]:
    """Return the mean loss and the last learning rate."""
    count = len(problem.samples)
    steps = steps_per_epoch(count, recipe.batch_size)
    generator = torch.Generator(device).manual_seed(derive_seed(seed, epoch, _AUGMENTATION))
    seed_everything(derive_seed(seed, epoch, _NETWORK))
    order = shuffled(count, recipe.batch_size, derive_seed(seed, epoch, _ORDER), device)
    model.train()
    total = torch.zeros((), device=device)
    first_bad = torch.full((), steps, device=device)  # number of steps: none so far
    rate = 0.0
    for step, rows in enumerate(order):
        images, labels = prepare_batch(problem, recipe, rows, generator)
        rate = learning_rate(
            (epoch - 1) * steps + step,
            recipe.epochs * steps,
            recipe.learning_rate,
            recipe.warmup,
            recipe.schedule,
        )
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        with arithmetic(device, recipe.precision):
            logits = model(images)
        loss = _loss(problem.task, recipe, logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        first_bad = torch.where(torch.isfinite(loss.detach()), first_bad, first_bad.clamp(max=step))
        progress.step()
        if (step + 1) % CHECK_EVERY == 0:
            _refuse_bad(first_bad, steps, epoch, recipe)
    _refuse_bad(first_bad, steps, epoch, recipe)
    _refuse_bad_weights(model, epoch, recipe)
    return total.item() / steps, rate


def prepare_batch(
    problem: Problem, recipe: Recipe, rows: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the augmented, normalized images and the labels of the rows."""
    images, labels = problem.samples.take(rows)
    masks = labels if problem.task == "segmentation" else None
    change = recipe.augmentation
    images, masks = crop_and_flip(images, masks, change, generator)
    images, masks = deform(problem.normalize(images), masks, change, generator)
    images = change_intensity(images, change, generator)
    return images, labels if masks is None else masks


def _loss(task: str, recipe: Recipe, logits: Tensor, labels: Tensor) -> Tensor:
    if task == "segmentation":
        return segmentation_loss(logits, labels, recipe.label_smoothing, recipe.dice_weight)
    return classification_loss(logits, labels, recipe.label_smoothing)


def _refuse_bad(first_bad: Tensor, steps: int, epoch: int, recipe: Recipe) -> None:
    step = int(first_bad.item())
    if step < steps:
        raise UserError(
            f"the loss is not finite in epoch {epoch}, step {step + 1} of {steps};"
            f" try a lower learning_rate (now {recipe.learning_rate:g})"
        )


def _refuse_bad_weights(model: nn.Module, epoch: int, recipe: Recipe) -> None:
    """Catch the step after which no loss was computed any more."""
    floats = [value for value in model.state_dict().values() if value.is_floating_point()]
    if not torch.stack([torch.isfinite(value).all() for value in floats]).all().item():
        raise UserError(
            f"a weight is not finite after epoch {epoch};"
            f" try a lower learning_rate (now {recipe.learning_rate:g})"
        )
