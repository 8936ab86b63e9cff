"""Decode small colour images from files or bytes.

The checksums of PNG are compared. JPEG has none, so a damaged JPEG may decode to other pixels.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from nontrivial.errors import UserError


def decode(source: bytes | Path, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return an image as uint8 (3, H, W), RGB.

    Args:
        source: the encoded image, or its file.
        name: its name in error messages.
        size: required (height, width) in pixels.

    Raises:
        UserError: it is truncated, not an image, or of another size.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            width, height = picture.size
            if (height, width) != size:  # before decoding, which may need far more memory
                raise UserError(
                    f"{name}: is {height} x {width} pixels, but must be {size[0]} x {size[1]};"
                    " replace it"
                )
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: cannot be decoded as an image ({reason}); replace it") from error
