"""Samples of convolutions around the sizes at which SIMD kernels change their way: tiles, vectors, bands."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator

import numpy as np

from penjing.ops.conv2d import QConv2d
from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.operator import Sample
from penjing.ops.windows import Pads, Pair


def tile_samples() -> Iterator[Sample]:
    """Every tile width with one and with two vectors, channel tails, several bands, pointwise and strided windows."""
    rng = np.random.default_rng(20)

    def sample(
        size: Pair,
        ic: int,
        oc: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pads = (0, 0, 0, 0),
        groups: int = 1,
        zeros: Pair = (7, 128),
        clamp: Pair = (0, 255),
        residual: tuple[float, int] | None = None,
        steep: float = 1.0,
    ) -> Sample:
        x = codes(rng, (1, *size, ic))
        w = weights(rng, (oc, *kernel, ic // groups))
        bias, m = requantization(rng, oc, 128.0 * 64.0 * float(np.sqrt(w[0].size)))
        made = QConv2d(stride, padding, (1, 1), groups, *zeros, *clamp, *(residual or ()))
        inputs: tuple[np.ndarray, ...] = (x, w, bias, m * np.float32(steep))
        if residual is not None:
            inputs = (*inputs, codes(rng, made.integer_reference(*inputs)[0].shape))
        return Sample(made, inputs, constant=(1, 2, 3))

    for width in range(1, 26):
        yield sample((1, width), 4, 16 if width % 2 else 32)
        yield sample((2, width), 8, 32 if width % 2 else 16, (3, 3), padding=(1, 1, 1, 1))
    for oc in (24, 31, 32, 40, 48, 49, 63, 64):
        yield sample((2, 9), 12, oc, (1, 3), padding=(0, 1, 0, 1), residual=(0.75, 3))
    yield sample((40, 40), 16, 16, (3, 3), padding=(1, 1, 1, 1))  # several bands of rows
    yield sample((2, 90), 96, 20, (3, 3), padding=(1, 1, 1, 1))  # several bands of columns
    yield sample((3, 300), 100, 5)
    yield sample((5, 300), 96, 5, (1, 3), (2, 1))  # the same with another stride across
    yield sample((4, 4), 8, 16, zeros=(7, 0), clamp=(9, 255))
    yield sample((4, 4), 8, 16, zeros=(7, 0), clamp=(0, 200))
    yield sample((1, 3), 8, 40, steep=4096.0)  # results far beyond 16 bits
    yield residual_ties(rng, 16)
    yield residual_ties(rng, 21)
    yield sample((9, 11), 8, 24, (3, 3), (2, 2), (0, 0, 1, 1), zeros=(0, 255), clamp=(4, 250))
    yield sample((6, 7), 12, 36, (3, 3), padding=(1, 1, 1, 1), groups=3)
    yield sample((8, 8), 64, 64, (3, 3), padding=(1, 1, 1, 1), residual=(1.25, 0), zeros=(0, 0), clamp=(0, 255))


def residual_ties(rng: np.random.Generator, oc: int) -> Sample:
    """Sums that are ties when both products are rounded, and none when one of them keeps its tail."""
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)
    w, bias, m = np.ones((oc, 1, 1, 1), np.int8), np.zeros(oc, np.int32), np.full(oc, 0.5, np.float32)
    residual = (100 + 10 * rng.integers(-10, 16, (1, 1, 256, oc))).astype(np.uint8)  # times 0.3: nearly an integer
    return Sample(
        QConv2d((1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 60, 0, 255, 0.3, 100), (x, w, bias, m, residual), (1, 2, 3)
    )
