"""Which depthwise kernel stands where: the special ones before the one that takes every window."""

import numpy as np
import pytest

from penjing.ops.depthwise import QDepthwise
from penjing.ops.operator import Sample
from penjing.vector.specialise import choose


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "chosen"),
    [
        (64, (3, 3), (1, 1), "v_depthwise"),
        (64, (3, 3), (2, 2), "v_depthwise"),
        (8, (3, 3), (1, 1), "v_depthwise_few"),
        (8, (3, 3), (2, 2), "v_depthwise_any"),
        (64, (5, 5), (1, 1), "v_depthwise_any"),
    ],
)
def test_the_most_special_kernel_is_chosen(channels, kernel, stride, chosen):
    pads = tuple(k // 2 for k in kernel) * 2
    op = QDepthwise(stride, pads, (1, 1), 3, 0, 0, 255)
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (*kernel, channels), dtype=np.int8)
    inputs = (
        np.zeros((1, 9, 9, channels), np.uint8),
        w,
        np.zeros(channels, np.int32),
        np.full(channels, 0.01, np.float32),
    )
    taken, _ = choose(op, Sample(op, inputs).types, [None, *inputs[1:]])
    assert taken is not None and taken.op.name == chosen
