"""A training's state in a file beside its result, so that one that was stopped can go on.

``checkpoint.safetensors`` is the last and ``checkpoint-previous.safetensors`` the one before,
in case the last is damaged. Neither is an output of the rule: Snakemake removes the outputs of
a job that failed.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nontrivial.errors import UserError
from nontrivial.execution.atomic import remove_parts, replacing
from nontrivial.execution.command_line import log
from nontrivial.formats import tensor_file
from nontrivial.formats.canonical import canonical

LAST = "checkpoint.safetensors"
PREVIOUS = "checkpoint-previous.safetensors"
FORMAT = "nontrivial checkpoint 1"
_AT_ONCE = 3  # checkpoints on the disk while one is written: itself, the last, the previous
_MIB = 1 << 20


@dataclass(frozen=True)
class State:
    """All that a training needs to go on.

    Attributes:
        tensors: by name.
        values: plain values, as JSON has them.
    """

    tensors: dict[str, Tensor]
    values: dict


class Checkpoints:
    """The checkpoints of one training, whose results are in one folder."""

    def __init__(self, folder: Path, origin: dict[str, str], interval: float) -> None:
        """Take the folder, and make it where it is missing.

        Args:
            folder: where the results will be.
            origin: what decides the weights, by name (settings, data, code, ...): a checkpoint
                with another origin is refused.
            interval: seconds between two checkpoints.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._last, self._previous = folder / LAST, folder / PREVIOUS
        self._origin = origin
        self._interval = interval
        self._written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self._last)
        with TemporaryFile(dir=folder):  # that it cannot be is better known now than after a day
            pass

    def refuse_small_disk(self, size: int) -> None:
        """Refuse to begin where the checkpoints of a training will not fit.

        Args:
            size: bytes of one checkpoint.

        Raises:
            UserError: there is less room than they and the result take at most.
        """
        folder = self._last.parent
        held = sum(path.stat().st_size for path in (self._last, self._previous) if path.exists())
        free = shutil.disk_usage(folder).free + held
        if free < _AT_ONCE * size:
            raise UserError(
                f"{free // _MIB} MiB are free on its disk, and the checkpoints of this training"
                f" take {_AT_ONCE * size // _MIB} MiB; make room"
            )

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is older than the interval."""
        return time.monotonic() - self._written >= self._interval

    def save(self, state: State) -> None:
        """Write a checkpoint in one step and keep the one before.

        Raises:
            OSError: the disk is full or read-only; the last good checkpoint is untouched.
        """
        values = canonical(state.values)
        metadata = {
            "format": FORMAT,
            "origin": canonical(self._origin),
            "values": values,
            "sha256": tensor_file.digest(state.tensors, values),
        }
        try:
            with replacing(self._last) as temporary:
                with temporary.open("wb") as file:
                    tensor_file.write(file, state.tensors, metadata)
                    # The last one is not moved away before this one is safe.
                    file.flush()
                    os.fsync(file.fileno())
                if self._last.exists():
                    self._last.replace(self._previous)
        finally:
            self._written = time.monotonic()  # a full disk, too, is not tried at each step

    def latest(self) -> State | None:
        """Return the newest checkpoint that is whole and of this training, or None.

        Says in the log which ones it passed over, and why. One that is taken stands as the
        last from then on, so that the next save keeps it.

        Raises:
            OSError: one cannot be read, which does not make it worthless.
        """
        for path in self._present():
            try:
                state, origin = _read(path)
            except (SafetensorError, ValueError, KeyError) as error:
                log.warning("%s: cut short or damaged (%s); passed over", path, error)
                continue
            changed = [key for key in self._origin if origin.get(key) != self._origin[key]]
            if changed:
                log.warning("%s: of other %s; refused", path, " and ".join(changed))
                continue
            if path != self._last:
                path.replace(self._last)
            return state
        if any(self._present()):
            log.warning("no checkpoint to go on from: the training starts over")
        return None

    def remove(self) -> None:
        """Remove the checkpoints of a training that has ended."""
        for path in self._present():
            path.unlink()

    def _present(self) -> Iterator[Path]:
        return (path for path in (self._last, self._previous) if path.exists())


def _read(path: Path) -> tuple[State, dict[str, str]]:
    path.open("rb").close()  # the library's error would not name the file
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']!r} is not known")
    if metadata["sha256"] != tensor_file.digest(tensors, metadata["values"]):
        raise ValueError("its content is not what was written")
    return State(tensors, json.loads(metadata["values"])), json.loads(metadata["origin"])
