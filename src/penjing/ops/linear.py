"""Linear layer:  y[..., o] = b[o] + sum over k of w[o, k] * x[..., k];  in integers as a convolution (see conv2d)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import multiplier, requantize
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import check_requantize, requantize_params
from penjing.ops.coupling import Coupling, alone, kept_axes, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes, requantization, weights
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import Known, OnnxCall, Operand
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Cost, FloatRule, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported


@dataclass(frozen=True)
class Linear(Operator):
    """Inputs x (..., K), weight (O, K), optional bias (O); output (..., O)."""

    name = "linear"
    torch = ("aten.linear.default",)
    onnx = ("Gemm", "MatMul")
    weight_input = 1
    bias_input = 2
    float_rule = FloatRule.KEPT

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        if call.target == "MatMul" and not _is_matrix(call.inputs[1]):
            from penjing.ops.matmul import Matmul

            return Matmul.from_onnx(call)
        x = call.activation(0)
        if call.target == "MatMul":
            call.require(x.type.rank >= 2, "an input of rank 1")
            # the front end gives it what is added behind as a third input
            return Imported(cls(), (x.name, call.weight(1, (1, 0)).name, *call.optional_weight(2)))
        call.require(x.type.rank == 2 and not call.flag("transA"), "transA, which puts the batch last,")
        is_transposed, alpha = call.flag("transB"), call.number("alpha", 1.0)
        w = call.weight(1, (0, 1) if is_transposed else (1, 0), alpha)
        if not call.has(2):
            return Imported(cls(), (x.name, w.name))
        bias, outputs = call.array(2), w.type.bounds[0]
        call.require(bias.size in (1, outputs) and bias.shape[:-1] in ((), (1,)), f"C of shape {bias.shape}")
        beta = np.float32(call.number("beta", 1.0))
        if bias.shape == (outputs,) and beta == 1:
            return Imported(cls(), (x.name, w.name, call.weight(2).name))
        row = np.resize(bias.astype(np.float32), outputs) * beta
        return Imported(cls(), (x.name, w.name, call.constant(f"{w.name}.bias", row).name))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w = inputs[0], inputs[1]
        expect(x.rank >= 1 and w.rank == 2, f"linear needs a weight of rank 2, not {w.rank}")
        expect(x.shape[-1] == w.shape[1], f"{x.shape[-1]} features, but the weight has {w.bounds[1]}")
        if len(inputs) > 2:
            expect(inputs[2].bounds == w.bounds[:1], f"bias of shape {inputs[2].bounds} for {w.bounds[0]} outputs")
        return (Type((*x.shape[:-1], w.shape[0])),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = inputs[0] @ inputs[1].T
        return (y + inputs[2] if len(inputs) > 2 and inputs[2] is not None else y,)

    def weight_operands(self, *inputs: Any) -> np.ndarray | None:
        x: np.ndarray = inputs[0]
        return x.reshape(1, -1, x.shape[-1])

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x, w = inputs[:2]
        assert x is not None and w is not None
        features, made = alone(w.bounds[1]), alone(w.bounds[0])
        last = x.rank - 1
        outward = [on_input(1, 0, made), on_output(last, made)]
        if len(inputs) > 2 and inputs[2] is not None:
            outward.append(on_input(2, 0, made))
        rows = kept_axes(x, outputs[0], range(1, last))
        return Coupling(((on_input(0, last, features), on_input(1, 1, features)), tuple(outward), *rows))

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.linear(*inputs)

    def to_onnx(self, form: OnnxForm) -> None:
        if form.type(0).rank == 2:
            form.result("Gemm", *form.inputs(), transB=1)
            return
        product = (form.input(0), form.input(1, (1, 0)))
        if form.has(2):
            form.result("Add", form.node("MatMul", *product), form.input(2))
        else:
            form.result("MatMul", *product)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[1].bounds[1], sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, weight = node.inputs[0], node.inputs[1]
        order = identity(lowering.graph.types[value].rank)
        constant = lowering.graph.constants[weight]
        if lowering.is_float(epilogue.output):
            _lower_floats(lowering, node, epilogue, constant.array)
            return
        assert constant.quant is not None
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        m = multiplier(source.scale, constant.quant.scale_array(), target.scale)
        has_bias = len(node.inputs) > 2 and node.inputs[2]
        b = lowering.graph.constants[node.inputs[2]].array if has_bias else np.zeros(constant.array.shape[0], np.int32)
        inputs = (
            lowering.placed(value, order),
            lowering.constant(weight, constant.array),
            lowering.constant(f"{weight}.bias", b),
            lowering.constant(f"{weight}.multiplier", m),
        )
        if lowering.is_wide(epilogue.output):
            from penjing.ops.linear_wide import QLinearWide

            lowering.finish(epilogue, QLinearWide(source.zero_point), inputs, order)
            return
        op = QLinear(source.zero_point, target.zero_point, *lowering.clamp_codes(epilogue))
        lowering.finish(epilogue, op, inputs, order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(6)
        for shape, outputs in (((2, 7), 5), ((1, 64), 33), ((2, 3, 4), 2)):
            arrays = [rng.normal(size=s).astype(np.float32) for s in (shape, (outputs, shape[-1]), (outputs,))]
            yield Sample(cls(), tuple(arrays), constant=(1, 2))
        yield Sample(cls(), tuple(arrays[:2]), constant=(1,))


def _lower_floats(lowering: Lowering, node: Node, epilogue: Epilogue, weight: np.ndarray) -> None:
    from penjing.ops.f_linear import FLinear
    from penjing.ops.f_sums import finite_ends

    order = identity(lowering.graph.types[node.inputs[0]].rank)
    inputs = (
        lowering.floats(node.inputs[0], order),
        lowering.constant(node.inputs[1], weight.T),
        float_bias(lowering, node, weight.shape[0]),
    )
    lowering.finish_floats(epilogue, FLinear(*finite_ends(epilogue.low, epilogue.high)), inputs, order)


def float_bias(lowering: Lowering, node: Node, outputs: int) -> str:
    """The bias of a float32 layer as a constant of the program: zeros where it has none."""
    has_bias = len(node.inputs) > 2 and node.inputs[2]
    bias = lowering.graph.constants[node.inputs[2]].array if has_bias else np.zeros(outputs, np.float32)
    return lowering.constant(f"{node.inputs[1]}.bias", bias)


def _is_matrix(operand: Operand | None) -> bool:
    return isinstance(operand, Known) and operand.array.ndim == 2


class LinearCodes(IntegerOperator):
    """x u8 (..., K), w s8 (O, K), bias s32 (O), multiplier f32 (O); output (..., O)."""

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        features = inputs[1].bounds[1]
        return 2 * features * min(2, inputs[0].elements // features)  # up to two rows, in 16 bits

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[1].bounds[1], sum(t.nbytes for t in (*inputs, *outputs)))


def linear_type(inputs: tuple[Type, ...], dtype: DType) -> Type:
    """Of the output of `LinearCodes`."""
    x, w, bias, m = inputs
    expect(x.rank >= 1 and w.rank == 2 and x.shape[-1] == w.shape[1], "x (..., K) and w (O, K) do not fit")
    check_requantize(x, w, bias, m, w.bounds[0])
    return Type((*x.shape[:-1], w.shape[0]), dtype)


def linear_sums(x: np.ndarray, x_zero: int, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The accumulators of `LinearCodes`, int32 (..., O)."""
    # float64 holds every int32 exactly, so the product is exact in any order
    sums: np.ndarray = ((x.astype(np.float64) - x_zero) @ w.astype(np.float64).T).astype(np.int32) + bias
    return sums


