"""Recurrent layers take their SIMD kernels, unless these could not compute with their weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.ops import integer_operators
from penjing.vector.packing import unfolded_bias
from penjing.vector.recurrent_packing import by_gate, pack_gates, packed_matrix, packed_shapes, unpack_gates
from penjing.vector.specialise import choose

NAMES = ("lstm", "gru", "rnn")


def first_sample(name):
    sample = next(iter(integer_operators()[f"q_{name}"].samples()))
    return sample, [x.copy() if i in sample.constant else None for i, x in enumerate(sample.inputs)]


@given(st.integers(1, 4), st.integers(1, 70), st.integers(1, 20), st.integers(0, 255), st.randoms())
def test_a_packed_matrix_is_the_matrix(gates, units, k, zero, random):
    rng = np.random.default_rng(random.randrange(2**32))
    w = rng.integers(-127, 128, (gates * units, k)).astype(np.int8)
    bias = rng.integers(-(2**20), 2**20, gates * units).astype(np.int32)
    m = rng.uniform(0.0, 1.0, gates * units).astype(np.float32)
    packed, biases, factors = packed_matrix((w, bias, m), zero, gates)
    assert (packed.shape, biases.shape, factors.shape) == packed_shapes(gates, units, k)
    np.testing.assert_array_equal(unpack_gates(packed, gates, units, k), w)
    for centre, row in zip((zero, zero - 128), biases, strict=True):
        np.testing.assert_array_equal(unfolded_bias(w, by_gate(row, gates, units), centre), bias)
    np.testing.assert_array_equal(by_gate(factors, gates, units), m)


def test_gates_of_a_block_lie_side_by_side_and_blocks_in_pairs():
    w = np.arange(3 * 48, dtype=np.int8).reshape(-1, 1)  # 3 gates of 48 units: a pair of blocks and one
    firsts = pack_gates(w, 3)[:, :, 0]
    rows = [w[gate * 48 + 16 * block : gate * 48 + 16 * (block + 1), 0] for block in range(3) for gate in range(3)]
    np.testing.assert_array_equal(firsts, rows)


@pytest.mark.parametrize("name", NAMES)
def test_layers_take_the_simd_kernel(name):
    sample, constants = first_sample(name)
    taken, reasons = choose(sample.op, sample.types, constants)
    assert taken is not None
    assert (taken.op.name, reasons) == (f"v_{name}", [])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("position", [1, 4])
def test_a_weight_of_minus_128_keeps_the_plain_kernel(name, position):
    sample, constants = first_sample(name)
    constants[position][0, 0] = -128
    taken, reasons = choose(sample.op, sample.types, constants)
    assert taken is None
    assert "a weight is -128" in reasons[0]


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_no_constants_keep_the_plain_kernel(name):
    sample, constants = first_sample(name)
    constants[4] = None
    taken, reasons = choose(sample.op, sample.types, constants)
    assert taken is None
    assert reasons == [f"not v_{name}: its weights are not constants of the program"]


def test_a_projection_of_minus_128_keeps_the_plain_kernel():
    sample = next(s for s in integer_operators()["q_lstm"].samples() if s.op.projected)
    constants = [x.copy() if i in sample.constant else None for i, x in enumerate(sample.inputs)]
    assert choose(sample.op, sample.types, constants)[0] is not None
    constants[9][0, 0] = -128
    assert choose(sample.op, sample.types, constants)[0] is None
