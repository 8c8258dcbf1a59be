"""The weights of a program as one block of bytes, each constant at the aligned offset that the plan gives it."""

import numpy as np

from penjing.ir.graph import Graph
from penjing.program.plan import ALIGNMENT, Plan


def pack_weights(program: Graph, plan: Plan) -> np.ndarray:
    """u8[plan.weights_bytes] at an aligned address, little-endian; gaps are zero."""
    block = aligned_buffer(plan.weights_bytes)
    for name, constant in program.constants.items():
        place = plan.places[name]
        raw = np.ascontiguousarray(constant.array, dtype=constant.array.dtype.newbyteorder("<"))
        block[place.offset : place.offset + place.nbytes] = raw.reshape(-1).view(np.uint8)
    return block


def aligned_buffer(nbytes: int) -> np.ndarray:
    """u8[nbytes] of zeros at an address that is a multiple of 64."""
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]
