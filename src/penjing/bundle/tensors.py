"""One tensor as a member: a 64-byte header, then the elements, little-endian, in C order.

    0   4  magic "PJT1"
    4   1  dtype code: 1 u8, 2 s8, 3 s16, 4 s32, 5 f32
    5   1  number of dimensions, 0 to 8
    6   1  encoding: 0 raw (the only one of format 1)
    7   1  zero
    8  32  eight uint32: the dimensions, outermost first, then zeros
    40 24  zeros
    64     elements

The name of the member is the SHA-256 of these bytes, so equal tensors of several variants are stored once. The header
is as long as the alignment of a tray: elements can be used where they lie. Nothing here runs code or trusts a size.
"""

import math
import struct
from typing import Any

import numpy as np

from penjing.core.digests import digest_bytes
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle

HEADER_BYTES = 64
MAX_DIMS = 8
_MAGIC = b"PJT1"
_RAW = 0
_HEADER = struct.Struct("<4s4B8I24x")
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
DTYPE_NAMES = {"u8": _DTYPES[1], "s8": _DTYPES[2], "s16": _DTYPES[3], "s32": _DTYPES[4], "f32": _DTYPES[5]}


def pack_tensor(array: np.ndarray) -> bytes:
    """The member bytes of `array` (u8, s8, s16, s32 or f32 of any byte order; 0 to 8 dimensions, none of them 0).

    Raises:
        InvalidInput: another dtype, too many dimensions, or an empty array.
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("<"))
    if code is None:
        raise InvalidInput(f"a tray cannot hold a tensor of dtype {array.dtype}", hint="use u8, s8, s16, s32 or f32")
    if array.ndim > MAX_DIMS or array.size == 0 or max(array.shape, default=1) > 0xFFFFFFFF:
        raise InvalidInput(f"a tray cannot hold a tensor of shape {array.shape}")
    return _header(code, array.shape) + array.astype(_DTYPES[code], copy=False).tobytes(order="C")


def tensor_digest(member: bytes | memoryview) -> str:
    """The content address of a tensor member: the part of its name after the folder."""
    return digest_bytes(member)


def read_tensor(member: bytes | memoryview, *, where: str = "tensor") -> np.ndarray:
    """The tensor in `member` as a read-only array over the same memory.

    Raises:
        UnsupportedBundle: an encoding that this release does not know.
        CorruptBundle: anything that `pack_tensor` does not write.
    """
    view = memoryview(member).toreadonly()
    if len(view) < HEADER_BYTES:
        raise CorruptBundle(f"a tensor of {len(view)} bytes is shorter than its header", where=where)
    magic, code, n_dims, encoding, _, *dims = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise CorruptBundle("this is not a tensor", where=where)
    if encoding != _RAW:
        raise UnsupportedBundle(f"tensor encoding {encoding} is unknown", where=where, hint="upgrade penjing")
    if code not in _DTYPES or n_dims > MAX_DIMS:
        raise CorruptBundle(f"a tensor of dtype code {code} with {n_dims} dimensions", where=where)
    shape = tuple(dims[:n_dims])
    if 0 in shape:
        raise CorruptBundle(f"a tensor of shape {shape} is empty", where=where)
    if _header(code, shape) != view[:HEADER_BYTES]:
        raise CorruptBundle("unused bytes of a tensor header are not zero", where=where)
    # Python integers: the product of eight hostile dimensions does not wrap around.
    n_bytes = math.prod(shape) * _DTYPES[code].itemsize
    if len(view) - HEADER_BYTES != n_bytes:
        raise CorruptBundle(f"shape {shape} needs {n_bytes} bytes, not {len(view) - HEADER_BYTES}", where=where)
    return np.frombuffer(view, dtype=_DTYPES[code], offset=HEADER_BYTES).reshape(shape)


def _header(code: int, shape: tuple[int, ...]) -> bytes:
    padded = shape + (0,) * (MAX_DIMS - len(shape))
    return _HEADER.pack(_MAGIC, code, len(shape), _RAW, 0, *padded)
