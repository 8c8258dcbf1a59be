"""Images are moved and mirrored, and nothing else."""

import torch

from penjing.train.augment import crop_and_flip, shift


def generator() -> "torch.Generator":
    return torch.Generator().manual_seed(0)


def test_shift_moves_each_image_by_itself_and_repeats_its_border():
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    moved = shift(image.expand(64, 2, 6, 6), generator(), pixels=2)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="replicate")[0, 0]
    windows = {padded[y : y + 6, x : x + 6].numpy().tobytes() for y in range(5) for x in range(5)}
    seen = {one.contiguous().numpy().tobytes() for one in moved[:, 0]}
    assert seen <= windows and len(seen) > 15
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_a_shift_by_no_pixels_changes_nothing():
    images = torch.randn(4, 3, 5, 5)
    assert torch.equal(shift(images, generator(), pixels=0), images)


def test_crops_fill_the_margin_with_zeros_and_mirror_every_other_image():
    images = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    made = crop_and_flip(images, generator())
    assert made.shape == images.shape
    falling = sum(bool((row[row > 0].diff() < 0).any()) for one in made for row in [one[0, 4]])
    assert 60 < falling < 140
    assert (made == 0).any()
