"""Pictures on the command line as raw model inputs."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penjing.cli.arrays import require_file
from penjing.core.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MAX_PIXELS = 64 * 2**20
# What Pillow raises on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error, MemoryError)


def read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An image file as uint8 (1, *shape): turned as its camera says, in the input's colours, scaled to its size.

    Args:
        path: the file.
        shape: (1 or 3, height, width) of the input.

    Raises:
        InvalidInput: no such file, no image, one that is too large or has 16 bits, or a model that takes no images.
        MissingDependency: Pillow is not installed.
    """
    require_file(path, hint="give an image or an .npy file")
    if len(shape) != 3 or shape[0] not in (1, 3):
        taken = "x".join(map(str, shape))
        raise InvalidInput(f"the model takes {taken}, which is no image", where=str(path), hint="give an .npy file")
    channels, height, width = shape
    picture = _pixels(path, "L" if channels == 1 else "RGB", (width, height))
    return np.ascontiguousarray(picture.reshape(height, width, channels).transpose(2, 0, 1)[None])


def _pixels(path: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    pillow = _pillow()
    try:
        # Pillow only warns of images that would fill the memory; and a warning has no place among results.
        with warnings.catch_warnings(action="ignore"), pillow.Image.open(path, formats=_FORMATS) as image:
            _check(path, image)
            upright = pillow.ImageOps.exif_transpose(image)
            return np.asarray(upright.convert(mode).resize(size, pillow.Image.Resampling.BILINEAR), np.uint8)
    except (*_DAMAGED, pillow.Image.DecompressionBombError) as error:
        raise InvalidInput(f"{path} is no image that can be read: {error}", where=str(path)) from error


def _check(path: Path, image: "Image") -> None:
    if image.width * image.height > _MAX_PIXELS:
        raise InvalidInput(
            f"{image.width} x {image.height} pixels are over the limit of {_MAX_PIXELS}",
            where=str(path),
            hint="scale the image down first",
        )
    if image.mode.startswith(("I", "F")):
        raise InvalidInput(
            f"{path} has more than 8 bits per colour", where=str(path), hint="save it with 8 bits, or as .npy"
        )


def _pillow() -> Any:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingDependency("reading images needs Pillow", hint="pip install Pillow, or give .npy files") from error
    return PIL
