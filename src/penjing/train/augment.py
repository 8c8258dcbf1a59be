"""Random changes of training images that keep their meaning."""

import torch
import torch.nn.functional as F


def crop_and_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The usual augmentation for CIFAR: pad by 4, crop back at random, mirror left to right every other time.

    He et al., Deep Residual Learning for Image Recognition (2015), section 4.2.

    Args:
        images: (n, c, h, w), already normalised: the margin is filled with zeros.
        generator: the source of randomness, on the CPU.
    """
    margin = 4
    n, c, h, w = images.shape
    top = torch.randint(0, 2 * margin + 1, (n, 1), generator=generator)
    left = torch.randint(0, 2 * margin + 1, (n, 1), generator=generator)
    mirrored = torch.rand((n, 1), generator=generator) < 0.5
    rows = top + torch.arange(h)  # (n, h)
    columns = left + torch.arange(w)  # (n, w)
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (margin, margin, margin, margin))
    which = torch.arange(n)[:, None, None, None]
    channel = torch.arange(c)[None, :, None, None]
    return padded[which, channel, rows[:, None, :, None], columns[:, None, None, :]]
