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
    n, _, h, w = images.shape
    rows = _offsets(n, margin, generator) + torch.arange(h)  # (n, h)
    columns = _offsets(n, margin, generator) + torch.arange(w)  # (n, w)
    mirrored = torch.rand((n, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return _gathered(F.pad(images, (margin,) * 4), rows, columns)


def shift(images: torch.Tensor, generator: torch.Generator, pixels: int = 2) -> torch.Tensor:
    """Move each image by up to `pixels` along both axes; its border is repeated outwards.

    Args:
        images: (n, c, h, w).
        generator: the source of randomness, on the CPU.
        pixels: at least 0.
    """
    n, _, h, w = images.shape
    rows = _offsets(n, pixels, generator) + torch.arange(h)
    columns = _offsets(n, pixels, generator) + torch.arange(w)
    return _gathered(F.pad(images, (pixels,) * 4, mode="replicate"), rows, columns)


def _offsets(n: int, margin: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2 * margin + 1, (n, 1), generator=generator)


def _gathered(padded: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    which = torch.arange(len(padded))[:, None, None, None]
    channel = torch.arange(padded.shape[1])[None, :, None, None]
    index = (which, channel, rows[:, None, :, None], columns[:, None, None, :])
    return padded[tuple(axis.to(padded.device) for axis in index)]
