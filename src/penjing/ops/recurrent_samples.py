"""Arrays for samples of recurrent layers, in floats and in integers."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Callable, Iterator, Mapping
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
        # within the range of y, in whose codes it is held
        arrays += [np.float32(0.2) * np.tanh(normal(n, wide)), normal(n, units)][: 1 + cell]
    return Sample(op, tuple(arrays), constant=known)


def both_ways(rng: np.random.Generator, op: Callable[[bool], Any]) -> Iterator[Sample]:
    """Samples of op(reverse), forward and backward, bare and with all that may be absent."""
    for reverse, (n, steps, features, units) in (
        (False, (2, 5, 3, 4)),
        (True, (1, 7, 5, 3)),
        (False, (3, 1, 1, 1)),
    ):
        yield float_sample(rng, op(reverse), n, steps, features, units)
        yield float_sample(rng, op(reverse), n, steps, features, units, biases=False, states=True)


def gate_sample(
    rng: np.random.Generator,
    gates: int,
    n: int,
    steps: int,
    features: int,
    units: int,
    width: int,
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
    """Sums without weights, so that what is rounded is chosen: ties of the cell, its tanh and h; order of sums."""
    units = 256
    h = np.full((1, units), 128, np.uint8)
    c = np.r_[-(2**15), 2**15 - 1, 33 * np.arange(-127, 127)].astype(np.int16).reshape(1, units)
    # every gate is 1/2 and g is 0: c is halved, and odd ones are ties; tanh rises by 32, so that o * t has ties too
    yield _silent(op(7, 128, False, False, True), 4, units, {}, (tables[0], _LINE, h, c))
    # i * g is -5, which is less than 0 once it is shifted: the ties of c go down
    fives, less = tables[0].copy(), _LINE.copy()
    fives[1024 - 8], less[1024] = 5, -1
    yield _silent(op(7, 128, False, False, True), 4, units, {0: (-8, 0, 1.0, 1.0)}, (fives, less, h, c))
    for chosen in _NEAR_TIES:
        yield _silent(op(7, 128, False, False, True), 4, 8, {1: chosen}, (*tables, h[:, :8], 64 * c[:, :8]))


def gru_ties(op: Any, tables: tuple[np.ndarray, np.ndarray]) -> Iterator[Sample]:
    """The same for h, of which every gate halves the last: odd ones are ties, of 16 bits and of codes."""
    ends = np.array([[2**15 - 1, -(2**15)]], np.int16)
    h = np.r_[-(2**15), 2**15 - 1, np.arange(-99, 99), np.arange(-(2**15), 2**15, 256) + 1, 32512, 32511, 32513]
    yield _silent(op(7, False, True), 3, len(h), {}, (*tables, h.astype(np.int16).reshape(1, -1)))
    for chosen in _NEAR_TIES:
        for gate in range(3):
            yield _silent(op(7, False, True), 3, 2, {gate: chosen}, (*tables, ends))
    # n's argument: a product with r, rounded before it is added, not after
    chosen_r, chosen_n = (-125, 0, 1.0, 1.0), (-621, 7573, 1.0, 0.3)
    yield _silent(op(7, False, True), 3, 2, {0: chosen_r, 2: chosen_n}, (*tables, ends))


def rnn_ties(op: Any, tanh: np.ndarray) -> Iterator[Sample]:
    """The same for a plain layer, rectified or not."""
    h = np.full((1, 2), 128, np.uint8)
    for chosen in _NEAR_TIES:
        yield _silent(op(7, 128, False, False, True), 1, 2, {0: chosen}, (_LINE, h))
        yield _silent(op(7, 0, False, True, True), 1, 2, {0: chosen}, (h,))
    # units for entries all along the table: codes of its values, ties among them
    bias = np.r_[-1030, -1025, -1024, np.arange(-1020, 1020, 4), 1023, 1024, 1030]
    for table in (tanh, _LINE, np.flip(_LINE)):
        h = np.full((1, len(bias)), 128, np.uint8)
        yield _silent(op(7, 128, False, False, True), 1, len(bias), {0: (bias, 0, 1.0, 1.0)}, (table, h))


_LINE = (32 * np.arange(-1024, 1024)).astype(np.int16)

# (acc_x, acc_h, m_x, m_h[, w_ih]) whose sum is a tie in float32, from which another order or precision takes it off: a
# sum in doubles keeps the small term; a fused multiply-add keeps the tail of 45 * 0.1; 2^24 + 1, of which 248 come from
# x, is one less in float32
_NEAR_TIES: tuple[tuple[Any, ...], ...] = (
    (2001, 1, 0.5, 1e-5),
    (45, -4, 0.1, 1.0),
    (-4, 45, 1.0, 0.1),
    (2**24 + 1 - 248, 0, 100.5 * 2.0**-24, 1.0, 1),
)


def _silent(
    op: Any, gates: int, units: int, chosen: Mapping[int, tuple[Any, ...]], rest: tuple[np.ndarray, ...]
) -> Sample:
    """A layer of one step whose weights are zero, on two samples, with `chosen` numbers for some gates.

    They are bias_ih, bias_hh, m_ih and m_hh, and w_ih where it is not 0 either.
    """
    rows = gates * units
    bias_ih, bias_hh = np.zeros((2, rows), np.int32)
    m_ih, m_hh = np.ones((2, rows), np.float32)
    w_ih, w_hh = np.zeros((rows, 1), np.int8), np.zeros((rows, units), np.int8)
    for gate, values in chosen.items():
        columns: tuple[np.ndarray, ...] = (bias_ih, bias_hh, m_ih, m_hh, w_ih[:, 0])
        for array, value in zip(columns, values, strict=False):
            array[gate * units : (gate + 1) * units] = value
    x = np.array([0, 255], np.uint8).reshape(2, 1, 1)
    inputs: tuple[np.ndarray, ...] = (x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh, *rest)
    tables = sum(array.shape == (2048,) for array in rest)
    return Sample(op, inputs, constant=tuple(range(1, 7 + tables)))
