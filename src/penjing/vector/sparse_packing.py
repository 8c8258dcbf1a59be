"""Lists of weights that are not zero, for blocks of 16 output channels, as one array of int32.

    blocks    first[blocks + 1], distance[entries], then from the next multiple of 64 bytes on s8 [entries][16][4]

A distance counts codes from the first code of an output pixel (`Staging.distances`). Four codes that lie side by side
make an entry; where they start is free, so that what is left of a row needs no entry of its own.
"""

import numpy as np

from penjing.vector.packing import LANES, QUAD, blocks, fill, round_up
from penjing.vector.sparse_staging import Staging

_INTS = 16  # int32 in 64 bytes


def by_distance(w: np.ndarray, staging: Staging) -> np.ndarray:
    """s8 (O, KH * KW * C) -> (blocks, 16, end): zero where there is no tap or no channel."""
    spread = np.zeros((blocks(len(w)) * LANES, max(staging.end, QUAD)), np.int8)
    spread[: len(w), staging.distances] = w
    return spread.reshape(-1, LANES, spread.shape[1])


def quad_starts(used: np.ndarray) -> list[int]:
    """Starts of the fewest stretches of 4 that cover every True of `used`; none reaches beyond its end."""
    starts: list[int] = []
    last = len(used) - QUAD
    covered = 0
    for at in np.flatnonzero(used):
        if at >= covered:
            starts.append(min(int(at), last))
            covered = starts[-1] + QUAD
    return starts


def pack_blocks(w: np.ndarray, staging: Staging) -> np.ndarray:
    """s32 lists of w s8 (O, KH * KW * C)."""
    spread = by_distance(w, staging)
    starts = [quad_starts(block.any(0)) for block in spread]
    first = np.cumsum([0, *map(len, starts)])
    entries = np.zeros((first[-1], LANES, QUAD), np.int8)
    for b, block_starts in enumerate(starts):
        covered = 0
        for e, at in enumerate(block_starts):
            fresh = max(at, covered)  # what the entry before has covered stays zero here
            entries[first[b] + e, :, fresh - at :] = spread[b, :, fresh : at + QUAD]
            covered = at + QUAD
    head = np.concatenate([first, *map(np.array, starts)]).astype("<i4")
    return np.concatenate([fill(head, _INTS), entries.reshape(-1).view("<i4")])


def unpack_blocks(lists: np.ndarray, outputs: int, staging: Staging) -> np.ndarray:
    """The inverse of `pack_blocks`: s8 (O, KH * KW * C)."""
    count = blocks(outputs)
    first = lists[: count + 1]
    starts = lists[count + 1 : count + 1 + first[-1]]
    entries = lists[round_up(count + 1 + first[-1], _INTS) :].astype("<i4").view(np.int8).reshape(-1, LANES, QUAD)
    spread = np.zeros((count, LANES, max(staging.end, QUAD)), np.int8)
    for b in range(count):
        for e in range(first[b], first[b + 1]):
            spread[b, :, starts[e] : starts[e] + QUAD] |= entries[e]  # of two entries there, one is zero
    return spread.reshape(count * LANES, -1)[:outputs, staging.distances]
