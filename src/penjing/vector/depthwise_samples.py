"""Samples of depthwise convolutions around the sizes at which their SIMD kernels change their way."""

from collections.abc import Iterator

import numpy as np

from penjing.ops.depthwise import QDepthwise
from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.operator import Sample
from penjing.ops.windows import Pads, Pair


class _Make:
    """Samples in one random order."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(
        self,
        c: int,
        size: Pair = (5, 7),
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        padding: Pads = (1, 1, 1, 1),
        dilation: Pair = (1, 1),
        zeros: Pair = (7, 0),
        clamp: Pair = (0, 255),
        n: int = 1,
    ) -> Sample:
        w = weights(self._rng, (*kernel, c))
        bias, m = requantization(self._rng, c, 128.0 * 64.0 * float(np.sqrt(kernel[0] * kernel[1])))
        made = QDepthwise(stride, padding, dilation, *zeros, *clamp)
        return Sample(made, (codes(self._rng, (n, *size, c)), w, bias, m), constant=(1, 2, 3))


def small_window_samples(channels: tuple[int, ...], few: tuple[int, ...]) -> Iterator[Sample]:
    """Every kind of last block, every width of a last tile, both finishing rules, several bands, one to three rows.

    Args:
        channels: once with each.
        few: where one count for each kind of block does.
    """
    sample = _Make(30)
    for c in channels:
        for stride in ((1, 1), (2, 2)):
            yield sample(c, stride=stride)
            yield sample(c, (6, 8), stride=stride, zeros=(255, 131), clamp=(9, 240), n=2)
    for c in few:
        for width in range(1, 10):
            yield sample(c, (1 + width % 3, width))
            yield sample(c, (1 + width % 4, width), stride=(2, 2), padding=(0, 0, 2, 2))
            yield sample(c, (2, width), (1 + width % 2, 3), stride=(1, 2), padding=(0, 1, 1, 1))
            yield sample(c, (3, width), (1 + width % 2, 3), padding=(0, 1, 1, 1))
        yield sample(c, (2, 3), padding=(4, 5, 4, 6))  # windows that lie in the padding altogether
        yield sample(c, (2, 3), stride=(1, 2), padding=(4, 5, 4, 6), dilation=(2, 1))
        yield sample(c, (9, 6), stride=(3, 2), dilation=(2, 1))
        yield sample(c, (7, 5), padding=(0, 0, 0, 0), zeros=(0, 4))
        yield _ramp(c, (1, 1))
        yield _ramp(c, (2, 2))
    yield sample(few[-1], (13, 300))  # several bands
    yield sample(few[-1] + 1, (90, 50), n=2)
    yield sample(few[-1], (25, 300), stride=(2, 2), padding=(0, 0, 1, 1))


def window_samples() -> Iterator[Sample]:
    """Other windows: more rows and columns, strides and dilations that do and do not divide one another."""
    sample = _Make(31)
    for c in (3, 8, 12, 16, 20, 32):
        yield sample(c)
        yield sample(c, (9, 11), (5, 5), padding=(2, 2, 2, 2))
        yield sample(c, (9, 12), (5, 5), (2, 2), padding=(2, 2, 2, 2), zeros=(3, 4), n=2)
        yield sample(c, (17, 13), (9, 7), (3, 3), padding=(4, 3, 4, 3))
        yield sample(c, (10, 14), dilation=(2, 3), padding=(2, 3, 2, 3))
        yield sample(c, (10, 21), (2, 4), (2, 3), padding=(1, 5, 1, 5), dilation=(3, 5))
        yield sample(c, (1, 33), (1, 9), padding=(0, 4, 0, 4), clamp=(9, 240))
        yield sample(c, (33, 1), (9, 1), padding=(4, 0, 4, 0))
        yield sample(c, (2, 3), (2, 2), (1, 3), padding=(4, 7, 4, 6))
    for width in range(1, 18):
        yield sample(8 if width % 2 else 16, (2, width), (4, 2), padding=(1, 0, 2, 1))


def _ramp(c: int, stride: Pair) -> Sample:
    """Sums below zero, around it and around the last code, in half steps: ties and clamps by both finishing rules."""
    x = np.zeros((1, 33, 33, c), np.uint8)
    seen = x[:, :: stride[0], :: stride[1]]
    seen[...] = np.arange(seen.size, dtype=np.int64).reshape(seen.shape) // c
    w = np.zeros((3, 3, c), np.int8)
    w[0, 0] = np.where(np.arange(c) % 3 == 2, -1, 1)
    bias = np.resize(np.array([-128, 3, 200, 260], np.int32), c)
    m = np.where(np.arange(c) % 8 < 5, 0.5, 1.5).astype(np.float32)
    made = QDepthwise(stride, (0, 0, 2, 2), (1, 1), 0, 0, 0, 255)
    return Sample(made, (x, w, bias, m), constant=(1, 2, 3))