@dataclass(frozen=True)
class QLinear(LinearCodes):
    """`LinearCodes` whose output is u8."""

    name = "q_linear"

    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (linear_type(inputs, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs
        return (requantize(linear_sums(x, self.x_zero, w, bias), m, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        outputs_, features = inputs[1].bounds
        rows = inputs[0].elements // features
        head: dict[str, Param] = {"rows": rows, "k": features, "oc": outputs_}
        return {**head, **requantize_params(self.x_zero, self.y_zero, self.qmin, self.qmax)}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        # acc = 2^25 + 6 rounds to 2^25 + 8 in float32: a product of doubles lands on the other side of a half
        almost = np.full(1, 254.5 * 2.0**-25, np.float32)
        bias = np.array([2**25 + 2], np.int32)
        zeros = np.zeros((1, 4), np.uint8)
        yield Sample(cls(0, 0, 0, 255), (zeros, np.ones((1, 4), np.int8), bias, almost), constant=(1, 2, 3))
        rng = np.random.default_rng(7)
        for i, k in enumerate((*LENGTHS, 1023, 2048)):
            outputs = LENGTHS[i % 12]
            bias, m = requantization(rng, outputs, 128.0 * 64.0 * k**0.5)
            op = cls(*[(0, 0), (128, 128), (255, 3)][i % 3], *[(0, 255), (3, 250)][i % 2])
            yield Sample(op, (codes(rng, (1 + i % 3, k)), weights(rng, (outputs, k)), bias, m), constant=(1, 2, 3))
