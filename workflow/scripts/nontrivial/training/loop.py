"""The training loop: nothing between the steps waits for the device."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict

import torch
from torch import Tensor

from nontrivial.data.batches import Normalization, shuffled_batches
from nontrivial.data.sample_order import steps_per_epoch
from nontrivial.data.setup import Setup
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
from nontrivial.training.validation import METRICS

# Random streams of an epoch. Each has its own seed, so that a draw from one shifts no other.
_ORDER, _AUGMENTATION, _NETWORK = range(3)


class Training:
    """Train a network in place; the weights after the last epoch are the result.

    Everything random in an epoch follows from (seed, epoch), so an epoch depends on nothing but
    the state at its start. The state can be captured between any two steps; a training that
    resumes from it computes what it would have computed without the interruption.

    Attributes:
        epochs: results of the finished epochs.
        snapshots: state dict, on the CPU, after each finished epoch that the recipe names.
    """

    def __init__(
        self, setup: Setup, recipe: Recipe, seed: int, validate: Callable[[], float]
    ) -> None:
        """Start before the first step.

        Args:
            setup: network and ``train`` split on the device.
            recipe: how to train.
            seed: of the sample order, the augmentation and random layers (dropout).
            validate: returns the metric of the network on the val split.
        """
        self.epochs: list[Epoch] = []
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self._model = setup.network
        self._forward = compiled(setup.network) if recipe.compile else setup.network
        self._task = setup.description.task
        self._samples = setup.samples["train"]
        self._normalize = setup.normalize
        self._validate = validate
        self._recipe = recipe
        self._seed = seed
        self._device = setup.device
        self._optimizer = nesterov(setup.network, recipe.momentum, recipe.weight_decay)
        self._steps = steps_per_epoch(len(self._samples), recipe.batch_size)
        self._batch = min(recipe.batch_size, len(self._samples))
        self._generator = torch.Generator(setup.device)
        self._resumed = 0
        self._begin_epoch()

    def run(self, after_step: Callable[[], None] = lambda: None) -> Iterator[Epoch]:
        """Train the remaining epochs and yield after each.

        Args:
            after_step: called between steps, where :meth:`state` may be called. An exception
                from it or from the validation ends the run; the state is then that of the last
                step.

        Raises:
            UserError: the loss or a weight is not finite.
        """
        done = len(self.epochs) * self._steps + self._step
        with Progress(self._recipe.epochs, self._steps, self._batch, done) as progress:
            while len(self.epochs) < self._recipe.epochs:
                self._train_epoch(progress, after_step)
                self._refuse_bad_loss()
                self._refuse_bad_weights()
                loss, seconds = self._loss.item() / self._steps, self._seconds
                val = self._validate()
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
                if self._epoch in self._recipe.snapshots:
                    self.snapshots[self._epoch] = {
                        name: value.detach().to("cpu", copy=True)
                        for name, value in self._model.state_dict().items()
                    }
                self._begin_epoch()
                progress.epoch(
                    ended.epoch, loss, METRICS[self._task], val, ended.samples_per_second
                )
                yield ended

    @property
    def position(self) -> str:
        """Progress in words, for messages."""
        return f"step {self._step} of {self._steps} of epoch {self._epoch}"

    @property
    def checkpoint_bytes(self) -> int:
        """Size of the tensors in the largest checkpoint, the last, less the RNG states."""
        state = sum(value.nbytes for value in self._model.state_dict().values())
        buffers = sum(value.nbytes for value in self._unsaved_buffers().values())
        momentum = sum(parameter.nbytes for parameter in self._model.parameters())
        stored = len(set(self._recipe.snapshots) - {0})
        return (1 + stored) * state + buffers + momentum

    def state(self) -> State:
        """Return what :meth:`resume` needs; valid until the next step.

        Raises:
            UserError: the loss is not finite, so that nothing good can follow.
        """
        self._refuse_bad_loss()
        tensors = {f"model/{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"buffer/{name}": value for name, value in self._unsaved_buffers().items()}
        for index, buffers in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in buffers.items()}
        for epoch, snapshot in self.snapshots.items():
            tensors |= {f"snapshot/{epoch}/{name}": value for name, value in snapshot.items()}
        random_tensors, random_values = random_state.capture(self._device)
        tensors |= {f"random/{name}": value for name, value in random_tensors.items()}
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
                "random": random_values,
                "resumed": self._resumed,
            },
        )

    def resume(self, state: State) -> None:
        """Continue from a state of the same network and recipe on the same device type.

        Raises:
            RuntimeError: the state is that of another network.
            KeyError: likewise.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
        self._model.load_state_dict(groups["model"])
        for name, value in self._unsaved_buffers().items():
            value.copy_(groups["buffer"][name])
        load_buffers(self._optimizer, groups.get("optimizer", {}))
        for name, tensor in groups.get("snapshot", {}).items():
            epoch, _, rest = name.partition("/")
            self.snapshots.setdefault(int(epoch), {})[rest] = tensor
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
        """Return the non-persistent buffers, which the state dict leaves out."""
        saved = self._model.state_dict()
        return {name: value for name, value in self._model.named_buffers() if name not in saved}

    def _begin_epoch(self) -> None:
        self._epoch = len(self.epochs) + 1
        self._step = 0  # finished steps of this epoch
        self._seconds = 0.0  # time they took
        self._loss = torch.zeros((), device=self._device)  # their sum
        # First step whose loss is not finite; the number of steps if there is none.
        self._first_bad = torch.full((), self._steps, device=self._device)

    def _train_epoch(self, progress: Progress, after_step: Callable[[], None]) -> None:
        recipe = self._recipe
        if self._step == 0:
            self._generator.manual_seed(derive_seed(self._seed, self._epoch, _AUGMENTATION))
            seed_everything(derive_seed(self._seed, self._epoch, _NETWORK))
        batches = shuffled_batches(
            self._samples,
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
        images, labels = _augmented(
            self._task, self._normalize, recipe, images, labels, self._generator
        )
        set_learning_rate(self._optimizer, self._rate(self._step))
        self._optimizer.zero_grad(set_to_none=True)
        with arithmetic(self._device, recipe.precision):
            logits = self._forward(images)
        loss = _loss(self._task, recipe, logits, labels)
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
        if self._device.type == "cpu":  # on a GPU this would wait for the device
            self._refuse_bad_loss()

    def _refuse_bad_loss(self) -> None:
        step = int(self._first_bad.item())
        if step < self._steps:
            raise UserError(
                f"the loss is not finite in epoch {self._epoch}, step {step + 1} of"
                f" {self._steps}; try a lower learning_rate (now {self._recipe.learning_rate:g})"
            )

    def _refuse_bad_weights(self) -> None:
        """Refuse weights that the last step made non-finite, which no loss has shown yet."""
        floats = [value for value in self._model.state_dict().values() if value.is_floating_point()]
        if not torch.stack([torch.isfinite(value).all() for value in floats]).all().item():
            raise UserError(
                f"a weight is not finite after epoch {self._epoch};"
                f" try a lower learning_rate (now {self._recipe.learning_rate:g})"
            )


def _augmented(
    task: str,
    normalize: Normalization,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the augmented and normalized images of a batch, and its labels."""
    masks = labels if task == "segmentation" else None
    change = recipe.augmentation
    images, masks = crop_and_flip(images, masks, change, generator)
    images, masks = deform(normalize(images), masks, change, generator)
    images = change_intensity(images, change, generator)
    return images, labels if masks is None else masks


def _loss(task: str, recipe: Recipe, logits: Tensor, labels: Tensor) -> Tensor:
    if task == "segmentation":
        return segmentation_loss(logits, labels, recipe.label_smoothing, recipe.dice_weight)
    return classification_loss(logits, labels, recipe.label_smoothing)
