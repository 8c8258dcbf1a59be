"""Sums start at the bits of 2^23 exactly where that is proven to give the same codes."""

import numpy as np
import pytest

from penjing.ops.conv2d import QConv2d
from penjing.ops.linear import QLinear
from penjing.ops.operator import Sample
from penjing.vector.conv2d import VConv2d
from penjing.vector.rectified import plain_bias, started_bias
from penjing.vector.sparse_blocks import VSparseBlocks

W = np.array([[127, -127, 3, 0]], np.int8)
MOST, LEAST = 255 * 130, -255 * 127
CODES = (0, 0, 255)


def started(bias=0, multiplier=0.01, codes=CODES, residual=False):
    given = np.array([bias], np.int32)
    return given, *started_bias(W, given, np.array([multiplier], np.float32), codes, residual=residual)


@pytest.mark.parametrize("bias", [0, 2**23 - 1 - MOST, -(2**30) - LEAST])
def test_the_bias_moves_to_the_bits_of_two_to_the_23(bias):
    given, made, rectified = started(bias)
    assert rectified
    assert made.dtype == np.int32
    assert (made - given).view(np.float32) == 2.0**23
    np.testing.assert_array_equal(plain_bias(made, rectified=True), given)


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": 2**23 - MOST},
        {"bias": -(2**30) - LEAST - 1},
        {"multiplier": -0.01},
        {"codes": (1, 0, 255)},
        {"codes": (0, 1, 255)},
        {"codes": (0, 0, 254)},
        {"residual": True},
    ],
)
def test_the_bias_stays_where_codes_could_differ(changes):
    given, made, rectified = started(**changes)
    assert not rectified
    np.testing.assert_array_equal(plain_bias(made, rectified=False), given)


@pytest.mark.parametrize("zero", [0, 5])
def test_convolutions_and_sparse_layers_ask_for_it(zero):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 4, 4, 8), dtype=np.uint8)
    rest = (np.full(16, 9, np.int32), np.full(16, 0.01, np.float32))
    conv = QConv2d((1, 1), (0, 0, 0, 0), (1, 1), 1, 3, zero, 0, 255)
    image = (x, rng.integers(-127, 128, (16, 1, 1, 8), dtype=np.int8), *rest)
    row = (x.reshape(1, -1), rng.integers(-127, 128, (16, 128), dtype=np.int8), *rest)
    for take, op, inputs in (
        (VConv2d.take, conv, image),
        (VSparseBlocks.take_however_slow, conv, image),
        (VSparseBlocks.take_however_slow, QLinear(3, zero, 0, 255), row),
    ):
        taken = take(op, Sample(op, inputs).types, [None, *inputs[1:]])
        assert taken.op.rectified is (zero == 0)
