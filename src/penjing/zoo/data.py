"""Data sets for training, calibration and accuracy: numpy arrays, no torch.

Names: "digits" ships with scikit-learn; "mnist" and "cifar10" are read from the folder that `PENJING_DATA` names.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penjing.core import files, knobs
from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput, MissingDependency
from penjing.core.normalise import normalise
from penjing.zoo.archive import damaged, data_file, read_arrays
from penjing.zoo.inputs import GRAY_DIGITS, RGB, InputKind

DIGIT_LABELS = tuple("0123456789")
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split for training and test.

    Attributes:
        name: as to be written beside a figure.
        train_x: (n, channels, height, width), uint8 of 0..255 or float32 of 0..1.
        train_y: (n,) int64, indices into `labels`.
        test_x: as train_x.
        test_y: as train_y.
        labels: names of the classes.
        mean: per channel, of values in 0..1.
        std: likewise.
    """

    name: str
    train_x: np.ndarray
    train_y: NDArray[np.int64]
    test_x: np.ndarray
    test_y: NDArray[np.int64]
    labels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, x: np.ndarray) -> NDArray[np.float32]:
        """Images of this set as a network takes them: (x - mean) / std in float32; uint8 is divided by 255 first."""
        return normalise(x, self.mean, self.std)


def names() -> tuple[str, ...]:
    """Names that `load` takes."""
    return tuple(sorted(_LOADERS))


def load(name: str, image_size: int = 32) -> Dataset:
    """The data set `name`, with square images of `image_size` pixels where the set comes in several sizes.

    Raises:
        InvalidInput: no such data set, or not in this size.
        MissingData: its file is not on this machine.
    """
    if name not in _LOADERS:
        raise InvalidInput(f"there is no data set {name!r}", hint=f"choose one of {', '.join(names())}")
    return _LOADERS[name](image_size)


def digits() -> Dataset:
    """1,797 handwritten digits that ship with scikit-learn, scaled from 8x8 to 32x32; every fourth of a class is test.

    Values are float32 multiples of 1/255 in 0..1, so that an 8-bit image file holds them exactly.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependency(
            "the digits ship with scikit-learn, which is not installed", hint="pip install 'penjing[compress]'"
        ) from error
    bunch = load_digits()
    small = bunch.images.astype(np.float32) / np.float32(16)  # (1797, 8, 8), 16 grey levels and zero
    y = bunch.target.astype(np.int64)
    x = np.stack([_scaled(image, 32) for image in small])[:, np.newaxis]
    is_test = _every_nth_of_each_class(y, 4)
    return _dataset("digits", (x[~is_test], y[~is_test]), (x[is_test], y[is_test]), DIGIT_LABELS, GRAY_DIGITS)


def mnist(image_size: int = 32) -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits, uint8, as 28x28 or padded with zeros to 32x32.

    Raises:
        MissingData: no mnist.npz in the data folder.
        InvalidInput: another size, or a damaged file.
    """
    if image_size not in (28, 32):
        raise InvalidInput(f"MNIST images come in 28 or 32 pixels, not {image_size}", where="mnist(image_size)")
    path = data_file("mnist.npz")
    arrays = read_arrays(path, ("train_x", "train_y", "test_x", "test_y"))
    margin = (image_size - 28) // 2
    parts = []
    for part in ("train", "test"):
        x, y = arrays[f"{part}_x"], arrays[f"{part}_y"]
        if x.dtype != np.uint8 or x.shape != (len(y), 28, 28):
            raise damaged(path, f"{part}_x is {x.dtype}{list(x.shape)}, not {len(y)} images of 28x28 in uint8")
        padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
        parts.append((padded[:, np.newaxis], _checked_labels(path, y, len(DIGIT_LABELS))))
    return _dataset("MNIST", parts[0], parts[1], DIGIT_LABELS, GRAY_DIGITS)


