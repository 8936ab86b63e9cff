"""The training loop: nothing between the steps waits for the device."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from nontrivial.data.batches import Normalization, Samples, shuffled_batches
from nontrivial.data.sample_order import steps_per_epoch
from nontrivial.errors import UserError
from nontrivial.execution.device import arithmetic, describe, versions
from nontrivial.execution.reproducibility import derive_seed, seed_everything
from nontrivial.formats.canonical import canonical
from nontrivial.formats.history import Epoch
from nontrivial.training import random_state
from nontrivial.training.augmentation import change_intensity, crop_and_flip, deform
from nontrivial.training.checkpoint import State
from nontrivial.training.compiled import compiled
from nontrivial.training.learning_rate import learning_rate
from nontrivial.training.losses import classification_loss, segmentation_loss
from nontrivial.training.optimizer import load_buffers, nesterov, set_learning_rate
from nontrivial.training.progress import Progress
from nontrivial.training.recipe import Recipe

# Uses of chance in an epoch; each has a seed of its own, so that none shifts another.
_ORDER, _AUGMENTATION, _NETWORK = range(3)


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


class Training:
    """A training of a network in place; the last epoch's weights are the result.

    All chance in an epoch comes from (seed, epoch), so an epoch depends on the state at its
    start and on nothing before it. The state can be taken between any two steps, and a
    training that goes on from it draws and computes what it would have without the stop.

    Attributes:
        epochs: those that have ended.
    """

    def __init__(
        self, model: nn.Module, problem: Problem, recipe: Recipe, seed: int, device: torch.device
    ) -> None:
        """Begin before the first step.

        Args:
            model: on the device.
            problem: data, task and score.
            recipe: how to train.
            seed: of the order of samples, the augmentation and the network's own chance
                (dropout).
            device: where everything is.
        """
        self.epochs: list[Epoch] = []
        self._model = model
        self._forward = compiled(model) if recipe.compile else model
        self._problem = problem
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._optimizer = nesterov(model, recipe.momentum, recipe.weight_decay)
        self._steps = steps_per_epoch(len(problem.samples), recipe.batch_size)
        self._batch = min(recipe.batch_size, len(problem.samples))
        self._generator = torch.Generator(device)
        self._resumed = 0
        self._begin_epoch()

    def run(self, after_step: Callable[[], None] = lambda: None) -> Iterator[Epoch]:
        """Train what is left, yielding after each epoch.

        Args:
            after_step: called between the steps, where :meth:`state` can be taken. What it or
                the validation raises ends the run; the state then is that of the last step.

        Raises:
            UserError: the loss is not finite.
        """
        done = len(self.epochs) * self._steps + self._step
        with Progress(self._recipe.epochs, self._steps, self._batch, done) as progress:
            while len(self.epochs) < self._recipe.epochs:
                self._train_epoch(progress, after_step)
                self._refuse_bad_loss()
                self._refuse_bad_weights()
                loss, seconds = self._loss.item() / self._steps, self._seconds
                val = self._problem.validate(self._model)
                ended = Epoch(
                    self._epoch,
                    self._rate(self._steps - 1),
                    loss,
                    val,
                    seconds,
                    self._steps * self._batch / seconds,
                    describe(self._device),
                    canonical(versions()),
                    self._resumed,
                )
                self.epochs.append(ended)
                self._begin_epoch()
                progress.epoch(
                    ended.epoch, loss, self._problem.metric, val, ended.samples_per_second
                )
                yield ended

    @property
    def position(self) -> str:
        """How far it is, in words."""
        return f"step {self._step} of {self._steps} of epoch {self._epoch}"

    def state(self) -> State:
        """Return what :meth:`resume` needs to go on from here; the next step changes it.

        Raises:
            UserError: the loss is not finite: nothing good can go on from here.
        """
        self._refuse_bad_loss()
        tensors = {f"model/{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"buffer/{name}": value for name, value in self._unsaved_buffers().items()}
        for index, buffers in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in buffers.items()}
        chance, rest = random_state.capture(self._device)
        tensors |= {f"random/{name}": value for name, value in chance.items()}
        tensors["random/augmentation"] = self._generator.get_state()
        tensors["loss"] = self._loss
        return State(
            tensors,
            {
                "device": describe(self._device),
                "versions": versions(),
                "epochs": [asdict(epoch) for epoch in self.epochs],
                "step": self._step,
                "seconds": self._seconds,
                "random": rest,
                "resumed": self._resumed,
            },
        )

    def resume(self, state: State) -> None:
        """Go on from a state of a training of the same network, recipe and kind of device.

        Raises:
            RuntimeError: the state is that of another network.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
        self._model.load_state_dict(groups["model"])
        for name, value in self._unsaved_buffers().items():
            value.copy_(groups["buffer"][name])
        load_buffers(self._optimizer, groups.get("optimizer", {}))
        values = state.values
        self.epochs = [Epoch(**epoch) for epoch in values["epochs"]]
        self._begin_epoch()
        self._step = values["step"]
        self._seconds = values["seconds"]
        self._resumed = values["resumed"] + 1
        self._loss.copy_(state.tensors["loss"])
        self._generator.set_state(groups["random"].pop("augmentation"))
        random_state.restore(groups["random"], values["random"], self._device)

    def _unsaved_buffers(self) -> dict[str, Tensor]:
        """Return the buffers that a network says are not part of its result."""
        saved = self._model.state_dict()
        return {name: value for name, value in self._model.named_buffers() if name not in saved}

    def _begin_epoch(self) -> None:
        self._epoch = len(self.epochs) + 1
        self._step = 0  # steps of this epoch that are done
        self._seconds = 0.0  # that they took
        self._loss = torch.zeros((), device=self._device)  # sum over them
        # The first of them whose loss was not finite, or the number of all: none so far.
        self._first_bad = torch.full((), self._steps, device=self._device)

    def _train_epoch(self, progress: Progress, after_step: Callable[[], None]) -> None:
        recipe = self._recipe
        if self._step == 0:
            self._generator.manual_seed(derive_seed(self._seed, self._epoch, _AUGMENTATION))
            seed_everything(derive_seed(self._seed, self._epoch, _NETWORK))
        batches = shuffled_batches(
            self._problem.samples,
            recipe.batch_size,
            derive_seed(self._seed, self._epoch, _ORDER),
            first_step=self._step,
        )
        self._model.train()
        started = time.perf_counter()
        with closing(batches):
            for images, labels in batches:
                self._take_step(images, labels)
                self._seconds += time.perf_counter() - started
                progress.step()
                after_step()
                started = time.perf_counter()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds += time.perf_counter() - started

    def _take_step(self, images: Tensor, labels: Tensor) -> None:
        recipe = self._recipe
        images, labels = _augmented(self._problem, recipe, images, labels, self._generator)
        set_learning_rate(self._optimizer, self._rate(self._step))
        self._optimizer.zero_grad(set_to_none=True)
        with arithmetic(self._device, recipe.precision):
            logits = self._forward(images)
        loss = _loss(self._problem.task, recipe, logits, labels)
        loss.backward()
        self._optimizer.step()
        self._note(loss.detach())
        self._step += 1

    def _rate(self, step: int) -> float:
        recipe = self._recipe
        return learning_rate(
            len(self.epochs) * self._steps + step,
            recipe.epochs * self._steps,
            recipe.learning_rate,
            recipe.warmup,
            recipe.schedule,
        )

    def _note(self, loss: Tensor) -> None:
        self._loss += loss
        bad = self._first_bad.clamp(max=self._step)
        self._first_bad = torch.where(torch.isfinite(loss), self._first_bad, bad)
        if self._device.type == "cpu":  # on a GPU to look is to wait
            self._refuse_bad_loss()

    def _refuse_bad_loss(self) -> None:
        step = int(self._first_bad.item())
        if step < self._steps:
            raise UserError(
                f"the loss is not finite in epoch {self._epoch}, step {step + 1} of"
                f" {self._steps}; try a lower learning_rate (now {self._recipe.learning_rate:g})"
            )

    def _refuse_bad_weights(self) -> None:
        """Catch the step after which no loss was computed any more."""
        floats = [value for value in self._model.state_dict().values() if value.is_floating_point()]
        if not torch.stack([torch.isfinite(value).all() for value in floats]).all().item():
            raise UserError(
                f"a weight is not finite after epoch {self._epoch};"
                f" try a lower learning_rate (now {self._recipe.learning_rate:g})"
            )


def _augmented(
    problem: Problem, recipe: Recipe, images: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a batch as the network sees it: augmented and normalized images, and labels."""
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
