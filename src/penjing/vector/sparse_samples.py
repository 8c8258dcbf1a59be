"""Weights with zeros as pruning makes them, and samples of the sparse operators made of such weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from penjing.ops.conv2d import QConv2d
from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.linear import QLinear
from penjing.ops.operator import Sample
from penjing.ops.windows import Pads, Pair
from penjing.vector.conv2d_samples import conv2d_sample
from penjing.vector.operator import Take, taken_by

Prune = Callable[["np.random.Generator", np.ndarray], np.ndarray]


def pruned_blocks(outputs: int, inputs: int, zeros: float) -> Prune:
    """Zero in blocks of `outputs` x `inputs` channels, but for a share of 1 - zeros."""

    def prune(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
        grid = [-(-len(w) // outputs), *w.shape[1:-1], -(-w.shape[-1] // inputs)]
        keep = rng.permutation(np.arange(np.prod(grid)) >= zeros * np.prod(grid)).reshape(grid)
        whole = keep.repeat(outputs, 0).repeat(inputs, -1)
        return np.where(whole[: len(w), ..., : w.shape[-1]], w, 0).astype(np.int8)

    return prune


def pruned_n_of_m(n: int, m: int) -> Prune:
    """At most n of every m neighbouring input channels are not zero."""

    def prune(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
        order = rng.random((*w.shape[:-1], -(-w.shape[-1] // m), m)).argsort(-1)
        keep = (order < n).reshape(*w.shape[:-1], -1)
        return np.where(keep[..., : w.shape[-1]], w, 0).astype(np.int8)

    return prune


def pruned_anywhere(zeros: float) -> Prune:
    """Zero anywhere."""

    def prune(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
        return np.where(rng.random(w.shape) < zeros, 0, w).astype(np.int8)

    return prune


def _holes(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
    """Channels, taps and the ends of rows that are all zero, among others that are full."""
    w = np.where(w == 0, 1, w).astype(np.int8)
    w[::3] = 0
    w[..., : w.shape[-1] // 3] = 0
    w[1:2, ..., 0] = -127
    if len(w) > 16:
        w[16:32] = 0
    return w


def sparse_samples(take: Take, patterns: Sequence[Prune]) -> Iterator[Sample]:
    """Samples of convolutions with weights of `patterns`, around tiles, vectors, windows, bands and borders."""
    rng = np.random.default_rng(30)

    def sample(
        size: Pair,
        ic: int,
        oc: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pads = (0, 0, 0, 0),
        dilation: Pair = (1, 1),
        n: int = 1,
        zeros: Pair = (7, 128),
        clamp: Pair = (0, 255),
        residual: tuple[float, int] | None = None,
        prune: Prune | None = None,
    ) -> Iterator[Sample]:
        for pattern in [prune] if prune else patterns:
            x = codes(rng, (n, *size, ic))
            w = pattern(rng, weights(rng, (oc, *kernel, ic)))
            made = QConv2d(stride, padding, dilation, 1, *zeros, *clamp, *(residual or ()))
            products = max(1, np.count_nonzero(w) / oc)
            yield from taken_by(take, [conv2d_sample(rng, made, x, w, products)])

    same = (1, 1, 1, 1)
    for width in range(1, 36):
        yield from sample((1, width), 16, 16, prune=patterns[width % len(patterns)])
        size = (2 + width % 2, width)
        yield from sample(size, 16, 32, (3, 3), padding=same, prune=patterns[width % len(patterns)])
    for ic in (1, 2, 3, 5, 17, 24, 40, 63, 64, 65, 96, 130):
        yield from sample((3, 5), ic, 20, (3, 3), padding=same)
        yield from sample((2, 5), ic, 7, residual=(0.75, 3))
    for oc in (1, 15, 17, 31, 33, 48):
        yield from sample((2, 9), 48, oc, (1, 3), padding=(0, 1, 0, 1), residual=(1.25, 0), zeros=(255, 0))
    for pattern in (_holes, _nothing):
        yield from sample((4, 5), 20, 50, (3, 3), padding=same, residual=(0.5, 9), prune=pattern)
        yield from sample((1, 1), 150, 50, prune=pattern)
    yield from sample((9, 11), 32, 24, (3, 3), (2, 2), (0, 0, 1, 1), zeros=(0, 255), clamp=(4, 250), n=2)
    yield from sample((9, 10), 24, 16, (3, 2), (2, 1), (2, 0, 2, 3), (2, 3), zeros=(255, 0))
    yield from sample((9, 10), 20, 16, (3, 3), dilation=(1, 2), zeros=(128, 128))
    yield from sample((4, 7), 20, 21, (3, 3), padding=same, zeros=(3, 0))
    yield from sample((2, 9), 96, 33, zeros=(0, 0))
    yield from sample((40, 40), 16, 16, (3, 3), padding=same)  # several bands of rows
    yield from sample((2, 90), 96, 20, (3, 3), padding=same)  # several bands of columns
    yield from sample((4, 90), 96, 20, (3, 3))
    yield from sample((3, 300), 100, 5, n=2)
    yield from sample((5, 6), 16, 18, (1, 1), (2, 2), n=3)
    for rows in (1, 2, 3, 20):
        for inputs, outputs in ((5, 3), (64, 16), (200, 40), (1030, 17)):
            yield from _linear(take, rng, rows, inputs, outputs, patterns[(rows + outputs) % len(patterns)])


def _nothing(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
    return np.zeros_like(w)


def _linear(
    take: Take, rng: np.random.Generator, rows: int, inputs: int, outputs: int, prune: Prune
) -> Iterator[Sample]:
    w = prune(rng, weights(rng, (outputs, inputs)))
    bias, m = requantization(rng, outputs, 128.0 * 64.0 * float(np.sqrt(max(1, np.count_nonzero(w) / outputs))))
    yield from taken_by(
        take, [Sample(QLinear(3, 130, 2, 255), (codes(rng, (rows, inputs)), w, bias, m), constant=(1, 2, 3))]
    )


def _plain_samples(take: Take) -> Iterator[Sample]:
    """Those of the operators that are replaced: of convolutions, without groups."""
    convolutions = (one for one in QConv2d.samples() if isinstance(one.op, QConv2d) and one.op.groups == 1)
    yield from taken_by(take, convolutions)
    yield from taken_by(take, QLinear.samples())


def block_samples(take: Take) -> Iterator[Sample]:
    """Samples of the operator that leaves out blocks."""
    yield from _plain_samples(take)
    yield from sparse_samples(take, (pruned_blocks(16, 4, 0.75), pruned_blocks(8, 4, 0.8)))


def window_samples(take: Take) -> Iterator[Sample]:
    """Samples of the operator that lets channels pick from windows."""
    yield from _plain_samples(take)
    yield from sparse_samples(take, (pruned_n_of_m(4, 16), pruned_n_of_m(2, 16), pruned_anywhere(0.8)))
