"""States of a network during training, ``snapshots.safetensors``, named ``<epoch>/<name>``.

Epoch 0, the initialization, is not stored: the factory and the seed give it again
(:func:`nontrivial.networks.factory.initialize`).
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import tensor_file, weights

DIGESTS = "sha256"  # metadata key of the digests of the states, by epoch


def write_snapshots(
    path: Path, snapshots: Mapping[int, Mapping[str, Tensor]], metadata: Mapping[str, object]
) -> None:
    """Write the states after some epochs, atomically; equal content gives equal bytes.

    Args:
        path: file to write.
        snapshots: state dict by epoch.
        metadata: plain JSON values by key.

    Raises:
        OSError: the disk is full or read-only.
    """
    digests = {str(epoch): tensor_file.digest(state) for epoch, state in snapshots.items()}
    tensors = {
        f"{epoch}/{name}": value
        for epoch, state in snapshots.items()
        for name, value in state.items()
    }
    with replacing(path) as temporary:
        tensor_file.write(temporary, tensors, {**metadata, DIGESTS: digests})


def read_snapshot(path: Path, epoch: int) -> dict[str, Tensor]:
    """Return the state dict of a network after an epoch of its training, from 1.

    >>> import tempfile, torch
    >>> path = Path(tempfile.mkdtemp()) / "snapshots.safetensors"
    >>> write_snapshots(path, {3: {"weight": torch.ones(2)}}, {})
    >>> read_snapshot(path, 3)
    {'weight': tensor([1., 1.])}

    Raises:
        UserError: the file is missing or damaged, or does not hold that epoch.
    """
    prefix = f"{epoch}/"
    tensors, metadata = weights.read(path, prefix)
    digests = metadata.get(DIGESTS, {})
    if str(epoch) not in digests:
        stored = ", ".join(sorted(digests, key=int)) or "none"
        raise UserError(
            f"{path}: no snapshot of epoch {epoch} (stored: {stored}); add it to snapshots of the"
            " recipe and train again"
        )
    state = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if digests[str(epoch)] != tensor_file.digest(state):
        raise UserError(f"{path}: damaged, a digest does not match; delete it and train again")
    return state
