"""What the command line takes as samples: a data set's name, an array file, or a folder of images.

Samples are raw: uint8 of 0..255, or floats in the model's value range. They are normalised here as the tray will do it
on the device. Arrays that are normalised already say so by --no-raw.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penjing.api import Port
from penjing.cli.arrays import ARRAYS, check_finite, check_samples, read_array, require_file
from penjing.cli.images import IMAGES, read_image
from penjing.cli.output import note
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.core.normalise import normalise
from penjing.zoo import data

SOURCES = "digits, mnist, cifar10, an .npy or .npz file, a folder of images, or 'random'"
_BATCH = 32
_OUTSIDE = 0.01  # a float outside the value range by more than this share of it was hardly meant as raw


@dataclass(frozen=True)
class Samples:
    """Real inputs (n, ...), normalised; `y` (n,) where the source has labels."""

    name: str
    x: np.ndarray
    y: np.ndarray | None = None

    def batches(self) -> Iterator[np.ndarray]:
        """In pieces that bound memory."""
        for start in range(0, len(self.x), _BATCH):
            yield self.x[start : start + _BATCH]


def calibration_samples(
    source: str,
    shape: tuple[int, ...],
    port: Port,
    count: int,
    *,
    raw: bool = True,
    seed: int = 0,
    lengths: tuple[int, ...] = (),
    ids: bool = False,
) -> Samples:
    """At most `count` samples for calibration, drawn at random where there are more.

    Args:
        source: see SOURCES.
        shape: of one sample, without batch.
        port: the input's normalisation.
        count: the limit.
        raw: whether an array is still to be normalised.
        seed: of the draw.
        lengths: axes of a sample along which an array may be shorter.
        ids: whether the input takes ids, which only an array file holds.

    Raises:
        CalibrationError: no sample.
        InvalidInput, MissingData, MissingDependency: the source cannot be read, or does not fit.
    """
    rng = np.random.default_rng(seed)
    path = Path(source)
    if ids:
        if path.suffix.lower() not in ARRAYS:
            raise _no_source(source, "an .npy or .npz file of ids as they occur")
        drawn = _draw(check_samples(read_array(path), shape, source, lengths, ids=True), count, rng, source)
        return Samples(path.name, drawn.astype(np.int32))
    if source == "random":
        values = rng.uniform(*port.value_range, (count, *shape)).astype(np.float32)
        return Samples("random values", _normal(values, port))
    if source in data.names():
        dataset = data.load(source, image_size=shape[-1])
        drawn = _draw(check_samples(dataset.train_x, shape, dataset.name), count, rng, source)
        return Samples(f"{dataset.name}, training part", _normal(drawn, port))
    if path.is_dir():
        return Samples(path.name, _normal(_folder(path, shape, count), port))
    if path.suffix.lower() in ARRAYS:
        drawn = _draw(check_samples(read_array(path), shape, source, lengths), count, rng, source)
        check_finite(drawn, source)
        return Samples(path.name, prepared(drawn, port, raw=raw, where=source))
    raise _no_source(source, SOURCES)


def labelled_samples(
    source: str, shape: tuple[int, ...], port: Port, *, raw: bool = True, lengths: tuple[int, ...] = ()
) -> Samples:
    """The test part of a data set, or the arrays x and y of an .npz; arguments and errors as above."""
    if source in data.names():
        dataset = data.load(source, image_size=shape[-1])
        return Samples(dataset.name, _normal(check_samples(dataset.test_x, shape, dataset.name), port), dataset.test_y)
    x, y = _labelled_arrays(source, shape, lengths)
    return Samples(Path(source).name, prepared(x, port, raw=raw, where=source), y)


def _labelled_arrays(
    source: str, shape: tuple[int, ...], lengths: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    path = Path(source)
    if path.suffix.lower() != ".npz":
        raise _no_source(source, f"{', '.join(data.names())}, or an .npz file with arrays x and y")
    x, y = check_samples(read_array(path), shape, source, lengths), read_array(path, "y")
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or not len(y):
        raise InvalidInput(
            f"y has the type {y.dtype} and shape {y.shape}, not one class number for each of {len(x)} samples",
            where=source,
        )
    check_finite(x, source)
    return x, y.astype(np.int64)


@dataclass(frozen=True, eq=False)
class TrainingSamples:
    """Labelled samples to train on, normalised batch by batch; there are none to test on."""

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    port: Port
    raw: bool

    @property
    def test_x(self) -> np.ndarray:
        """(0, ...)."""
        return self.train_x[:0]

    @property
    def test_y(self) -> np.ndarray:
        """(0,)."""
        return self.train_y[:0]

    def normalise(self, x: np.ndarray) -> np.ndarray:
        """Network inputs."""
        return _normal(x, self.port) if self.raw else np.asarray(x, np.float32)


def training_samples(source: str, shape: tuple[int, ...], port: Port, *, raw: bool = True) -> TrainingSamples:
    """The training part of a data set, or the arrays x and y of an .npz; arguments and errors as above."""
    if source in data.names():
        dataset = data.load(source, image_size=shape[-1])
        x = check_samples(dataset.train_x, shape, dataset.name)
        return TrainingSamples(f"{dataset.name}, training part", x, dataset.train_y, port, True)
    x, y = _labelled_arrays(source, shape)
    if not raw or x.dtype.kind == "f":
        prepared(x[:1], port, raw=raw, where=source)
    return TrainingSamples(Path(source).name, x, y, port, raw)


def prepared(x: np.ndarray, port: Port, *, raw: bool, where: str) -> np.ndarray:
    """Samples of an array file as real inputs."""
    if not raw:
        if x.dtype.kind != "f":
            raise InvalidInput("normalised samples are floats; these are raw", where=where, hint="leave out --no-raw")
        return np.asarray(x, np.float32)
    if x.dtype.kind == "f":
        _doubt(x, port, where)
    return _normal(x, port)


def _normal(x: np.ndarray, port: Port) -> np.ndarray:
    return normalise(x, port.mean, port.std, port.value_range)


def _doubt(x: np.ndarray, port: Port, where: str) -> None:
    """Say so when raw floats look as if they were normalised already, or not yet divided by 255."""
    if (port.mean is None and port.std is None) or not x.size:
        return
    low, high = port.value_range
    margin = _OUTSIDE * (high - low)
    least, most = float(x.min()), float(x.max())
    if least < low - margin or most > high + margin:
        note(
            f"{where} holds values of {least:.3g} .. {most:.3g}, and raw values lie in {low:g} .. {high:g}; "
            "add --no-raw if they are normalised already; save pixels of 0..255 as uint8"
        )


def _draw(x: np.ndarray, count: int, rng: np.random.Generator, where: str) -> np.ndarray:
    if not len(x):
        raise CalibrationError("the calibration set is empty", where=where, hint="100 to 500 samples are usual")
    return x[np.sort(rng.permutation(len(x))[:count])]


def _folder(path: Path, shape: tuple[int, ...], count: int) -> np.ndarray:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)[:count]
    if not files:
        raise CalibrationError(
            f"there are no images in {path}", where=str(path), hint=f"looked for {', '.join(IMAGES)}"
        )
    return np.concatenate([read_image(file, shape) for file in files])


def _no_source(source: str, choices: str) -> InvalidInput:
    path = Path(source)
    if path.suffix.lower() in (*ARRAYS, *IMAGES) and not path.exists():
        require_file(path)
    return InvalidInput(f"{source!r} is no source of samples", where=source, hint=f"give {choices}")
