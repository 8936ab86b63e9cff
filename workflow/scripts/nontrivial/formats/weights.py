"""Weights of a trained network, ``model.safetensors``: reading them runs no code."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import tensor_file

DIGEST = "sha256"  # metadata key of the digest of all tensors


def save(model: torch.nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a network's state dict atomically, under its own names.

    Equal states and metadata give equal bytes.

    Args:
        model: network on any device.
        path: file to write.
        metadata: text by key; ``kernels`` is the digest of the kernel table's structure.

    Raises:
        UserError: a value of the state dict cannot be saved.
        OSError: the disk is full or read-only.
    """
    state = model.state_dict()
    with replacing(path) as temporary:
        tensor_file.write(temporary, state, {**metadata, DIGEST: tensor_file.digest(state)})


def load(path: Path, model: torch.nn.Module) -> dict[str, str]:
    """Load a file of weights into a network, strictly, and return the file's metadata.

    Raises:
        UserError: the file is missing or damaged, is not a safetensors file (but a pickle, say),
            or its names, shapes or types are not those of the network.
    """
    state, metadata = read(path)
    _check(path, state, model.state_dict())
    # Files that other programs wrote have no digest.
    if metadata.pop(DIGEST, None) not in (None, tensor_file.digest(state)):
        raise UserError(f"{path}: damaged, its digest does not match; delete it and train again")
    model.load_state_dict(state)
    return metadata


def read(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict]:
    """Return the tensors whose names start with a prefix, and the metadata, of a weights file.

    Raises:
        UserError: the file is missing or damaged, or is not a safetensors file.
    """
    try:
        return tensor_file.read(path, prefix)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be read ({reason}); train the network") from error
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: not a complete safetensors file ({error}); pickles are never read;"
            " delete it and train again"
        ) from error


def _check(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in expected:
        if name not in found:
            raise UserError(_mismatch(path, f"{name} is missing from the file"))
    for name in found:
        if name not in expected:
            raise UserError(_mismatch(path, f"{name} is not in the network"))
        shape, wanted = tuple(found[name].shape), tuple(expected[name].shape)
        if shape != wanted:
            raise UserError(
                _mismatch(path, f"{name} has shape {shape}, the network's has {wanted}")
            )
        if found[name].dtype != expected[name].dtype:
            raise UserError(
                _mismatch(
                    path,
                    f"{name} has dtype {found[name].dtype}, the network's has"
                    f" {expected[name].dtype}",
                )
            )


def _mismatch(path: Path, what: str) -> str:
    return f"{path}: not the weights of this network: {what}; train again or use its own network"
