"""Quantized ONNX models keep their scales, and their programs give the codes that onnxruntime gives."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from penjing import api
from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.capture import capture
from penjing.ir.grid import activation_parameters, grid_codes
from penjing.program.interpret import interpret

node = helper.make_node
RNG = np.random.default_rng(3)
SHAPE = (2, 8, 8)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


class Batches(CalibrationDataReader):
    def __init__(self):
        self.left = iter([{"x": floats(4, *SHAPE)} for _ in range(2)])

    def get_next(self):
        return next(self.left, None)


def cnn(save, *, with_branch):
    """Convolutions with relu and clip, pooling, a depthwise layer, a mean, a linear layer; sigmoid and concat."""
    branch = [node("Sigmoid", ["p1"], ["s"]), node("Concat", ["r2", "s"], ["cat"], axis=1)]
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=6),
        node("Clip", ["c2", "zero", "six"], ["r2"]),
        *(branch if with_branch else ()),
        node("Conv", ["cat" if with_branch else "r2", "w3", "b3"], ["c3"]),
        node("GlobalAveragePool", ["c3"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "w4", "b4"], ["y"], transB=1),
    ]
    constants = {
        **{"w1": floats(6, 2, 3, 3), "b1": floats(6), "w2": floats(6, 1, 3, 3), "b2": floats(6)},
        **{"w3": floats(5, 12 if with_branch else 6, 1, 1), "b3": floats(5), "w4": floats(4, 5), "b4": floats(4)},
        **{"zero": np.float32(0), "six": np.float32(6)},
    }
    return save(nodes, ("n", *SHAPE), constants)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_model_that_onnxruntime_quantized_gives_its_codes(save, tmp_path, form, activation, per_channel):
    model, path = cnn(save, with_branch=False), tmp_path / "quantized.onnx"
    options = {"activation_type": activation, "weight_type": QuantType.QInt8, "per_channel": per_channel}
    quantize_static(model, path, Batches(), quant_format=form, **options)
    steps = steps_apart(path)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.05  # at the border of two codes


def test_parts_of_a_concat_and_a_sigmoid_are_rounded_fewer_times(save, tmp_path):
    path = tmp_path / "quantized.onnx"
    quantize_static(cnn(save, with_branch=True), path, Batches(), quant_format=QuantFormat.QDQ, per_channel=True)
    assert steps_apart(path).max() <= 4


def steps_apart(path):
    """Between the codes of our program and those of onnxruntime's outputs."""
    captured = capture(path)
    assert not captured.needs_calibration
    program = api.lower(api.quantize(captured.graph, (), known=captured.ranges))
    x = floats(16, *SHAPE)
    (expected,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    given, made = (program.types[name].quant for name in (program.inputs[0], program.outputs[0]))
    codes = np.clip(np.rint(x / given.scale) + given.zero_point, 0, 255).astype(np.uint8)
    (actual,) = interpret(program, codes)
    return np.abs(actual - (np.rint(expected / made.scale) + made.zero_point))


def quantizer(kind=np.uint8, scale=0.05, zero=100):
    return {"s": np.float32(scale), "z": np.array(zero, kind)}


def qdq(name, scale="s", zero="z", to=None):
    """QuantizeLinear and DequantizeLinear of one value."""
    return [
        node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
        node("DequantizeLinear", [f"{name}_q", scale, zero], [to or f"{name}_d"]),
    ]


@pytest.mark.parametrize(("kind", "zero", "expected"), [(np.uint8, 100, 100), (np.int8, -28, 100), (np.int8, 127, 255)])
def test_scales_and_zero_points_are_kept_exactly(save, kind, zero, expected):
    for scale in (0.05, 1e-30, 3e30, float(np.finfo(np.float32).tiny), float(np.float32(1) / 3)):
        path = save(
            [*qdq("x"), node("Tanh", ["x_d"], ["t"]), *qdq("t", to="y")], ("n", 4), quantizer(kind, scale, zero)
        )
        captured = capture(path, check=False)
        for low, high in captured.ranges.values():
            assert activation_parameters(low, high) == (np.float32(scale), expected)


@pytest.mark.parametrize("axis", [None, 0])
def test_weights_of_codes_lie_on_their_grid(save, axis):
    codes = RNG.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8)
    scales = RNG.uniform(0.01, 0.1, 3 if axis == 0 else ()).astype(np.float32)
    points = np.zeros(scales.shape, np.int8)
    nodes = [
        *qdq("x"),
        node("DequantizeLinear", ["w_quantized", "ws", "wz"], ["w"], **({} if axis is None else {"axis": axis})),
        node("Conv", ["x_d", "w"], ["c"]),
        *qdq("c", to="y"),
    ]
    constants = {**quantizer(), "w_quantized": codes, "ws": scales, "wz": points}
    captured = capture(save(nodes, ("n", *SHAPE), constants))
    weight = captured.graph.constants["w"]
    np.testing.assert_array_equal(grid_codes(weight), codes)
    quantized = api.quantize(captured.graph, (), known=captured.ranges)
    (kept,) = [c for name, c in quantized.constants.items() if name.startswith("w")]
    np.testing.assert_array_equal(kept.array, codes)
    np.testing.assert_array_equal(kept.quant.scale_array(), np.resize(scales, 3))


