"""How weights of recurrent layers lie: 16 units are a block, and a block has the rows of all its gates.

The rows of w (G * H, K) come in the order [blocks][G][16], filled up with zeros, and pairs of blocks lie together, each
pair one stream of vectors, as groups do in `linear_packing`. An odd block comes last.
"""

from collections.abc import Iterator

import numpy as np

from penjing.vector.linear_packing import weights_problem
from penjing.vector.packing import LANES, QUAD, blocks, folded_bias, pack_quads, round_up, unpack_quads

PAIR = 2

Matrix = tuple[np.ndarray, np.ndarray, np.ndarray]  # weights s8 (G * H, K), bias s32 and multiplier f32 (G * H)


def by_block(rows: np.ndarray, gates: int) -> np.ndarray:
    """(G * H, ...), gate by gate -> (blocks * G * 16, ...), block by block."""
    apart = rows.reshape(gates, -1, *rows.shape[1:])
    units = apart.shape[1]
    filled = np.zeros((gates, blocks(units) * LANES, *rows.shape[1:]), rows.dtype)
    filled[:, :units] = apart
    moved = filled.reshape(gates, -1, LANES, *rows.shape[1:]).swapaxes(0, 1)
    return moved.reshape(-1, *rows.shape[1:])


def by_gate(rows: np.ndarray, gates: int, units: int) -> np.ndarray:
    """The inverse of `by_block`."""
    moved = rows.reshape(-1, gates, LANES, *rows.shape[1:]).swapaxes(0, 1)
    return moved.reshape(gates, -1, *rows.shape[1:])[:, :units].reshape(gates * units, *rows.shape[1:])


def pack_gates(w: np.ndarray, gates: int) -> np.ndarray:
    """s8 (G * H, K) -> (blocks * G * K4, 16, 4), where K4 = ceil(K / 4)."""
    packed = pack_quads(by_block(w, gates))
    return np.concatenate([packed[part].swapaxes(0, 1).reshape(-1, LANES, QUAD) for part in _pairs(len(packed), gates)])


def unpack_gates(packed: np.ndarray, gates: int, units: int, k: int) -> np.ndarray:
    """The inverse of `pack_gates`: (G * H, K)."""
    vectors = gates * blocks(units)
    quads = packed.reshape(vectors, -1, LANES, QUAD)
    apart = [
        quads[part].reshape(-1, part.stop - part.start, LANES, QUAD).swapaxes(0, 1) for part in _pairs(vectors, gates)
    ]
    return by_gate(unpack_quads(np.concatenate(apart), vectors * LANES, k), gates, units)


def pack_gate_biases(w: np.ndarray, bias: np.ndarray, zero: int, gates: int) -> np.ndarray:
    """s32 (2, blocks * G * 16): the bias for sums of w * q, and for sums of w * (q - 128)."""
    return np.stack([by_block(folded_bias(w, bias, centre), gates) for centre in (zero, zero - 128)])


def packed_matrix(matrix: Matrix, zero: int, gates: int) -> Matrix:
    """A matrix as kernels read it."""
    w, bias, m = matrix
    return pack_gates(w, gates), pack_gate_biases(w, bias, zero, gates), by_block(m, gates)


def packed_shapes(gates: int, units: int, k: int) -> tuple[tuple[int, ...], ...]:
    """What `packed_matrix` makes of a matrix (G * H, K)."""
    lanes = gates * blocks(units) * LANES
    return (lanes // LANES * round_up(k, QUAD) // QUAD, LANES, QUAD), (2, lanes), (lanes,)


def gates_problem(*matrices: Matrix) -> str | None:
    """Why kernels cannot compute with these matrices exactly; None when they can."""
    problems = (weights_problem(*matrix) for matrix in matrices)
    return next((problem for problem in problems if problem is not None), None)


def _pairs(vectors: int, gates: int) -> Iterator[slice]:
    for first in range(0, vectors, PAIR * gates):
        yield slice(first, min(first + PAIR * gates, vectors))
