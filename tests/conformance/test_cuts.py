"""However a convolution is cut into tiles and bands, its bytes are the same."""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penjing.ops.conv2d import QConv2d
from penjing.ops.operator import Sample
from penjing.testing.isas import runnable_isas
from penjing.testing.op_suite import op_case, run_op_cases
from penjing.toolchain import host_target
from penjing.vector.bands import MOST_PIXELS
from penjing.vector.conv2d import VConv2d

# (height, width, channels in, out, kernel, stride, groups): borders, tails of channels, pointwise, strided, grouped
SHAPES = ((6, 13, 5, 40, 3, 1, 1), (9, 8, 16, 32, 3, 2, 1), (5, 11, 12, 24, 1, 1, 1), (7, 7, 8, 64, 5, 1, 2))


def sample(shape: tuple[int, ...], tile: tuple[int, int, float, float]) -> Sample:
    height, width, ic, oc, k, stride, groups = shape
    rng = np.random.default_rng(sum(shape))
    pad = k // 2
    op = QConv2d((stride, stride), (pad, pad, pad, pad), (1, 1), groups, 7, 3, 0, 255)
    w = rng.integers(-127, 128, (oc, k, k, ic // groups), dtype=np.int8)
    bias = rng.integers(-9999, 9999, oc, dtype=np.int32)
    multiplier = rng.uniform(0.001, 0.01, oc).astype(np.float32)
    x = rng.integers(0, 256, (1, height, width, ic), dtype=np.uint8)
    (taken,) = VConv2d.taken(iter([Sample(op, (x, w, bias, multiplier), constant=(1, 2, 3))]))
    one, two, *shares = tile
    band = tuple(max(1, round(share * extent)) for share, extent in zip(shares, taken.op.band, strict=True))
    return replace(taken, op=replace(taken.op, pixels=(one, two), band=band))


tiles = st.tuples(st.integers(1, MOST_PIXELS[0]), st.integers(0, MOST_PIXELS[1]), st.floats(0, 1), st.floats(0, 1))


@given(chosen=st.lists(st.tuples(st.sampled_from(SHAPES), tiles), min_size=8, max_size=24))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_cut_gives_the_bytes_of_the_definition(chosen):
    host = host_target()
    cases = [op_case(VConv2d.name, i, sample(shape, tile)) for i, (shape, tile) in enumerate(chosen)]
    for isa in runnable_isas(host):
        assert run_op_cases(cases, host, isa=isa, optimize="-O1") == []
