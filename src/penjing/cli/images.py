"""Files on the command line as raw model inputs."""

from pathlib import Path

import numpy as np

from penjing.bundle.schema import InputSpec
from penjing.core.errors import InvalidInput, MissingDependency

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_MAX_PIXELS = 64 * 2**20


def read_raw(path: Path, spec: InputSpec) -> np.ndarray:
    """A file as raw input (n, ...): .npy arrays as they are, images resized to the input's shape as uint8.

    Raises:
        InvalidInput: no such file, an unknown kind, or contents that do not fit.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=str(path), hint="give an image or an .npy file")
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    if path.suffix.lower() in IMAGES:
        return _read_image(path, spec)
    raise InvalidInput(f"{path.suffix or 'a file without suffix'} is not known", where=str(path), hint=f"use .npy or {IMAGES}")


def _read_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInput(f"{path} is not a numpy array: {error}", where=str(path)) from error
    return array


def _read_image(path: Path, spec: InputSpec) -> np.ndarray:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependency("reading images needs Pillow", hint="pip install Pillow, or pass .npy") from error
    if len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
        raise InvalidInput(f"the input {spec.name} of shape {spec.shape} is no image", where=str(path), hint="pass .npy")
    _, channels, height, width = spec.shape
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise InvalidInput(f"{image.width} x {image.height} pixels is over the limit", where=str(path))
            fitted = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"{path} is not an image that Pillow can read: {error}", where=str(path)) from error
    pixels = np.asarray(fitted, np.uint8)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)[None].copy()
