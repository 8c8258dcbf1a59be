"""Samples of fully connected layers around the sizes at which SIMD kernels change their way: groups, chains, rows."""

from collections.abc import Iterator

import numpy as np

from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.linear import QLinear
from penjing.ops.operator import Sample


def tile_samples() -> Iterator[Sample]:
    """Every group of blocks, rests of chains, channel tails, rows around a tile's, clamps and zero points."""
    rng = np.random.default_rng(21)

    def sample(rows: tuple[int, ...], k: int, outputs: int, zeros: tuple[int, int] = (7, 128), low: int = 0) -> Sample:
        bias, m = requantization(rng, outputs, 128.0 * 64.0 * k**0.5)
        arrays = (codes(rng, (*rows, k)), weights(rng, (outputs, k)), bias, m)
        return Sample(QLinear(*zeros, low, 255 - low), arrays, constant=(1, 2, 3))

    for outputs in (10, 16, 32, 47, 48, 64, 80, 112, 128, 129, 240, 241, 255, 272):
        yield sample((1,), 36, outputs)
        yield sample((3,), 20, outputs, (128, 3))
    for k in range(1, 35):
        yield sample((1,), k, 16 if k % 2 else 64)
        yield sample((1 + k % 5,), k, 40 if k % 2 else 24, (255, 0), k % 3)
    for rows in range(1, 9):
        yield sample((rows,), 12, 130, (0, 255), 5)
    yield sample((2, 3, 2), 8, 128)
    yield sample((1,), 640, 128, (128, 128))
    yield sample((1,), 128, 640, (3, 0))


def narrow_samples(values: np.ndarray) -> Iterator[Sample]:
    """Layers with all of `values` as weights: groups of 8 and 4 blocks, channel tails, rests of runs, long sums."""
    rng = np.random.default_rng(22)

    def sample(
        rows: tuple[int, ...], k: int, outputs: int, zeros: tuple[int, int] = (7, 128), extreme: bool = False
    ) -> Sample:
        w = rng.choice(values, (outputs, k)).astype(np.int8)
        x = codes(rng, (*rows, k))
        if extreme:  # the longest sums on both sides
            w[0::3], w[1::3], x = (
                values.min(),
                values.max(),
                np.where(x < 250, 255 * (zeros[0] < 128), x).astype(np.uint8),
            )
        bias, m = requantization(rng, outputs, 64.0 * float(np.abs(values).max()) * k**0.5)
        return Sample(QLinear(*zeros, 2, 250), (x, w, bias, m), constant=(1, 2, 3))

    for outputs in (64, 128, 192, 256, 65, 79, 100, 129, 160, 10):
        yield sample((1,), 36, outputs)
        yield sample((1,), 64, outputs, (128, 3), extreme=True)
    for k in (1, 2, 3, 4, 5, 28, 31, 32, 33, 35, 37, 60, 63, 65, 68, 100):
        yield sample((1,), k, 128 if k % 2 else 64, (255, 0))
    yield sample((3,), 48, 130, (0, 255))
    yield sample((2, 2), 10, 64)
    yield sample((1,), 640, 128, (0, 128), extreme=True)
