"""Files of the data folder that `PENJING_DATA` names, and the arrays in them."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from penjing.core import knobs
from penjing.core.errors import InvalidInput, MissingData


def data_file(name: str) -> Path:
    """The path of `name` in the data folder.

    Raises:
        MissingData: PENJING_DATA is not set, or its folder lacks the file.
    """
    folder = knobs.DATA.path()
    if folder is None:
        raise MissingData(
            f"{name} is not on this machine: {knobs.DATA.name} is not set",
            hint=f"set {knobs.DATA.name} to the folder that holds {name}",
        )
    path = folder / name
    if not path.is_file():
        raise MissingData(
            f"{name} is not in the data folder",
            where=str(folder),
            hint=f"put {name} there, or set {knobs.DATA.name} to the folder that holds it",
        )
    return path


def read_arrays(path: Path, keys: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, all of them or those named; pickled objects are refused.

    Raises:
        InvalidInput: the file is damaged, lacks a key, or holds something else than plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys or () if key not in archive.files]
            if missing:
                raise damaged(path, f"it lacks the arrays {', '.join(missing)}")
            return {key: archive[key] for key in (archive.files if keys is None else keys)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        # AttributeError and TypeError: np.load gives a bare array, without a context, for an .npy under this name.
        raise damaged(path, str(error)) from error


def damaged(path: Path, what: str) -> InvalidInput:
    """The error for a data file with the wrong contents."""
    return InvalidInput(
        f"{path.name} cannot be used: {what}", where=str(path), hint="fetch the file again; its size may tell"
    )
