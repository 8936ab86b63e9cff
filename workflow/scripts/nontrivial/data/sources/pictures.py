"""Decoding small colour pictures from files or bytes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from nontrivial.errors import UserError


def decode(source: bytes | Path, name: str, size: tuple[int, int]) -> np.ndarray:
    """Decode a picture into uint8 (3, H, W), RGB.

    Args:
        source: the encoded picture, or its file.
        name: what to call it in an error.
        size: the (height, width) that it must have, in pixels.

    Raises:
        UserError: it is cut short, no picture, or of another size.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            width, height = picture.size
            if (height, width) != size:  # before it is decoded: it may be a bomb
                raise UserError(
                    f"{name}: is {height} x {width} pixels, must be {size[0]} x {size[1]}"
                )
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: cannot be decoded as a picture ({reason}); replace it") from error
