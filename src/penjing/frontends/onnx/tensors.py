"""Tensors of an ONNX file as arrays: sizes are compared with the bytes that are there before anything is allocated.

Data outside the file lie beside it or below its folder; every other place is refused.
"""

import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.core.onnx_package import import_onnx

MAX_ELEMENTS = 2**28  # of one constant
_BITS = {
    "FLOAT": 32,
    "DOUBLE": 64,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "INT16": 16,
    "UINT16": 16,
    "INT32": 32,
    "UINT32": 32,
    "INT64": 64,
    "UINT64": 64,
    "BOOL": 8,
    "INT4": 4,
    "UINT4": 4,
}
HALVES = ("FLOAT16", "BFLOAT16")
# The field that holds the numbers where there is no raw data, and how many numbers one entry of it holds.
_FIELDS = {"FLOAT": "float_data", "DOUBLE": "double_data", "INT64": "int64_data"}
_UNSIGNED_FIELDS = {"UINT32": "uint64_data", "UINT64": "uint64_data"}


def type_name(number: int) -> str:
    """`FLOAT` for 1."""
    types = import_onnx().TensorProto.DataType
    return str(types.Name(number)) if number in types.values() else f"type {number}"


def to_array(tensor: Any, folder: Path | None) -> np.ndarray:
    """The array of a TensorProto; bfloat16 becomes float32.

    Args:
        tensor: data outside the file are loaded into it.
        folder: of the model's file, where such data may lie.

    Raises:
        InvalidInput: a size that does not fit the data, too many elements, or data in a forbidden place.
        UnsupportedOp: an element type that is not carried.
    """
    onnx = import_onnx()
    where, kind = f"tensor {tensor.name or '(unnamed)'}", type_name(tensor.data_type)
    if kind not in _BITS:
        raise UnsupportedOp(f"a tensor of {kind}", where=where)
    count = elements(tuple(tensor.dims), where)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _load_external(tensor, folder, -(-count * _BITS[kind] // 8), where)
    _check_length(tensor, kind, count, where)
    try:
        array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"its data do not fit its type {kind}: {error}", where=where) from error
    if kind == "BFLOAT16":
        array = array.astype(np.float32)
    return array


def elements(dims: tuple[int, ...], where: str) -> int:
    """The number of elements; InvalidInput for a negative extent or too many."""
    count = math.prod(dims)
    if min(dims, default=0) < 0 or len(dims) > 16 or count > MAX_ELEMENTS:
        raise InvalidInput(f"a shape of {dims} is beyond what a model may have", where=where)
    return count


def _check_length(tensor: Any, kind: str, count: int, where: str) -> None:
    if tensor.HasField("raw_data"):
        have, want = len(tensor.raw_data), -(-count * _BITS[kind] // 8)
        unit = "bytes"
    else:
        field = _FIELDS.get(kind) or _UNSIGNED_FIELDS.get(kind, "int32_data")
        have, want = len(getattr(tensor, field)), -(-count // 2) if _BITS[kind] == 4 else count
        unit = f"entries of {field}"
    if have != want:
        raise InvalidInput(f"shape {tuple(tensor.dims)} of {kind} needs {want} {unit}, not {have}", where=where)


def _load_external(tensor: Any, folder: Path | None, nbytes: int, where: str) -> None:
    """Read data that lie in another file, and put them into the tensor."""
    onnx = import_onnx()
    entries = {str(entry.key): str(entry.value) for entry in tensor.external_data}
    path = _inside(folder, entries.get("location", ""), where)
    offset, length = _number(entries, "offset", 0, where), _number(entries, "length", nbytes, where)
    if length != nbytes:
        raise InvalidInput(f"its shape needs {nbytes} bytes, its entry says {length}", where=where)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if offset + length > size:
                raise InvalidInput(f"bytes {offset}..{offset + length} of {path.name}, which has {size}", where=where)
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise InvalidInput(
            f"its data cannot be read: {error.strerror}",
            where=f"{where}, {path.name}",
            hint="keep the data file beside the model",
        ) from error
    tensor.raw_data = data
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


def _inside(folder: Path | None, location: str, where: str) -> Path:
    """The file that `location` names below the model's folder."""
    if folder is None:
        raise InvalidInput("its data lie in another file, but the model has no folder", where=where)
    parts = PurePosixPath(location).parts
    foreign = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or "\\" in location
    if not location or foreign or ".." in parts or "\0" in location:
        raise InvalidInput(f"its data lie outside the model's folder: {location!r}", where=where)
    path = folder.joinpath(*parts)
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InvalidInput(
            f"its data are missing: there is no file {location}",
            where=where,
            hint="keep the data file beside the model",
        ) from error
    if not real.is_relative_to(folder.resolve()) or not real.is_file():
        raise InvalidInput(f"its data lie outside the model's folder: {location!r}", where=where)
    return real


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidInput(f"the {key} of its data is {text!r}", where=where)
    return int(text)
