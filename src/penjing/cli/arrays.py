"""Numpy files given on the command line: mapped, not read, so that a large one costs what is used of it."""

import struct
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.zoo.archive import read_arrays

ARRAYS = (".npy", ".npz")
_MAGIC = b"\x93NUMPY"
# What numpy and zipfile raise on damaged files, beyond the errors that `read_arrays` knows.
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    SyntaxError,
    TypeError,
    KeyError,
    TokenError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
)


def read_array(path: Path, key: str = "x") -> np.ndarray:
    """The array of an .npy file, or the array `key` of an .npz.

    Raises:
        InvalidInput: no such file, or one that holds no plain array of numbers.
    """
    require_file(path, hint="give an .npy or .npz file")
    try:
        array = read_arrays(path, (key,))[key] if path.suffix.lower() == ".npz" else _mapped(path)
    except _DAMAGED as error:
        raise InvalidInput(f"{path} is damaged: {error}", where=str(path), hint="write it again") from error
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{path} holds {array.dtype}, not numbers", where=str(path), hint="save uint8 or float32")
    return array


def check_samples(
    array: np.ndarray, shape: tuple[int, ...], where: str, lengths: Collection[int] = (), *, ids: bool = False
) -> np.ndarray:
    """The array as a batch (n, *shape) of uint8 or floats, or integers if `ids`; a single sample gets its first axis.

    Along the axes `lengths` of a sample, the array may have fewer elements than `shape` says.

    Raises:
        InvalidInput: another shape or type.
    """
    if ids and array.dtype.kind not in "iu":
        raise InvalidInput(f"the model takes ids, which are integers, not {array.dtype}", where=where)
    if not ids and array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InvalidInput(
            f"samples must be uint8 (0..255) or float, not {array.dtype}",
            where=where,
            hint="save them with .astype(numpy.uint8) or .astype(numpy.float32)",
        )
    batch = array if array.ndim != len(shape) else array[None]
    axes = enumerate(zip(batch.shape[1:], shape, strict=False))
    fits = all(1 <= n <= most if axis in lengths else n == most for axis, (n, most) in axes)
    if batch.ndim != 1 + len(shape) or not fits:
        wanted = ", ".join(f"1 to {n}" if axis in lengths else str(n) for axis, n in enumerate(shape))
        raise InvalidInput(f"samples have shape {array.shape}, the model takes (n, {wanted})", where=where)
    return batch


def check_finite(array: np.ndarray, where: str) -> None:
    """Raise InvalidInput when there is a NaN or an infinity."""
    if array.dtype.kind != "f":
        return
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise InvalidInput(
            f"{bad} of {array.size} values are NaN or infinite", where=where, hint="check what wrote the file"
        )


def require_file(path: Path, *, hint: str | None = None) -> None:
    """Raise InvalidInput unless `path` is a file."""
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", where=str(path), hint=hint)
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=str(path), hint=hint)


def _mapped(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        magic = stream.read(len(_MAGIC))
    if magic != _MAGIC:
        raise InvalidInput(f"{path} is no .npy file", where=str(path), hint="write it with numpy.save")
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
