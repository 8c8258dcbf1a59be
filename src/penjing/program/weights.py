"""The weights of a program as one block of bytes, each constant at the aligned offset that the plan gives it."""

import numpy as np

from penjing.ir.graph import Graph
from penjing.program.plan import Plan


def pack_weights(program: Graph, plan: Plan) -> np.ndarray:
    """u8[plan.weights_bytes], little-endian; gaps are zero. The block itself must lie at a 64-byte aligned address."""
    block = np.zeros(plan.weights_bytes, np.uint8)
    for name, constant in program.constants.items():
        place = plan.places[name]
        raw = np.ascontiguousarray(constant.array, dtype=constant.array.dtype.newbyteorder("<"))
        block[place.offset : place.offset + place.nbytes] = raw.reshape(-1).view(np.uint8)
    return block
