"""Tensors in a safetensors file, written piece by piece: equal tensors give equal bytes.

The library's own writer holds all of a file's bytes in memory, and writes metadata in an order
that changes from run to run. Format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from nontrivial.errors import UserError

_LENGTH_BYTES = 8  # the file opens with the header's length, little-endian; all is aligned to it
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, on any device and in any order in memory, and text by key.

    Raises:
        UserError: a tensor is of a type that the format does not know.
        OSError: the file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    # Wide types first, so that each tensor is aligned to its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _TYPES:
            raise UserError(
                f"{name}: tensors of {tensor.dtype} cannot be saved; use another type there"
            )
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    file.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
    file.write(text)
    for name in names:
        file.write(content(tensors[name]))


def digest(tensors: Mapping[str, Tensor], *texts: str) -> str:
    """Return the SHA-256 hex digest of texts and of tensors with their names."""
    state = hashlib.sha256("".join(texts).encode())
    for name in sorted(tensors):
        state.update(name.encode())
        state.update(content(tensors[name]))
    return state.hexdigest()


def content(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in row-major order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
