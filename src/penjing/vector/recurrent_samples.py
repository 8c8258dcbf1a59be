"""Samples of recurrent layers around the sizes at which SIMD kernels change their way: blocks, pairs, rows."""

from collections.abc import Iterator

import numpy as np

from penjing.ops.gru import QGru
from penjing.ops.lstm import QLstm
from penjing.ops.operator import Sample
from penjing.ops.recurrent import sigmoid_table, tanh_table
from penjing.ops.recurrent_samples import gate_sample
from penjing.ops.rnn import QRnn

_SIZES = ((26, 36, 20), (49, 5, 17), (3, 3, 48), (2, 8, 80))  # steps, features, units
_TABLES = (sigmoid_table(), tanh_table())


def lstm_samples() -> Iterator[Sample]:
    """Two and three pairs of blocks, an odd one, more steps than are read at once, wide projections."""
    rng = np.random.default_rng(79)
    for i, (steps, features, units) in enumerate(_SIZES):
        parts = gate_sample(rng, 4, 1 + i % 2, steps, features, units, units, 300.0)
        yield Sample(QLstm(7 * i, 128, i % 2 == 1, False, False), (*parts, *_TABLES), constant=tuple(range(1, 9)))
    for units, width in ((19, 35), (40, 21)):
        parts = gate_sample(rng, 4, 2, 5, 6, units, width, 300.0)
        w = rng.integers(-127, 128, (width, units)).astype(np.int8)
        m = rng.uniform(1e-4, 3e-4, width).astype(np.float32)
        yield Sample(QLstm(3, width, False, True, False), (*parts, *_TABLES, w, m), constant=tuple(range(1, 11)))


def gru_samples() -> Iterator[Sample]:
    """The same for layers that nothing projects; tables of any values, of which both ends are met."""
    rng = np.random.default_rng(80)
    for i, (steps, features, units) in enumerate(_SIZES):
        parts = gate_sample(rng, 3, 1 + i % 2, steps, features, units, units, 1500.0 if i == 2 else 300.0)
        tables = tuple(rng.integers(low, 2**15, 2048).astype(np.int16) for low in (0, -(2**15)))
        op = QGru(7 * i, i % 2 == 1, False)
        yield Sample(op, (*parts, *(tables if i == 2 else _TABLES)), constant=tuple(range(1, 9)))


def rnn_samples() -> Iterator[Sample]:
    """The same with one gate, rectified or not."""
    rng = np.random.default_rng(81)
    for i, (steps, features, units) in enumerate(_SIZES):
        rectified = i % 2 == 1
        parts = gate_sample(rng, 1, 1 + i % 2, steps, features, units, units, 150.0)
        table = () if rectified else _TABLES[1:]
        op = QRnn(7 * i, 5 if rectified else 128, i > 1, rectified, False)
        yield Sample(op, (*parts, *table), constant=tuple(range(1, 7 + len(table))))
