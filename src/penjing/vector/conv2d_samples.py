"""Samples of convolutions around the sizes at which SIMD kernels change their way: tiles, vectors, bands, pools."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from functools import partial

import numpy as np

from penjing.ops.conv2d import QConv2d
from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.operator import Sample
from penjing.ops.windows import Pads, Pair


def tile_samples() -> Iterator[Sample]:
    """Every tile width with one and with two vectors, channel tails, several bands, pointwise and strided windows."""
    rng = np.random.default_rng(20)
    sample = partial(_sample, rng)
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
    yield sample((4, 4), 8, 16, zeros=(7, 0), clamp=(9, 255), residual=(0.5, 3))
    yield sample((4, 4), 8, 16, zeros=(7, 0), clamp=(0, 200), residual=(0.5, 3))
    yield sample((1, 3), 8, 40, steep=4096.0)  # results far beyond 16 bits
    yield residual_ties(rng, 16)
    yield residual_ties(rng, 21)
    yield sample((9, 11), 8, 24, (3, 3), (2, 2), (0, 0, 1, 1), zeros=(0, 255), clamp=(4, 250))
    yield sample((6, 7), 12, 36, (3, 3), padding=(1, 1, 1, 1), groups=3)
    yield sample((8, 8), 64, 64, (3, 3), padding=(1, 1, 1, 1), residual=(1.25, 0), zeros=(0, 0), clamp=(0, 255))
    for oc in (5, 16, 24, 31, 32, 40, 63, 64):
        yield sample((2, 9), 12, oc, (1, 3), padding=(0, 1, 0, 1), zeros=(3, 0))
    yield from _long_sums(rng)


def pooled_samples() -> Iterator[tuple[Sample, Pair]]:
    """Convolutions, and the (rows, columns) of their output of which the largest is kept: windows that touch."""
    rng = np.random.default_rng(21)
    sample = partial(_sample, rng)
    same = (1, 1, 1, 1)
    for width in range(1, 27):
        yield sample((2, 2 * width), 4, 16 if width % 2 else 32), (2, 2)
        yield sample((4, 2 * width + width % 2), 8, 32 if width % 2 else 16, (3, 3), padding=same, zeros=(9, 0)), (2, 2)
    for oc in (3, 16, 24, 31, 40, 48, 63):
        yield sample((5, 9), 12, oc, (3, 3), padding=same), (2, 2)
        yield sample((6, 10), 6, oc, (1, 3), zeros=(3, 0)), (2, 2)
    for pool in ((3, 3), (1, 2), (2, 1), (4, 2), (2, 5), (1, 12), (3, 7)):
        yield sample((9, 39), 8, 20, (3, 3), padding=same), pool
        yield sample((8, 25), 4, 40, zeros=(3, 0)), pool
    yield sample((40, 41), 16, 16, (3, 3), padding=same, zeros=(0, 0)), (2, 2)  # several bands of rows
    yield sample((4, 180), 96, 20, (3, 3), padding=same), (2, 2)  # several bands of columns
    yield sample((5, 300), 96, 5, (1, 3)), (1, 3)
    yield sample((9, 11), 8, 24, (3, 3), (2, 2), (0, 0, 1, 1), zeros=(0, 255), clamp=(4, 250)), (2, 2)
    yield sample((12, 13), 8, 18, (3, 2), (2, 1), (1, 0, 1, 1), dilation=(1, 2)), (2, 3)
    yield sample((6, 7), 12, 36, (3, 3), padding=same, groups=3, zeros=(5, 0)), (2, 2)
    yield sample((6, 8), 3, 16, (3, 3), padding=same, n=3, zeros=(128, 20), clamp=(20, 200)), (2, 2)


def cut_samples() -> Iterator[Sample]:
    """For kernels that are told to cut rows and bands in another way: one block of channels, two, three."""
    rng = np.random.default_rng(21)
    for oc in (16, 32, 40):
        yield _sample(rng, (5, 9), 8, oc, (3, 3), padding=(1, 1, 1, 1), residual=(0.75, 3))


def _sample(
    rng: np.random.Generator,
    size: Pair,
    ic: int,
    oc: int,
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    zeros: Pair = (7, 128),
    clamp: Pair = (0, 255),
    residual: tuple[float, int] | None = None,
    steep: float = 1.0,
    n: int = 1,
) -> Sample:
    x = codes(rng, (n, *size, ic))
    w = weights(rng, (oc, *kernel, ic // groups))
    made = QConv2d(stride, padding, dilation, groups, *zeros, *clamp, *(residual or ()))
    return conv2d_sample(rng, made, x, w, products=w[0].size, steep=steep)


def conv2d_sample(
    rng: np.random.Generator, op: QConv2d, x: np.ndarray, w: np.ndarray, products: float, steep: float = 1.0
) -> Sample:
    """Sums of so many products fill the codes, `steep` times over; with a residual where `op` has a scale for it."""
    bias, m = requantization(rng, len(w), 128.0 * 64.0 * float(np.sqrt(products)))
    inputs: tuple[np.ndarray, ...] = (x, w, bias, m * np.float32(steep))
    if op.residual_scale:
        inputs = (*inputs, codes(rng, op.integer_reference(*inputs)[0].shape))
    return Sample(op, inputs, constant=(1, 2, 3))


def _long_sums(rng: np.random.Generator) -> Iterator[Sample]:
    """Sums up to the last below 2^23, beyond it, and far below zero, with codes that end at zero."""
    rectifier = QConv2d((1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 0, 0, 255)
    x = rng.integers(0, 256, (1, 4, 5, 259), dtype=np.uint8)
    x[0, 0] = 255
    w = np.full((16, 1, 1, 259), 127, np.int8)
    m = np.full(16, 2.0**-15.5, np.float32)
    largest = 127 * 255 * 259
    for most in (2**23 - 1, 2**23, 2**23 + 100_001, 2**23 + 1_000_001):
        bias = np.full(16, most - largest, np.int32) - np.arange(16, dtype=np.int32) * (most % 3)
        yield Sample(rectifier, (x, w, bias, m), (1, 2, 3))
    for least in (-(2**30), -(2**30) - 1):
        yield Sample(rectifier, (x, -w, np.full(16, least + largest, np.int32), m), (1, 2, 3))


def residual_ties(rng: np.random.Generator, oc: int) -> Sample:
    """Sums that are ties when both products are rounded, and none when one of them keeps its tail."""
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)
    w, bias, m = np.ones((oc, 1, 1, 1), np.int8), np.zeros(oc, np.int32), np.full(oc, 0.5, np.float32)
    residual = (100 + 10 * rng.integers(-10, 16, (1, 1, 256, oc))).astype(np.uint8)  # times 0.3: nearly an integer
    return Sample(
        QConv2d((1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 60, 0, 255, 0.3, 100), (x, w, bias, m, residual), (1, 2, 3)
    )
