"""Parametric ReLU:  y = x where x >= 0, else slope[c] * x; the slopes are constants, one in all or one per channel.

In integers each channel has its own table; see `penjing.ops.table`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Quant, Type
from penjing.ops.coupling import Coupling, alone, broadcast_axes, on_input
from penjing.ops.leaky_relu import bent
from penjing.ops.lowering import Epilogue, Lowering, channels_last, code_table
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Operator, Sample, expect
from penjing.ops.table import QTable
from penjing.ops.torch_call import Imported


@dataclass(frozen=True)
class Prelu(Operator):
    """Inputs x (N, C, ...), slope (C), (1) or broadcast along axis 1: (1, C, 1, ...); output of x's shape."""

    name = "prelu"
    torch = ("aten.prelu.default", "aten._prelu_kernel.default")
    onnx = ("PRelu",)
    parameter_inputs = (1,)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x, slope = call.activation(0), call.array(1)
        along = (x.type.bounds[1] if x.type.rank > 1 else 1, *(1,) * (x.type.rank - 2))
        fits = slope.size == 1 or slope.shape in (along, (1, *along))
        call.require(fits, f"slopes of shape {slope.shape} for {x.type.bounds}")
        return Imported(cls(), (x.name, call.constant(call.name(1), slope.reshape(-1)).name))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, slope = inputs
        channels = x.bounds[1] if x.rank > 1 else 1
        along = (1, channels, *(1,) * (x.rank - 2))
        fits = slope.elements == 1 or slope.bounds in ((channels,), along)
        expect(fits, f"prelu with slopes of shape {slope.bounds} for {channels} channels")
        return (Type(x.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, slope = inputs
        return (bent(x, slope.reshape(-1, *(1,) * max(0, x.ndim - 2))),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.prelu(inputs[0], inputs[1].reshape(-1))

    def to_onnx(self, form: OnnxForm) -> None:
        slopes = form.parameter(1)
        if slopes is None:
            raise UnsupportedOp(
                "prelu with slopes that are computed", where=str(form.source), hint="make them a constant"
            )
        along = (-1, *(1,) * max(0, form.type(0).rank - 2))  # ONNX aligns the last axes, as numpy does
        form.result("PRelu", form.input(0), form.floats("slope", slopes.reshape(along)))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x, slope = inputs
        channels, *others = broadcast_axes((x,), outputs[0]) or ((),)
        if not channels or slope is None or slope.elements == 1:
            return Coupling(tuple(tie for tie in (channels, *others) if tie))
        along = on_input(1, 0 if slope.rank == 1 else 1, alone(slope.elements))
        return Coupling(((*channels, along), *others))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, weight = node.inputs
        if weight not in lowering.graph.constants:
            raise UnsupportedOp("prelu with slopes that are computed", where=str(node), hint="make them a constant")
        slopes = lowering.graph.constants[weight].array.reshape(-1)
        order = lowering.order(value)
        if slopes.size > 1 and order[-1] != 1:
            order = channels_last(len(order))
        tables = [_table(lowering.quant(value), lowering.quant(epilogue.output), epilogue, float(s)) for s in slopes]
        table = lowering.constant(f"{node.output}.table", np.stack(tables) if slopes.size > 1 else tables[0])
        lowering.finish(epilogue, QTable(), (lowering.placed(value, order), table), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(20)
        for shape, slope in (((2, 3, 4, 5), (3,)), ((2, 3, 4, 5), (1,)), ((1, 257), (257,)), ((2, 5, 7), (1, 5, 1))):
            x = rng.normal(size=shape).astype(np.float32)
            yield Sample(cls(), (x, rng.uniform(-0.5, 1.5, size=slope).astype(np.float32)), constant=(1,))


def _table(source: Quant, target: Quant, epilogue: Epilogue, slope: float) -> np.ndarray:
    return code_table(source, target, lambda real: np.clip(bent(real, slope), epilogue.low, epilogue.high))