def cifar10() -> Dataset:
    """CIFAR-10 re-encoded as JPEG, 50,000 + 10,000 images of 32x32 in uint8 RGB.

    The files are decoded once; the pixels are kept in the cache folder under the digest of the source file and the
    version of the decoder, so that neither a changed file nor another decoder meets old pixels.

    Raises:
        MissingData: no cifar10_jpeg.npz in the data folder.
        InvalidInput: a damaged file.
        WriteFailed: the cache folder cannot be written.
    """
    path = data_file("cifar10_jpeg.npz")
    keys = ("train_offset", "train_y", "test_offset", "test_y")
    arrays = read_arrays(path, keys)
    source = digest_bytes(path.read_bytes())
    parts = []
    for part in ("train", "test"):
        labels = _checked_labels(path, arrays[f"{part}_y"], len(CIFAR10_LABELS))
        parts.append((_cached_pixels(path, source, part, arrays[f"{part}_offset"], len(labels)), labels))
    return _dataset("CIFAR-10 (JPEG)", parts[0], parts[1], CIFAR10_LABELS, RGB)


def _digits(image_size: int) -> Dataset:
    if image_size != 32:
        raise InvalidInput(f"the digits come in 32 pixels, not {image_size}", hint="use mnist for 28 pixels")
    return digits()


def _cifar10(image_size: int) -> Dataset:
    if image_size != 32:
        raise InvalidInput(f"CIFAR-10 images have 32 pixels, not {image_size}")
    return cifar10()


_LOADERS: dict[str, Callable[[int], Dataset]] = {"cifar10": _cifar10, "digits": _digits, "mnist": mnist}


def _dataset(
    name: str,
    train: tuple[np.ndarray, NDArray[np.int64]],
    test: tuple[np.ndarray, NDArray[np.int64]],
    labels: tuple[str, ...],
    kind: InputKind,
) -> Dataset:
    return Dataset(name, *train, *test, labels=labels, mean=kind.mean, std=kind.std)


def _scaled(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    from PIL import Image

    large = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    return np.asarray(np.rint(large * np.float32(255)) / np.float32(255), np.float32)


def _every_nth_of_each_class(y: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    # Counted in file order: no random generator whose next release could move the split.
    chosen = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        chosen[np.flatnonzero(y == label)[::n]] = True
    return chosen


def _checked_labels(path: Path, y: np.ndarray, classes: int) -> NDArray[np.int64]:
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) == 0 or y.min() < 0 or y.max() >= classes:
        raise damaged(path, f"its labels are not a list of integers in 0..{classes - 1}")
    return y.astype(np.int64)


def _cached_pixels(path: Path, source: str, part: str, offset: np.ndarray, count: int) -> NDArray[np.uint8]:
    import PIL

    key = digest_bytes(f"{source} {part} Pillow {PIL.__version__}".encode())[:32]
    cache = knobs.cache_dir() / f"cifar10-{part}-{key}.npy"
    if cache.exists():
        pixels = _read_pixels(cache, count)
        if pixels is not None:
            return pixels
    pixels = _decoded(path, read_arrays(path, (f"{part}_jpeg",))[f"{part}_jpeg"], offset, count)
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    files.write_atomically(cache, buffer.getvalue(), force=True)
    return pixels


def _read_pixels(cache: Path, count: int) -> NDArray[np.uint8] | None:
    """The cached pixels, mapped and not read; None when the file is damaged and has to be made again."""
    try:
        pixels = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.shape == (count, 3, 32, 32) else None


def _decoded(path: Path, jpeg: np.ndarray, offset: np.ndarray, count: int) -> NDArray[np.uint8]:
    from PIL import Image

    ends = offset.astype(np.int64) if offset.dtype.kind in "iu" else np.zeros(0, np.int64)
    if jpeg.dtype != np.uint8 or ends.shape != (count + 1,) or ends[0] < 0 or (np.diff(ends) <= 0).any():
        raise damaged(path, "its offsets do not divide it into one file per label")
    pixels = np.empty((count, 3, 32, 32), np.uint8)
    data = jpeg.tobytes()
    for i in range(count):
        try:
            with Image.open(io.BytesIO(data[ends[i] : ends[i + 1]]), formats=["JPEG"]) as image:
                rgb = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise damaged(path, f"image {i} does not decode: {error}") from error
        if rgb.shape != (32, 32, 3):
            raise damaged(path, f"image {i} has the shape {rgb.shape}, not (32, 32, 3)")
        pixels[i] = rgb.transpose(2, 0, 1)
    return pixels
