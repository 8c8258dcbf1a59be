"""The second oracle: ONNX Runtime computes the same bytes from the same integers.

Its QLinear operators requantize as penjing defines it, by one float32 multiplication and rounding to nearest even, and
were written by other people. Each case is a model of one node, run on one thread without any graph optimisation.

Weights are handed over in two ways. As u8 with zero point 128 they have the full range -127..127: w - 128 is the same
integer. As s8 they stay within -64..64, because ONNX Runtime multiplies u8 by s8 with `vpmaddubsw` on x86 CPUs that
have no VNNI, and that instruction saturates sums of two products at 16 bits: 2 * 255 * 64 is the most that fits. (With
s8 weights of the full range it returned other codes than its own u8 path in about a fifth of the outputs on an AVX2
machine. That is a known limitation of that path, and none of penjing's.)

Not compared, because their formulas differ from ours by a rounding: QLinearAdd and QLinearMul fold the zero points into
one float sum, and QLinearGlobalAveragePool divides before it multiplies, which is the same only for counts that are
powers of two. QLinearAveragePool and QLinearSoftmax compute in floats.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.arithmetic import dequantize, multiplier, quantize, ratio
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import run_passes
from penjing.ops.conv2d import QConv2d
from penjing.ops.depthwise import QDepthwise
from penjing.ops.linear import QLinear
from penjing.ops.mean import QMean
from penjing.ops.pool2d import QMaxPool2d
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import batches, edge_cnn

onnx = pytest.importorskip("onnx", reason="the second oracle needs onnx and onnxruntime")
ort = pytest.importorskip("onnxruntime", reason="the second oracle needs onnx and onnxruntime")

ZEROS = [0, 1, 127, 128, 254, 255]
REDUCED, FULL = 64, 127
TYPES = {
    np.dtype(np.uint8): onnx.TensorProto.UINT8,
    np.dtype(np.int8): onnx.TensorProto.INT8,
    np.dtype(np.float32): onnx.TensorProto.FLOAT,
}


def run_node(op: str, operands: list[tuple[str, np.ndarray]], output, **attributes):
    """What ONNX Runtime makes of one node with input `x`; all other operands are constants."""
    (x,) = [array for name, array in operands if name == "x"]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in operands if name != "x"]
    node = onnx.helper.make_node(op, [name for name, _ in operands], ["y"], **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("x", TYPES[x.dtype], x.shape)],
        [onnx.helper.make_tensor_value_info("y", TYPES[np.dtype(output)], None)],
        constants,
    )
    domains = [onnx.helper.make_opsetid("", 19), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operand(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights, their zero point) of the type that ONNX Runtime multiplies exactly."""
    if np.abs(w.astype(int)).max(initial=0) <= REDUCED:
        return w, np.int8(0)
    return (w.astype(np.int16) + 128).astype(np.uint8), np.uint8(128)


