"""Checkpoints: the state of a training in a file beside its result, from which it resumes.

``checkpoint.safetensors`` is the last one, ``checkpoint-previous.safetensors`` the one before, in
case the last is damaged. They are not outputs of the rule, because Snakemake removes the outputs of
a job that failed.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError
from torch import Tensor

from nontrivial.errors import UserError
from nontrivial.execution.atomic import remove_parts, replacing
from nontrivial.execution.command_line import log
from nontrivial.formats import tensor_file
from nontrivial.formats.canonical import canonical

LAST = "checkpoint.safetensors"
PREVIOUS = "checkpoint-previous.safetensors"
FORMAT = "nontrivial checkpoint 2"
_AT_ONCE = 3  # checkpoints on the disk while one is written: itself, the last, the previous
_MIB = 1 << 20


class _OtherFormatError(Exception):
    """A checkpoint of another version of this program."""


@dataclass(frozen=True)
class State:
    """Everything that a training needs to resume.

    Attributes:
        tensors: by name.
        values: plain JSON values.
    """

    tensors: dict[str, Tensor]
    values: dict


class Checkpoints:
    """The checkpoints of one training, in the folder of its results."""

    def __init__(self, folder: Path, origin: dict[str, str], interval: float) -> None:
        """Create the folder if it is missing and remove what a killed process left.

        Args:
            folder: where the results will be.
            origin: what determines the weights, by name (settings, data, code, ...). Checkpoints
                of another origin are refused.
            interval: seconds between two checkpoints.

        Raises:
            OSError: the folder is not writable.
        """
        self._last, self._previous = folder / LAST, folder / PREVIOUS
        self._origin = origin
        self._interval = interval
        self._written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self._last)
        tensor_file.remove_unfinished(folder)
        with TemporaryFile(dir=folder):  # fails now rather than after a day of training
            pass

    def refuse_small_disk(self, size: int) -> None:
        """Refuse to start if the checkpoints of the training do not fit on the disk.

        Args:
            size: bytes of one checkpoint, at most.

        Raises:
            UserError: less space is free than the checkpoints and the result need.
        """
        folder = self._last.parent
        held = sum(path.stat().st_size for path in (self._last, self._previous) if path.exists())
        free = shutil.disk_usage(folder).free + held
        if free < _AT_ONCE * size:
            raise UserError(
                f"{free // _MIB} MiB are free on the disk, and the checkpoints of this training"
                f" need {_AT_ONCE * size // _MIB} MiB; free some space"
            )

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is older than the interval."""
        return time.monotonic() - self._written >= self._interval

    def save(self, state: State) -> None:
        """Write a checkpoint atomically and keep the one before.

        Raises:
            OSError: the disk is full or read-only; the last checkpoint is unchanged.
        """
        metadata = {
            "format": FORMAT,
            "origin": self._origin,
            "values": state.values,
            "sha256": tensor_file.digest(state.tensors, canonical(state.values)),
        }
        try:
            with replacing(self._last) as temporary:
                tensor_file.write(temporary, state.tensors, metadata)
                if self._last.exists():
                    self._last.replace(self._previous)
        finally:
            self._written = time.monotonic()  # do not retry a full disk after each step

    def latest(self) -> State | None:
        """Return the newest checkpoint that is intact and belongs to this training, or None.

        Logs which checkpoints it skips, and why. The one it returns becomes the last, so that the
        next save keeps it.

        Raises:
            OSError: a checkpoint cannot be read, which does not make it worthless.
        """
        for path in self._present():
            try:
                state, origin = _read(path)
            except _OtherFormatError:
                log.warning("%s: written by another version; ignored", path)
                continue
            except (SafetensorError, ValueError, KeyError) as error:
                log.warning("%s: truncated or damaged (%s); ignored", path, error)
                continue
            changed = [key for key in self._origin if origin.get(key) != self._origin[key]]
            if changed:
                log.warning("%s: from other %s; ignored", path, " and ".join(changed))
                continue
            if path != self._last:
                path.replace(self._last)
            return state
        if any(self._present()):
            log.warning("no checkpoint to resume from: the training starts from the beginning")
        return None

    def remove(self) -> None:
        """Remove the checkpoints of a finished training."""
        for path in self._present():
            path.unlink()

    def _present(self) -> Iterator[Path]:
        return (path for path in (self._last, self._previous) if path.exists())


def _read(path: Path) -> tuple[State, dict[str, str]]:
    tensors, metadata = tensor_file.read(path)
    if metadata.get("format") != FORMAT:
        raise _OtherFormatError
    if metadata["sha256"] != tensor_file.digest(tensors, canonical(metadata["values"])):
        raise ValueError("the digest does not match")
    return State(tensors, metadata["values"]), metadata["origin"]
