"""Random augmentation of a batch on its device, the same for image and mask.

All draws come from one seeded generator on the device of the batch. A setting of zero (or false)
leaves the batch bitwise unchanged.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes, drawn uniformly.

    Attributes:
        crop_padding: random crop of the image after reflection padding by this many pixels.
        flip: flip horizontally with probability 0.5.
        rotation: largest rotation in degrees, in either direction.
        scale: largest relative change of size.
        translation: largest translation as a fraction of height and width.
        brightness: largest offset, in units of the normalized image.
        contrast: largest relative change of the distance from the image mean.
    """

    crop_padding: int = 0
    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def affine(self) -> bool:
        """Whether images are resampled."""
        return self.rotation > 0 or self.scale > 0 or self.translation > 0


def crop_and_flip(
    images: Tensor, masks: Tensor | None, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Crop and flip in one gather, which works on bytes too.

    Args:
        images: (N, C, H, W), any type, as stored.
        masks: (N, H, W) or None.
        augmentation: ranges of the changes.
        generator: random number generator on the device of the images.

    Returns:
        Images and masks of the same shapes and types.

    Raises:
        ValueError: the padding is not smaller than the image, so reflection is not defined.
    """
    padding = augmentation.crop_padding
    if padding == 0 and not augmentation.flip:
        return images, masks
    count, _, height, width = images.shape
    if padding >= min(height, width):
        raise ValueError(f"crop_padding {padding} is not below the image size {height}x{width}")
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if augmentation.flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    if padding > 0:
        shifts = torch.randint(
            -padding, padding + 1, (2, count, 1), generator=generator, device=device
        )
        rows = _reflect(rows + shifts[0], height)
        columns = _reflect(columns + shifts[1], width)
    sample = torch.arange(count, device=device)
    if masks is not None:
        masks = masks[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    channel = torch.arange(images.shape[1], device=device)
    images = images[
        sample[:, None, None, None],
        channel[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    return images, masks


def deform(
    images: Tensor, masks: Tensor | None, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Rotate, scale and translate: images with bilinear, masks with nearest interpolation.

    Pixels from outside take the value of the nearest border pixel.

    Args:
        images: (N, C, H, W) float.
        masks: (N, H, W), class numbers below 2**24, or None.
        augmentation: ranges of the changes.
        generator: random number generator on the device of the images.

    Returns:
        Images and masks of the same shapes and types.
    """
    if not augmentation.affine:
        return images, masks
    matrices = affine_matrices(images.shape, augmentation, generator, images.device)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = functional.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    if masks is not None:
        nearest = functional.grid_sample(
            masks[:, None].float(),
            grid,
            mode="nearest",
            padding_mode="border",
            align_corners=False,
        )
        masks = nearest[:, 0].to(masks.dtype)
    return moved, masks


def affine_matrices(
    shape: tuple[int, ...],
    augmentation: Augmentation,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Return (N, 2, 3) matrices from output to input positions, each axis from -1 to 1.

    The rotation is one in pixels: on a non-square image, the matrix is corrected for the aspect
    ratio.
    """
    count, _, height, width = shape
    draws = 2 * torch.rand((4, count), generator=generator, device=device) - 1
    angle = draws[0] * math.radians(augmentation.rotation)
    size = 1 + draws[1] * augmentation.scale
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    # A fraction f of the side is 2f on an axis from -1 to 1.
    along_x, along_y = 2 * augmentation.translation * draws[2:]
    first = torch.stack([cosine, -sine * height / width, along_x], dim=1)
    second = torch.stack([sine * width / height, cosine, along_y], dim=1)
    return torch.stack([first, second], dim=1)


def change_intensity(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """Change brightness and contrast of each normalized image (N, C, H, W)."""
    if augmentation.brightness == 0 and augmentation.contrast == 0:
        return images
    draws = (
        2 * torch.rand((2, images.shape[0], 1, 1, 1), generator=generator, device=images.device) - 1
    )
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    factor = 1 + augmentation.contrast * draws[0]
    return (images - mean) * factor + mean + augmentation.brightness * draws[1]


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Reflect positions outside 0..size-1 back, without repeating the border pixel."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()
