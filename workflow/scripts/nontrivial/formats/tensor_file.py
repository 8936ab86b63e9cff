"""Tensors and their metadata in one safetensors file: equal content gives equal bytes.

The library writes several metadata keys in an order that changes from run to run. All metadata
therefore go into one key, as canonical JSON.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from nontrivial.errors import UserError
from nontrivial.formats.canonical import canonical

METADATA = "nontrivial"  # the only key in the header's metadata
_ERROR_NUMBER = re.compile(r"\(os error (\d+)\)")
_UNFINISHED = ".tmp??????"  # name of the file that the library writes and then renames


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, object]) -> None:
    """Write tensors, on any device and in any memory format, and metadata.

    Call it inside of :func:`nontrivial.execution.atomic.replacing`, which syncs and renames.

    Args:
        path: file to write.
        tensors: by name.
        metadata: plain JSON values by key.

    Raises:
        UserError: a value is not a tensor, or its type has no place in the format.
        OSError: the disk is full or read-only.
    """
    for name, value in tensors.items():
        if reason := unsupported(value):
            raise UserError(f"{name}: {reason}")
    try:
        save_file(_separate(tensors), path, {METADATA: canonical(metadata)})
    except SafetensorError as error:
        found = _ERROR_NUMBER.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error


def read(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict]:
    """Return the tensors whose names start with a prefix, and the file's metadata.

    The metadata are empty in a file that another program wrote.

    Raises:
        OSError: the file cannot be read.
        SafetensorError: it is not a complete safetensors file.
        ValueError: its metadata are damaged.
    """
    path.open("rb").close()  # the library's error would not name the file
    with safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, metadata


def unsupported(value: object) -> str | None:
    """Return why the format cannot hold a value of a state dict, or None if it can."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} cannot be saved, only tensors"
    if value.layout != torch.strided:
        return "sparse tensors cannot be saved; use a dense one"
    try:
        save({"empty": torch.empty(0, dtype=value.dtype)})
    except KeyError:
        return f"tensors of {value.dtype} cannot be saved; use another type"
    return None


def digest(tensors: Mapping[str, Tensor], *texts: str) -> str:
    """Return the SHA-256 hex digest of texts and of tensors with their names."""
    state = hashlib.sha256("".join(texts).encode())
    for name in sorted(tensors):
        state.update(name.encode())
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        state.update(flat.view(torch.uint8).numpy().data)
    return state.hexdigest()


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written; nobody else may be writing there."""
    for path in folder.glob(_UNFINISHED):
        path.unlink(missing_ok=True)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return row-major tensors on the CPU that share no memory, as the library requires."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found
