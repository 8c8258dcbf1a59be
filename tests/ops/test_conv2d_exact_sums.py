"""The interpreter's convolution chooses a float type for speed; its sums stay exact on both sides of the choice."""

import numpy as np
import pytest

from penjing.ops.conv2d import QConv2d, exact_dtype

LAST_IN_FLOAT32 = 2**24 // (127 * 255)  # channels of full weights


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.float32), (LAST_IN_FLOAT32, np.float32), (LAST_IN_FLOAT32 + 1, np.float64)]
)
def test_float32_is_chosen_up_to_the_last_integer_that_it_holds(channels, dtype):
    w = np.full((2, 1, 1, channels), -127, np.int8)
    assert exact_dtype(w) is dtype


@pytest.mark.parametrize("channels", [LAST_IN_FLOAT32, LAST_IN_FLOAT32 + 1, 4 * LAST_IN_FLOAT32 + 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact_to_the_last_bit(channels, sign):
    rng = np.random.default_rng(0)
    x = rng.integers(240, 256, (1, 4, 4, channels)).astype(np.uint8)
    x[0, 0, 0] = 255
    w = np.full((3, 1, 1, channels), 127 * sign, np.int8)
    w[1, ..., 0] = 1
    sums = x.reshape(16, channels).astype(np.int64) @ w.reshape(3, channels).T.astype(np.int64)
    for pixel in range(16):
        bias = -sums[pixel].astype(np.int32)  # what is left of this pixel's sums shows their last bits
        op = QConv2d((1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 128, 0, 255)
        (y,) = op.integer_reference(x, w, bias, np.ones(3, np.float32))
        want = np.clip(sums - sums[pixel] + 128, 0, 255)
        np.testing.assert_array_equal(y.reshape(16, 3), want)
