"""Arrays for samples of integer operators.

Random data alone once let a wrong rounding rule pass, so every family here contains all 256 codes, exact ties
(multipliers that are powers of two), both saturation ends, and lengths around each vector width.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.ops.operator import Sample

LENGTHS = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256)
TIE, SATURATE, FINE = 0.5, 4.0, 0.0078125 * 1.1


def codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """u8 codes that contain as many different ones as fit, ends included, in random order."""
    n = int(np.prod(shape))
    others = np.setdiff1d(np.arange(256), [0, 255, 128])
    chosen = np.resize(np.r_[0, 255, 128, rng.permutation(others)], n)
    return rng.permutation(chosen).astype(np.uint8).reshape(shape)


def weights(rng: np.random.Generator, shape: tuple[int, ...], high: int = 127) -> np.ndarray:
    """s8 weights in the narrow range -high..high."""
    return rng.integers(-high, high + 1, size=shape, dtype=np.int8)


def requantization(rng: np.random.Generator, channels: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """(bias s32, multiplier f32) for accumulators of about `reach`: ties, saturation and fine steps in turn."""
    bias = rng.integers(-int(reach), int(reach) + 1, size=channels, dtype=np.int32)
    fine = np.float32(100.0 / max(reach, 1.0)) * rng.uniform(0.3, 1.5, size=channels).astype(np.float32)
    ties = np.float32(2.0) ** np.floor(np.log2(fine)).astype(np.float32)
    kind = np.arange(channels) % 4
    return bias, np.where(kind == 1, ties, np.where(kind == 3, fine * np.float32(8), fine)).astype(np.float32)


def triples() -> np.ndarray:
    """u8 (3, 766): columns whose sums take every value 0..765."""
    return np.stack([(np.arange(766) + k) // 3 for k in range(3)]).astype(np.uint8)


def float32(value: float) -> float:
    """The Python float that is exactly float32(value), as attributes hold it."""
    return float(np.float32(value))


def _reach(taps: int) -> float:
    return 128.0 * 64.0 * float(np.sqrt(taps))


def conv_samples(op: Any) -> Iterator[Sample]:
    """Samples of q_conv2d: geometry, channel counts around vector widths, groups, clamps, residuals."""
    rng = np.random.default_rng(2)

    def sample(
        n: int = 1,
        size: tuple[int, int] = (5, 6),
        ic: int = 3,
        oc: int = 4,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (1, 1, 1, 1),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        zeros: tuple[int, int] = (128, 3),
        clamp: tuple[int, int] = (0, 255),
        residual: tuple[float, int] | None = None,
    ) -> Sample:
        x = codes(rng, (n, *size, ic))
        w = weights(rng, (oc, *kernel, ic // groups))
        bias, m = requantization(rng, oc, _reach(w[0].size))
        made = op(stride, padding, dilation, groups, *zeros, *clamp, *(residual or ()))
        inputs: tuple[np.ndarray, ...] = (x, w, bias, m)
        if residual is not None:
            y = made.integer_reference(*inputs)[0]
            inputs = (*inputs, codes(rng, y.shape))
        return Sample(made, inputs, constant=(1, 2, 3))

    yield sample()
    yield sample(size=(16, 16), ic=1, oc=1, kernel=(1, 1), padding=(0, 0, 0, 0), zeros=(0, 0))
    for ic in (1, 4, 8, 15, 16, 17, 32, 33, 64):
        yield sample(ic=ic, oc=5, size=(4, 3))
    for oc in (1, 2, 7, 8, 15, 16, 17, 33):
        yield sample(ic=4, oc=oc, size=(3, 4))
    for width in (1, 2, 7, 8, 9, 15, 16, 17):
        yield sample(ic=2, oc=3, size=(2, width), kernel=(3, 3))
    yield sample(n=2, stride=(2, 2), size=(7, 8), zeros=(0, 255))
    yield sample(stride=(2, 1), kernel=(5, 2), padding=(4, 1, 5, 2), dilation=(1, 2), size=(9, 9), zeros=(255, 0))
    yield sample(dilation=(2, 3), kernel=(3, 2), size=(9, 10), padding=(2, 0, 2, 3))
    yield sample(groups=2, ic=6, oc=4)
    yield sample(groups=3, ic=3, oc=6, kernel=(1, 1), padding=(0, 0, 0, 0))
    yield sample(ic=512, oc=3, size=(1, 1), kernel=(1, 1), padding=(0, 0, 0, 0))
    yield sample(ic=8, oc=8, clamp=(3, 255))
    yield sample(ic=8, oc=8, clamp=(20, 200), zeros=(7, 20))
    for residual_scale, zero in ((1.0, 128), (0.5, 0), (0.7310586, 255)):
        yield sample(ic=8, oc=17, residual=(float(np.float32(residual_scale)), zero), zeros=(9, 100))


def depthwise_samples(op: Any) -> Iterator[Sample]:
    """Samples of q_depthwise."""
    rng = np.random.default_rng(3)

    def sample(
        c: int,
        size: tuple[int, int] = (5, 6),
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (1, 1, 1, 1),
        dilation: tuple[int, int] = (1, 1),
        zeros: tuple[int, int] = (128, 3),
        clamp: tuple[int, int] = (0, 255),
        n: int = 1,
    ) -> Sample:
        w = weights(rng, (*kernel, c))
        bias, m = requantization(rng, c, _reach(kernel[0] * kernel[1]))
        made = op(stride, padding, dilation, *zeros, *clamp)
        return Sample(made, (codes(rng, (n, *size, c)), w, bias, m), constant=(1, 2, 3))

    for c in LENGTHS[:-2]:
        yield sample(c, size=(4, 3))
    yield sample(8, stride=(2, 2), size=(7, 8), padding=(0, 0, 1, 1), n=2)
    yield sample(6, stride=(1, 2), size=(7, 8))
    yield sample(130, size=(3, 3))
    yield sample(16, kernel=(10, 4), stride=(2, 2), size=(49, 10), padding=(4, 1, 5, 1), zeros=(0, 0))
    yield sample(3, kernel=(5, 5), padding=(2, 2, 2, 2), dilation=(1, 1), zeros=(255, 255))
    yield sample(5, kernel=(3, 2), dilation=(2, 3), size=(9, 10), padding=(2, 0, 2, 3), clamp=(3, 90))
    yield sample(9, kernel=(1, 1), padding=(0, 0, 0, 0), size=(16, 16))
