"""Weights in the order of SIMD kernels, and the bounds that say whether a kernel may compute with them."""

import numpy as np
import pytest

from penjing.vector.packing import accumulator_bound_per_channel, folded_bias, pack_quads, unpack_quads


@pytest.mark.parametrize("shape", [(16, 4), (1, 1), (17, 5), (32, 3, 8), (5, 2, 3, 7), (48, 1, 16)], ids=str)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_every_weight_lies_in_its_block_lane_and_quad(shape, dtype):
    w = np.random.default_rng(1).integers(1, 127, shape).astype(dtype)
    packed = pack_quads(w)
    outputs, *middle, inputs = shape
    assert packed.shape == (-(-outputs // 16), *middle, -(-inputs // 4), 16, 4)
    for index in np.ndindex(shape):
        o, *between, c = index
        assert packed[(o // 16, *between, c // 4, o % 16, c % 4)] == w[index]
    assert np.count_nonzero(packed) == w.size  # what is filled up is zero
    np.testing.assert_array_equal(unpack_quads(packed, outputs, inputs), w)


def test_weights_may_lie_anyhow_in_memory():
    w = np.random.default_rng(2).integers(-127, 128, (8, 32)).astype(np.int8)
    np.testing.assert_array_equal(pack_quads(w.T), pack_quads(np.ascontiguousarray(w.T)))


def test_the_largest_sum_counts_the_code_255_and_the_weight_minus_128():
    w = np.array([[-128, -128, 0], [127, -127, 1], [0, 0, 0]], np.int8)
    bias = np.array([-5, 7, 0], np.int32)
    np.testing.assert_array_equal(accumulator_bound_per_channel(w, bias), [256 * 255 + 5, 255 * 255 + 7, 0])


def test_a_folded_bias_counts_the_zero_point_once_for_each_weight():
    w = np.full((2, 3000), 127, np.int8)
    w[1] = -128
    got = folded_bias(w, np.array([1, 2], np.int32), 255)
    np.testing.assert_array_equal(got, [1 - 255 * 127 * 3000, 2 + 255 * 128 * 3000])
