"""What the command line takes as samples: a data set's name, an array file, or a folder of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penjing.api import Port
from penjing.bundle.schema import InputSpec
from penjing.cli.images import IMAGES, read_raw
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.zoo import data

BATCH = 32
SOURCES = "a data set (digits, mnist, cifar10), an .npy or .npz file, a folder of images, or 'random'"


@dataclass(frozen=True)
class Samples:
    """Real inputs (n, ...), normalised; `y` where the source has labels."""

    name: str
    x: np.ndarray
    y: np.ndarray | None

    def batches(self) -> Iterator[np.ndarray]:
        """In pieces that bound memory."""
        for start in range(0, len(self.x), BATCH):
            yield self.x[start : start + BATCH]


def calibration_samples(source: str, shape: tuple[int, ...], port: Port, count: int, seed: int = 0) -> Samples:
    """At most `count` samples for calibration, drawn at random where there are more.

    Args:
        source: see SOURCES. uint8 values and images are normalised by `port`; floats are taken as they are.
        shape: of one sample, without batch.
        port: the input's normalisation.
        count: the limit.
        seed: of the draw.

    Raises:
        CalibrationError: no sample.
        InvalidInput, MissingData: the source cannot be read.
    """
    if source in data.names():
        dataset = data.load(source, image_size=shape[-1])
        return Samples(f"{dataset.name}, training part", _draw(dataset.train_x, count, seed, port), None)
    if source == "random":
        rng = np.random.default_rng(seed)
        low, high = port.value_range
        raw = rng.uniform(low, high, (count, *shape)).astype(np.float32)
        return Samples("random values", normalise(raw, port), None)
    path = Path(source)
    if path.is_dir():
        return Samples(path.name, _folder(path, shape, port, count), None)
    if path.suffix in (".npy", ".npz"):
        return Samples(path.name, _draw(_array(path), count, seed, port), None)
    raise InvalidInput(f"{source!r} is not a source of samples", hint=f"give {SOURCES}")


def test_samples(source: str, shape: tuple[int, ...]) -> tuple[data.Dataset, Samples]:
    """The labelled test part of a data set, normalised."""
    if source not in data.names():
        raise InvalidInput(f"{source!r} is not a labelled data set", hint=f"choose one of {', '.join(data.names())}")
    dataset = data.load(source, image_size=shape[-1])
    return dataset, Samples(dataset.name, dataset.normalise(dataset.test_x), dataset.test_y)


def normalise(raw: np.ndarray, port: Port) -> np.ndarray:
    """(x - mean) / std per channel; uint8 is scaled to the value range first, floats are taken to lie in it."""
    low, high = port.value_range
    x = raw.astype(np.float32)
    if raw.dtype == np.uint8:
        x = x * np.float32((high - low) / 255) + np.float32(low)
    channel = (1, -1) + (1,) * (raw.ndim - 2)
    if port.mean is not None:
        x = x - np.asarray(port.mean, np.float32).reshape(channel)
    if port.std is not None:
        x = x / np.asarray(port.std, np.float32).reshape(channel)
    return x


def _draw(x: np.ndarray, count: int, seed: int, port: Port) -> np.ndarray:
    if not len(x):
        raise CalibrationError("the calibration set is empty", hint="100 to 500 samples are usual")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:count])
    picked = x[chosen]
    return normalise(picked, port) if picked.dtype == np.uint8 else picked.astype(np.float32)


def _array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInput(f"{path} is not a numpy file: {error}", where=str(path)) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    if "x" not in loaded.files:
        raise InvalidInput(f"{path} has no array 'x'", where=str(path), hint=f"it has {', '.join(loaded.files)}")
    array: np.ndarray = loaded["x"]
    return array


def _folder(path: Path, shape: tuple[int, ...], port: Port, count: int) -> np.ndarray:
    spec = InputSpec("image", (1, *shape), "f32", "NCHW", 1.0, 0, "u8", port.mean, port.std, port.value_range, port.color)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)[:count]
    if not files:
        raise CalibrationError(f"no images in {path}", hint=f"looked for {', '.join(IMAGES)}")
    return normalise(np.concatenate([read_raw(file, spec) for file in files]), port)