def test_weights_that_are_not_symmetric_leave_a_note(save):
    nodes = [
        *qdq("x"),
        node("DequantizeLinear", ["w_q", "s", "wz"], ["w"]),
        node("MatMul", ["x_d", "w"], ["m"]),
        *qdq("m", to="y"),
    ]
    constants = {**quantizer(), "w_q": RNG.integers(0, 256, (4, 3)).astype(np.uint8), "wz": np.array(3, np.uint8)}
    captured = capture(save(nodes, ("n", 4), constants))
    assert captured.graph.constants["w_q"].quant is None
    assert [note.where for note in captured.notes] == ["w_q"]


def test_a_relu_that_codes_stand_for_is_a_relu_again(save):
    weight = floats(4, 3)
    path = save([node("MatMul", ["x", "w"], ["m"]), *qdq("m", to="y")], ("n", 4), {**quantizer(zero=0), "w": weight})
    captured = capture(path)
    assert [n.op.name for n in captured.graph.nodes] == ["linear", "relu"]
    assert captured.unquantized == ("x",)  # the model does not say in which codes x is
    path = save([node("Sigmoid", ["x"], ["m"]), *qdq("m", to="y")], ("n", 4), quantizer(zero=0))
    assert [n.op.name for n in capture(path).graph.nodes] == ["sigmoid"]


def test_one_value_in_codes_of_two_kinds_becomes_two(save):
    constants = {**quantizer(), "s2": np.float32(0.01), "z2": np.array(10, np.uint8)}
    nodes = [*qdq("x"), *qdq("x_d", "s2", "z2", to="b"), node("Add", ["x_d", "b"], ["sum"]), *qdq("sum", to="y")]
    captured = capture(save(nodes, ("n", 4), constants))
    assert [n.op.name for n in captured.graph.nodes] == ["clamp", "add"]
    assert not captured.needs_calibration
    assert captured.ranges["x"] != captured.ranges[captured.graph.nodes[0].output]


def test_what_the_model_leaves_in_floats_is_calibrated(save):
    nodes = [*qdq("x"), node("LeakyRelu", ["x_d"], ["t"]), node("HardSwish", ["t"], ["r"]), *qdq("r", to="y")]
    captured = capture(save(nodes, ("n", 4), quantizer()))
    assert captured.unquantized == ("t",)
    quantized = api.quantize(captured.graph, [floats(8, 4)], known=captured.ranges)
    assert quantized.types["x"].quant.scale == np.float32(0.05)


@pytest.mark.parametrize(
    ("constants", "why"),
    [
        (quantizer(np.uint16), "codes of uint16"),
        (quantizer(np.int16), "codes of int16"),
        ({"s": np.ones(4, np.float32), "z": np.zeros(4, np.uint8)}, "one scale per channel"),
        (quantizer(scale=0.0), "the scale 0.0"),
        (quantizer(scale=float("nan")), "the scale nan"),
        (quantizer(scale=-1.0), "the scale -1.0"),
    ],
)
def test_codes_that_cannot_be_carried_are_refused(save, constants, why):
    with pytest.raises(UnsupportedOp, match=why):
        capture(save([*qdq("x", to="y")], ("n", 4), constants))


def test_codes_must_be_read_as_they_were_made_and_stay_inside(save):
    constants = {**quantizer(), "s2": np.float32(0.1)}
    first, second = qdq("x", to="y")
    second.input[1] = "s2"
    with pytest.raises(UnsupportedOp, match="another scale"):
        capture(save([first, second], ("n", 4), constants))
    with pytest.raises(UnsupportedOp, match="it holds codes"):
        capture(save([first], ("n", 4), constants, outputs=("x_q",)))
    with pytest.raises(UnsupportedOp, match="computes with codes"):
        capture(save([first, node("Relu", ["x_q"], ["y"])], ("n", 4), constants))
