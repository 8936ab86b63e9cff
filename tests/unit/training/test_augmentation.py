import pytest
import torch

from nontrivial.training.augmentation import (
    Augmentation,
    affine_matrices,
    change_intensity,
    crop_and_flip,
    deform,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(count=64, height=24, width=32):
    """Return images whose pixels are bright exactly where the mask is 1."""
    masks = (torch.rand((count, height // 4, width // 4), generator=seeded(9)) < 0.4).to(
        torch.uint8
    )
    masks = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return masks[:, None].repeat(1, 2, 1, 1).float(), masks


def test_nothing_configured_changes_nothing():
    images, masks = scene()
    none = Augmentation()
    assert crop_and_flip(images, masks, none, seeded())[0] is images
    assert deform(images, masks, none, seeded()) == (images, masks)
    assert change_intensity(images, none, seeded()) is images


@pytest.mark.parametrize(
    "change", [Augmentation(flip=True), Augmentation(crop_padding=3), Augmentation(3, True)]
)
def test_crop_and_flip_move_image_and_mask_together(change):
    images, masks = scene()
    moved, moved_masks = crop_and_flip(images, masks, change, seeded())
    assert torch.equal(moved[:, 0], moved_masks.float())
    assert torch.equal(moved[:, 1], moved_masks.float())
    assert not torch.equal(moved_masks, masks)
    assert (moved_masks.dtype, moved.shape) == (torch.uint8, images.shape)


def test_half_of_the_images_are_mirrored_and_the_others_unchanged():
    images = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(1, 2, 3, 4).expand(2000, 2, 3, 4)
    moved, _ = crop_and_flip(images, None, Augmentation(flip=True), seeded())
    same = (moved == images).all(dim=(1, 2, 3))
    mirrored = (moved == images.flip(-1)).all(dim=(1, 2, 3))
    assert torch.equal(mirrored, ~same)
    # Five standard deviations of a fair coin over 2,000 throws.
    assert abs(mirrored.float().mean().item() - 0.5) < 5 * 0.5 / 2000**0.5


def test_a_crop_is_a_window_of_the_reflected_image():
    images = torch.rand((50, 3, 8, 9), generator=seeded(1))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    moved, _ = crop_and_flip(images, None, Augmentation(crop_padding=2), seeded())
    seen = set()
    for padded_image, image in zip(padded, moved, strict=True):
        windows = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(padded_image[:, top : top + 8, left : left + 9], image)
        ]
        assert len(windows) == 1
        seen.update(windows)
    assert len(seen) > 10  # of 25 windows


def test_padding_as_large_as_the_image_is_refused():
    with pytest.raises(ValueError, match="crop_padding 8"):
        crop_and_flip(torch.zeros(1, 1, 8, 9), None, Augmentation(crop_padding=8), seeded())


def test_affine_moves_image_and_mask_together():
    images, masks = scene()
    change = Augmentation(rotation=20, scale=0.2, translation=0.1)
    moved, moved_masks = deform(images, masks, change, seeded())
    # The nearest pixel must agree except where interpolation gives values in between.
    clear = (moved[:, 0] - 0.5).abs() > 0.499
    assert clear.float().mean() > 0.3
    assert torch.equal((moved[:, 0] > 0.5)[clear], moved_masks.bool()[clear])
    assert set(moved_masks.unique().tolist()) == {0, 1}
    assert (moved_masks != masks).float().mean() > 0.05


def test_rotation_is_rigid_in_pixels_on_an_oblong_image():
    matrices = affine_matrices(
        (5, 1, 20, 40), Augmentation(rotation=30), seeded(), torch.device("cpu")
    )
    to_pixels = torch.diag(torch.tensor([20.0, 10.0]))
    pixels = to_pixels @ matrices[:, :, :2] @ torch.linalg.inv(to_pixels)
    assert torch.allclose(pixels @ pixels.mT, torch.eye(2).expand(5, 2, 2), atol=1e-6)
    assert (pixels[:, 0, 1].abs() <= 0.5 + 1e-6).all()  # sine of 30 degrees
    assert torch.equal(matrices[:, :, 2], torch.zeros(5, 2))


def test_intensity_stays_in_its_range():
    images = torch.randn((200, 1, 6, 6), generator=seeded(3))
    moved = change_intensity(images, Augmentation(brightness=0.2, contrast=0.3), seeded())
    shift = moved.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    ratio = moved.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.15 < shift.abs().max() <= 0.2 + 1e-5
    assert 0.7 - 1e-5 <= ratio.min() < 0.75 < 1.25 < ratio.max() <= 1.3 + 1e-5


def test_same_seed_same_change():
    images, masks = scene()
    change = Augmentation(2, True, 10, 0.1, 0.1)
    for function in (crop_and_flip, deform):
        first, second = (function(images, masks, change, seeded(5)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
