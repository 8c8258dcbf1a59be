"""The weights of a tray, decoded by its own library: several times as fast as by numpy."""

import ctypes
from functools import partial

import numpy as np
from numpy.typing import NDArray

from penjing.bundle.coding.tensors import PackDecoder
from penjing.runtime.native import Function, NativeLibrary

_ALIGN = 1  # tensors one after the other, as `PackDecoder` has them


class _Sizes(ctypes.Structure):
    """`struct <stem>_pack_sizes` of the library."""

    _fields_ = [("out_bytes", ctypes.c_uint64), ("scratch_bytes", ctypes.c_uint64), ("tensors", ctypes.c_uint32)]


def pack_decoder(code: NativeLibrary) -> PackDecoder | None:
    """What the library decodes packs with; None where it does not decode."""
    sizes, decode = code.optional("pack_sizes"), code.optional("pack_decode")
    return None if sizes is None or decode is None else partial(_decoded, sizes, decode)


def _decoded(
    sizes: Function, decode: Function, pack: memoryview, out_bytes: int, most_scratch: int
) -> NDArray[np.uint8] | None:
    data = np.frombuffer(pack, np.uint8)
    given = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes), ctypes.c_uint32(_ALIGN)
    needed = _Sizes()
    if sizes(*given, ctypes.byref(needed)) != 0:
        return None
    if needed.out_bytes != out_bytes or needed.scratch_bytes > most_scratch:
        return None
    out, scratch = np.empty(out_bytes, np.uint8), np.empty(-(-needed.scratch_bytes // 8), np.uint64)
    memory = ((ctypes.c_void_p(block.ctypes.data), ctypes.c_size_t(block.nbytes)) for block in (out, scratch))
    status = decode(*given, *(argument for block in memory for argument in block))
    return out if status == 0 else None
