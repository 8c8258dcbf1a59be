"""How weights of fully connected layers lie: blocks of 16 channels in groups, each group one stream of vectors.

A kernel walks over all blocks of a group at once, 4 inputs at a time, so `[inputs / 4][blocks of the group][16][4]`
follows the order in which it reads. Groups have 8 blocks, and at the end 4, 2 and 1 as far as needed. Narrow weights
lie in the same order, several to a byte: the lowest bits of 64 bytes are one block, the next bits the next. Their
blocks are filled up to a multiple of 4.
"""

from collections.abc import Iterator

import numpy as np

from penjing.vector.packing import (
    LANES,
    QUAD,
    blocks,
    conversion_problem,
    fill,
    folded_bias,
    pack_quads,
    round_up,
    unpack_quads,
)

GROUP = 8
NARROW = 4 * LANES  # channels of narrow weights come in multiples of this


def _groups(count: int) -> Iterator[slice]:
    """The blocks of each group, in order."""
    first, size = 0, GROUP
    while first < count:
        while size > count - first:
            size //= 2
        yield slice(first, first + size)
        first += size


def group_sizes(count: int) -> list[int]:
    """How many of `count` blocks each group has, in order."""
    return [part.stop - part.start for part in _groups(count)]


def pack_groups(w: np.ndarray) -> np.ndarray:
    """(O, K) of bytes -> (blocks * K4, 16, 4), where K4 = ceil(K / 4)."""
    packed = pack_quads(w)
    parts = [packed[part].swapaxes(0, 1).reshape(-1, LANES, QUAD) for part in _groups(len(packed))]
    return np.concatenate(parts)


def unpack_groups(packed: np.ndarray, o: int, k: int) -> np.ndarray:
    """The inverse of `pack_groups`: (O, K)."""
    quads = packed.reshape(blocks(o), -1, LANES, QUAD)
    apart = [quads[p].reshape(-1, p.stop - p.start, LANES, QUAD).swapaxes(0, 1) for p in _groups(len(quads))]
    return unpack_quads(np.concatenate(apart), o, k)


def pack_narrow(values: np.ndarray, bits: int) -> np.ndarray:
    """u8 (O, K) of values below 2**bits -> u8 (blocks * K4 * bits / 8, 16, 4)."""
    each = 8 // bits
    stream = pack_groups(fill(values, NARROW)).reshape(-1, each, LANES, QUAD)
    packed: np.ndarray = np.bitwise_or.reduce([stream[:, i] << np.uint8(bits * i) for i in range(each)])
    return packed


def unpack_narrow(packed: np.ndarray, bits: int, o: int, k: int) -> np.ndarray:
    """The inverse of `pack_narrow`."""
    parts = [packed >> np.uint8(bits * i) & np.uint8(2**bits - 1) for i in range(8 // bits)]
    stream = np.stack(parts, 1).reshape(-1, LANES, QUAD)
    return unpack_groups(stream, round_up(o, NARROW), k)[:o]


def pack_biases(w: np.ndarray, bias: np.ndarray, x_zero: int, step: int = LANES) -> np.ndarray:
    """s32 (2, P): the bias for sums of w * q, and for sums of w * (q - 128); filled up to a multiple of `step`."""
    return np.stack([fill(folded_bias(w, bias, zero), step) for zero in (x_zero, x_zero - 128)])


def weights_problem(w: np.ndarray, bias: np.ndarray, m: np.ndarray) -> str | None:
    """Why kernels cannot compute with these weights exactly; None when they can."""
    if w.min(initial=0) < -127:  # AVX2 changes the signs of weights
        return "a weight is -128, beyond the range of weights"
    return conversion_problem(w, bias, m)
