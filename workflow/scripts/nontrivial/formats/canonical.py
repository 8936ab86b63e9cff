"""Canonical JSON, equal for equal values, and digests."""

import hashlib
import json
from pathlib import Path

CHUNK = 1 << 20  # bytes read at a time


def canonical(value: object) -> str:
    """Return JSON with sorted keys and no spaces; equal values give equal text.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value is not plain JSON data (a ``Path`` or numpy scalar, say).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 hex digest of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file's content, read in chunks.

    Raises:
        OSError: the file cannot be read.
    """
    state = hashlib.new(algorithm)
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            state.update(chunk)
    return state.hexdigest()
