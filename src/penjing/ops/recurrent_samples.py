"""Arrays for samples of recurrent layers, in floats and in integers."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.ops.integer_samples import codes, weights
from penjing.ops.operator import Sample


def float_sample(
    rng: np.random.Generator,
    op: Any,
    n: int,
    steps: int,
    features: int,
    units: int,
    *,
    width: int = 0,
    biases: bool = True,
    states: bool = False,
) -> Sample:
    """A sample of a recurrent layer of so many units; `width` of its hidden state if it is projected."""
    wide, rows = width or units, op.gates * units

    def normal(*shape: int, by: float = 1.0) -> np.ndarray:
        return (by * rng.normal(size=shape)).astype(np.float32)

    arrays: list[np.ndarray | None] = [normal(n, steps, features)]
    arrays += [normal(rows, features, by=features**-0.5), normal(rows, wide, by=wide**-0.5)]
    arrays += [normal(rows, by=0.3), normal(rows, by=0.3)] if biases else [None, None]
    cell = op.name == "lstm"
    if cell:
        arrays.append(normal(wide, units, by=units**-0.5) if width else None)
    known = tuple(i for i in range(1, len(arrays)) if arrays[i] is not None)
    if states:
        arrays += [np.tanh(normal(n, wide)), normal(n, units)][: 1 + cell]
    return Sample(op, tuple(arrays), constant=known)


def gate_sample(
    rng: np.random.Generator,
    gates: int,
    n: int,
    steps: int,
    features: int,
    units: int,
    width: int,
    zeros: tuple[int, int],
    reach: float,
) -> tuple[np.ndarray, ...]:
    """x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh: pre-activations of about +-`reach` units of 1/128."""
    rows = gates * units
    found: list[np.ndarray] = [codes(rng, (n, steps, features))]
    for columns, share in ((features, 0.7), (width, 0.5)):
        spread = 74.0 * 74.0 * columns**0.5
        m = np.float32(share * reach / spread) * rng.uniform(0.5, 1.5, rows).astype(np.float32)
        kind = np.arange(rows) % 3 == 1
        m[kind] = np.float32(2.0) ** np.floor(np.log2(m[kind]))  # sums that are ties
        bias = rng.integers(-int(spread), int(spread) + 1, rows).astype(np.int32)
        found += [weights(rng, (rows, columns)), bias, m.astype(np.float32)]
    return tuple(found)


def lstm_ties(op: Any, tables: tuple[np.ndarray, np.ndarray]) -> Iterator[Sample]:
    """Sums without weights, so that what is rounded is chosen: ties of the cell, of its tanh and of h; order of sums."""
    units = 512
    silent, zeros, ones = np.zeros((4 * units, 1), np.int8), np.zeros(4 * units, np.int32), np.ones(4 * units, np.float32)
    recurrent = np.zeros((4 * units, units), np.int8)
    x, h = np.arange(256, dtype=np.uint8).reshape(256, 1, 1)[:2], np.full((1, units), 128, np.uint8)
    # every gate is 1/2 and g is 0: c is halved, and every odd one is a tie; tanh rises by 32, so that o * t has ties too
    line = (32 * np.arange(-1024, 1024)).astype(np.int16)
    c = np.r_[-(2**15), 2**15 - 1, np.arange(-255, 255)].astype(np.int16).reshape(1, units)
    plain = (silent, zeros, ones, recurrent, zeros, ones)
    yield Sample(op(7, 128, False, False, True), (x, *plain, tables[0], line, h, c), constant=tuple(range(1, 9)))
    for forget in _near_ties():
        bias_ih, bias_hh, m_ih, m_hh = (np.zeros(4 * units, kind) for kind in (np.int32, np.int32, np.float32, np.float32))
        for array, value in zip((bias_ih, bias_hh, m_ih, m_hh), forget, strict=True):
            array[units : 2 * units] = value
        gates = (silent, bias_ih, m_ih, recurrent, bias_hh, m_hh)
        yield Sample(op(7, 128, False, False, True), (x, *gates, *tables, h, 64 * c), constant=tuple(range(1, 9)))


def _near_ties() -> tuple[tuple[int, int, float, float], ...]:
    """(acc_x, acc_h, m_x, m_h) whose float32 sum of products is a tie and that another order or precision takes off it.

    A sum in doubles keeps the small term; a fused multiply-add keeps the tail of 45 * 0.1.
    """
    return ((2001, 1, 0.5, 1e-5), (45, -4, 0.1, 1.0), (-4, 45, 1.0, 0.1))
