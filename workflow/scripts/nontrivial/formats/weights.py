"""Trained weights in safetensors files: no code runs when one is read."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import tensor_file

DIGEST = "sha256"  # key in the metadata


def save(model: torch.nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the network's state, under its own state-dict names, in one step.

    Equal states and metadata give equal bytes. A digest of the state goes into the metadata.

    Args:
        model: the network, on any device.
        path: file to write.
        metadata: text by key; the kernel table's structure digest goes under ``kernels``.

    Raises:
        UserError: the state holds a tensor of a type that cannot be saved.
        OSError: the disk is full, say.
    """
    state = model.state_dict()
    with replacing(path) as temporary, temporary.open("wb") as file:
        tensor_file.write(file, state, {**metadata, DIGEST: tensor_file.digest(state)})


def load(path: Path, model: torch.nn.Module) -> dict[str, str]:
    """Load a file of weights into the network, strictly, and return its metadata.

    Raises:
        UserError: the file is missing, damaged or no safetensors file (a pickle, say), or its
            names, shapes or types are not the network's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be read ({reason}); train the network") from error
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a complete safetensors file ({error}); pickles are never read;"
            " delete it and train again"
        ) from error
    _check(path, state, model.state_dict())
    said = metadata.pop(DIGEST, None)  # an earlier version's file has none
    if said is not None and said != tensor_file.digest(state):
        raise UserError(f"{path}: damaged (not what its digest says); delete it and train again")
    model.load_state_dict(state)
    return metadata


def _check(path: Path, found: dict, wanted: dict) -> None:
    for name in wanted:
        if name not in found:
            raise UserError(_mismatch(path, f"{name} is missing from the file"))
    for name in found:
        if name not in wanted:
            raise UserError(_mismatch(path, f"{name} is not in the network"))
        for what in ("shape", "dtype"):
            has, wants = getattr(found[name], what), getattr(wanted[name], what)
            if has != wants:
                has, wants = (tuple(x) if what == "shape" else x for x in (has, wants))
                raise UserError(
                    _mismatch(path, f"{name} has {what} {has}, the network's is {wants}")
                )


def _mismatch(path: Path, what: str) -> str:
    return f"{path}: not the weights of this network: {what}; train again or give its own network"