def ort_conv(x, w, bias, scales, zeros, geometry):
    """QLinearConv of x (N, H, W, C) with w (O, KH, KW, C / groups); scales and zeros are (x, [w,] y)."""
    (x_scale, w_scale, y_scale), (x_zero, y_zero) = scales, zeros
    stride, pads, dilation, groups = geometry
    weight, w_zero = operand(w)
    operands = [
        ("x", np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
        ("x_scale", np.float32(x_scale)),
        ("x_zero", np.uint8(x_zero)),
        ("w", np.ascontiguousarray(weight.transpose(0, 3, 1, 2))),
        ("w_scale", w_scale.astype(np.float32)),
        ("w_zero", np.full(w_scale.shape, w_zero)),
        ("y_scale", np.float32(y_scale)),
        ("y_zero", np.uint8(y_zero)),
        ("bias", bias.astype(np.int32)),
    ]
    window = {"strides": stride, "pads": pads, "dilations": dilation, "group": groups}
    return run_node("QLinearConv", operands, np.uint8, **window).transpose(0, 2, 3, 1)


def ort_matmul(x, w, scales, zeros):
    """QLinearMatMul of x (N, K) with w (O, K)."""
    weight, w_zero = operand(w)
    operands = [
        ("x", x),
        ("x_scale", np.float32(scales[0])),
        ("x_zero", np.uint8(zeros[0])),
        ("w", np.ascontiguousarray(weight.T)),
        ("w_scale", scales[1].astype(np.float32)),
        ("w_zero", np.full(scales[1].shape, w_zero)),
        ("y_scale", np.float32(scales[2])),
        ("y_zero", np.uint8(zeros[1])),
    ]
    return run_node("QLinearMatMul", operands, np.uint8)


def assert_no_byte_differs(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype == np.uint8 and got.shape == want.shape
    assert int((got != want).sum()) == 0


def codes(rng, *shape: int) -> np.ndarray:
    """All codes, the ends first: as many as fit, in random order."""
    n = int(np.prod(shape))
    return rng.permutation(np.resize(np.r_[0, 255, rng.permutation(256)], n)).astype(np.uint8).reshape(shape)


def weights(rng, top: int, *shape: int) -> np.ndarray:
    w = rng.integers(-top, top + 1, size=shape).astype(np.int8)
    w.reshape(-1)[: min(2, w.size)] = [top, -top][: min(2, w.size)]
    return w


def fitting_scales(rng, w: np.ndarray, kind: str) -> tuple[np.float32, np.ndarray, np.float32]:
    """(x, w per channel, y): 'fine' spreads outputs over the codes, 'ties' makes multipliers powers of two,
    'saturating' sends most outputs beyond the ends."""
    reach = np.abs(w.astype(np.float64)).reshape(len(w), -1).sum(axis=1).mean() * 40 + 1
    if kind == "ties":
        exponents = np.floor(-np.log2(reach / 100)) + rng.integers(-2, 2, size=len(w))
        return np.float32(0.5), (2.0**exponents).astype(np.float32), np.float32(0.5)
    w_scale = rng.uniform(0.5, 2, size=len(w)).astype(np.float32) * np.float32(0.01)
    x_scale = np.float32(rng.uniform(0.001, 0.1))
    share = 128 if kind == "fine" else 4
    return x_scale, w_scale, np.float32(x_scale * np.float32(0.01) * reach / share)


KINDS = ["fine", "ties", "saturating"]
tops = st.sampled_from([REDUCED, FULL])
zero_points = st.sampled_from(ZEROS)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top", [REDUCED, FULL])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 16, 33, 255, 1024, 2048])
def test_linear_layers_agree_up_to_2048_features(k, top, kind):
    rng = np.random.default_rng([k, top])
    x, w = codes(rng, 4, k), weights(rng, top, 9, k)
    scales = fitting_scales(rng, w, kind)
    m = multiplier(*scales)
    for x_zero in ZEROS:
        for y_zero in (0, 77, 255):
            want = QLinear(x_zero, y_zero, 0, 255).integer_reference(x, w, np.zeros(9, np.int32), m)[0]
            assert_no_byte_differs(ort_matmul(x, w, scales, (x_zero, y_zero)), want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_layer_with_a_bias_is_a_1x1_convolution(kind):
    rng = np.random.default_rng(1)
    x, w = codes(rng, 3, 300), weights(rng, FULL, 17, 300)
    bias = rng.integers(-200_000, 200_000, size=17).astype(np.int32)
    scales = fitting_scales(rng, w, kind)
    want = QLinear(12, 200, 0, 255).integer_reference(x, w, bias, multiplier(*scales))[0]
    got = ort_conv(x[:, None, None], w[:, None, None], bias, scales, (12, 200), ((1, 1), (0, 0, 0, 0), (1, 1), 1))
    assert_no_byte_differs(got[:, 0, 0], want)


@st.composite
def convolutions(draw):
    """(input shape, weight shape, geometry) of a convolution whose window fits."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    ic, oc = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(1, r - pads[i] - pads[i + 2]) + draw(st.integers(0, 6)) for i, r in enumerate(reach)]
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return (draw(st.integers(1, 2)), *size, ic), (oc, *kernel, ic // groups), (stride, pads, dilation, groups)


@settings(max_examples=120)
@given(case=convolutions(), top=tops, kind=st.sampled_from(KINDS), x_zero=zero_points, y_zero=zero_points, seed=seeds)
def test_convolutions_of_any_geometry_agree(case, top, kind, x_zero, y_zero, seed):
    x_shape, w_shape, geometry = case
    rng = np.random.default_rng(seed)
    x, w = codes(rng, *x_shape), weights(rng, top, *w_shape)
    scales = fitting_scales(rng, w, kind)
    reach = int(np.abs(w.astype(int)).reshape(len(w), -1).sum(axis=1).max()) * 100
    bias = rng.integers(-reach, reach + 1, size=len(w)).astype(np.int32)
    stride, pads, dilation, groups = geometry
    op = QConv2d(stride, pads, dilation, groups, x_zero, y_zero, 0, 255)
    want = op.integer_reference(x, w, bias, multiplier(*scales))[0]
    assert_no_byte_differs(ort_conv(x, w, bias, scales, (x_zero, y_zero), geometry), want)


@settings(max_examples=60)
@given(
    channels=st.integers(1, 40),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    top=tops,
    kind=st.sampled_from(KINDS),
    zeros=st.tuples(zero_points, zero_points),
    seed=seeds,
)
def test_depthwise_convolutions_agree(channels, kernel, pads, stride, top, kind, zeros, seed):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, 2, 6, 7, channels), weights(rng, top, *kernel, channels)
    by_channel = np.ascontiguousarray(w.transpose(2, 0, 1)[..., None])
    scales = fitting_scales(rng, by_channel, kind)
    bias = rng.integers(-5000, 5000, size=channels).astype(np.int32)
    want = QDepthwise(stride, pads, (1, 1), *zeros, 0, 255).integer_reference(x, w, bias, multiplier(*scales))[0]
    assert_no_byte_differs(ort_conv(x, by_channel, bias, scales, zeros, (stride, pads, (1, 1), channels)), want)


@pytest.mark.parametrize("zero_point", ZEROS)
@pytest.mark.parametrize("factor", [0.5, 0.25, 1.5, 2.0**-8])
def test_every_tie_and_every_code_agree(zero_point, factor):
    """Accumulators in steps of one through all codes and beyond both ends."""
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    w = np.int8([1, 3, -1, -5, 64]).reshape(5, 1, 1, 1)
    bias = np.int32([0, 1, -100, 700, -8192])
    scales = (np.float32(1), np.full(5, factor, np.float32), np.float32(1))
    geometry = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    op = QConv2d(*geometry, 9, zero_point, 0, 255)
    want = op.integer_reference(x, w, bias, multiplier(*scales))[0]
    assert_no_byte_differs(ort_conv(x, w, bias, scales, (9, zero_point), geometry), want)


def test_accumulators_beyond_2_to_24_agree():
    """Around ties at multiples of 2^18 and a half of it, where float32 holds only every second integer."""
    steps = np.r_[np.arange(-127, -64), np.arange(65, 127)]
    bias = np.rint((steps + 0.5) * 2**18).astype(np.int32)
    assert np.abs(bias).min() > 2**24
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    w = np.ones((len(bias), 1, 1, 1), np.int8)
    scales = (np.float32(1), np.full(len(bias), 2.0**-18, np.float32), np.float32(1))
    geometry = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    want = QConv2d(*geometry, 128, 128, 0, 255).integer_reference(x, w, bias, multiplier(*scales))[0]
    assert len(np.unique(want)) > 120
    assert_no_byte_differs(ort_conv(x, w, bias, scales, (128, 128), geometry), want)


def awkward_scales(rng, outputs: int) -> tuple[np.float32, np.ndarray, np.float32]:
    """Scales that do not divide well, with multipliers near 2^-17: products then come within half a unit in the last
    place of a tie, so that the order of the three scales, or a second rounding, decides codes."""
    x_scale = np.float32(rng.uniform(0.01, 0.1))
    w_scale = (rng.uniform(1, 2, size=outputs) * 2.0**-10).astype(np.float32)
    return x_scale, w_scale, np.float32(x_scale * 2.0**7 * rng.uniform(1, 2))


def around_ties(m: float, low: int, high: int) -> np.ndarray:
    """The integers beside (k + 1/2) / m for k in low..high - 1."""
    ties = np.rint((np.arange(low, high) + 0.5) / m).astype(np.int64)
    return np.concatenate([ties - 1, ties, ties + 1])


@pytest.mark.parametrize("seed", range(40))
def test_convolutions_agree_where_the_last_bit_of_a_multiplier_decides(seed):
    rng = np.random.default_rng(seed)
    x_scale, w_scale, y_scale = awkward_scales(rng, 1)
    m = multiplier(x_scale, w_scale, y_scale)
    bias = around_ties(float(m[0]), -130, 130).astype(np.int32)
    x = np.full((1, 1, 1, 1), 9, np.uint8)
    w = np.ones((len(bias), 1, 1, 1), np.int8)
    geometry = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    want = QConv2d(*geometry, 9, 128, 0, 255).integer_reference(x, w, bias, np.repeat(m, len(bias)))[0]
    got = ort_conv(x, w, bias, (x_scale, np.repeat(w_scale, len(bias)), y_scale), (9, 128), geometry)
    assert_no_byte_differs(got, want)


@pytest.mark.parametrize("seed", range(40))
def test_linear_layers_agree_where_the_last_bit_of_a_multiplier_decides(seed):
    """Accumulators of any size: a = 127 * 255 * n + 127 * q + r is the sum over n + 2 features."""
    rng = np.random.default_rng(seed)
    scales = awkward_scales(rng, 3)
    m = multiplier(*scales)
    acc = np.concatenate([around_ties(float(factor), 0, 260) for factor in m])
    acc = acc[acc >= 0]
    whole, rest = np.divmod(acc, 127 * 255)
    x = np.zeros((len(acc), int(whole.max()) + 2), np.uint8)
    x[:, :-2] = np.where(np.arange(x.shape[1] - 2) < whole[:, None], 255, 0)
    x[:, -2], x[:, -1] = np.divmod(rest, 127)
    w = np.full((3, x.shape[1]), 127, np.int8)
    w[:, -1] = 1
    assert ((x.astype(np.int64) @ w[0].astype(np.int64)) == acc).all()
    want = QLinear(0, 0, 0, 255).integer_reference(x, w, np.zeros(3, np.int32), m)[0]
    assert_no_byte_differs(ort_matmul(x, w, scales, (0, 0)), want)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "dilation"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
        ((3, 2), (2, 1), (1, 0, 1, 1), (1, 2)),
    ],
)
def test_max_pools_agree(kernel, stride, pads, dilation, ceil):
    x = codes(np.random.default_rng(0), 2, 9, 10, 3)
    want = QMaxPool2d(kernel, stride, pads, dilation, ceil).integer_reference(x)[0]
    window = {"kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": dilation, "ceil_mode": int(ceil)}
    got = run_node("MaxPool", [("x", np.ascontiguousarray(x.transpose(0, 3, 1, 2)))], np.uint8, **window)
    assert_no_byte_differs(got.transpose(0, 2, 3, 1), want)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 4), (8, 8), (4, 16), (32, 32)])
@pytest.mark.parametrize("zeros", [(0, 0), (128, 128), (255, 3), (7, 255)])
def test_means_over_a_power_of_two_agree(height, width, zeros):
    rng = np.random.default_rng(height)
    x = codes(rng, 3, height, width, 17)
    scales = np.float32(0.013), np.float32(0.0071)
    op = QMean(1, 2, True, zeros[0], ratio(*scales), zeros[1], 0, 255)
    operands = [
        ("x", np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
        ("x_scale", scales[0]),
        ("x_zero", np.uint8(zeros[0])),
        ("y_scale", scales[1]),
        ("y_zero", np.uint8(zeros[1])),
    ]
    got = run_node("QLinearGlobalAveragePool", operands, np.uint8, domain="com.microsoft", channels_last=0)
    assert_no_byte_differs(got.transpose(0, 2, 3, 1), op.integer_reference(x)[0])


@pytest.mark.filterwarnings("ignore:overflow encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("scale", [0.1, 0.05, 1 / 3, 1e-3, 7.0, 2.0**-126])
@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_reals_become_the_same_codes_and_codes_the_same_reals(scale, zero_point):
    scale = np.float32(scale)
    rng = np.random.default_rng(0)
    halves = (np.arange(-1200, 1200) / 2).astype(np.float32) * scale
    beside = [np.nextafter(halves, np.float32(side)) for side in (-np.inf, np.inf)]
    ends = np.float32([0, -0.0, np.inf, -np.inf, 3e38, -3e38, 1e-45])
    x = np.concatenate([halves, *beside, ends, (rng.normal(size=20_000) * 200 * scale).astype(np.float32)])
    operands = [("x", x), ("scale", scale), ("zero", np.uint8(zero_point))]
    assert_no_byte_differs(run_node("QuantizeLinear", operands, np.uint8), quantize(x, scale, zero_point))
    every = np.arange(256, dtype=np.uint8)
    real = run_node("DequantizeLinear", [("x", every), *operands[1:]], np.float32)
    assert real.tobytes() == dequantize(every, scale, zero_point).tobytes()


def translated(program: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    """One node of a program by ONNX Runtime; a multiplier stands in the place of the weight's scale."""
    op = node.op
    constants = [program.constants[name].array for name in node.inputs[1:]]
    if isinstance(op, QMaxPool2d):
        window = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.padding, "dilations": op.dilation}
        y = run_node("MaxPool", [("x", np.ascontiguousarray(x.transpose(0, 3, 1, 2)))], np.uint8, **window)
        return y.transpose(0, 2, 3, 1)
    if isinstance(op, QConv2d | QLinear):
        w, bias, m = constants
        flat = isinstance(op, QLinear)
        geometry = ((1, 1), (0, 0, 0, 0), (1, 1), 1) if flat else (op.stride, op.padding, op.dilation, op.groups)
        image, filters = (x[:, None, None], w[:, None, None]) if flat else (x, w)
        y = ort_conv(image, filters, bias, (1.0, m, 1.0), (op.x_zero, op.y_zero), geometry).clip(op.qmin, op.qmax)
        return y[:, 0, 0] if flat else y
    return op.integer_reference(x, *constants)[0]


def test_the_whole_of_edge_cnn_gives_the_same_bytes():
    graph = edge_cnn()
    ranges = calibrate(graph, batches(graph, 16), "min-max")
    program = lower(run_passes(graph, [QuantizeStatic(ranges)])[0])
    x = codes(np.random.default_rng(0), 20, 1, 32, 32)
    values = {"x": x}
    for node in program.nodes:
        values[node.output] = translated(program, node, values[node.inputs[0]])
    (want,) = interpret(program, x)
    assert_no_byte_differs(values[program.outputs[0]], want)
