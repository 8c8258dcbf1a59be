"""Reshape and flatten: the same elements, in logical (row-major) order, under another shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import Dim, Shape, Type
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.torch_call import Imported, Ref, TorchCall


def _reshaped(x: np.ndarray, shape: Shape) -> np.ndarray:
    return x.reshape([-1 if isinstance(extent, Dim) else extent for extent in shape])


def _check(x: Type, shape: Shape) -> None:
    y = Type(shape, x.dtype)
    expect(x.elements == y.elements, f"{x.elements} elements do not fit into {y.bounds}")
    symbolic = [[e for e in s if isinstance(e, Dim)] for s in (x.shape, shape)]
    expect(symbolic[0] == symbolic[1] and len(symbolic[1]) <= 1, "a symbolic extent must keep its own axis")


@dataclass(frozen=True)
class Reshape(Operator):
    """Input of any shape; output of `shape`, which keeps a symbolic extent as it is."""

    name = "reshape"
    torch = (
        "aten.view.default",
        "aten.reshape.default",
        "aten._unsafe_view.default",
        "aten.flatten.using_ints",
        "aten.unflatten.int",
        "aten.squeeze.dim",
        "aten.squeeze.dims",
        "aten.squeeze.default",
        "aten.unsqueeze.default",
    )
    onnx = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
    quant_rule = QuantRule.SAME

    shape: Shape

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        # every member of the family is told by its output shape alone
        source = next(a for a in call.arguments.values() if isinstance(a, Ref))
        return Imported(cls(call.outputs[0]), (source.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        _check(inputs[0], self.shape)
        return (Type(self.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_reshaped(inputs[0], self.shape),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].reshape([-1 if isinstance(extent, Dim) else extent for extent in self.shape])

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        x = lowering.placed(value, identity(lowering.graph.types[value].rank))
        lowering.finish(epilogue, QReshape(self.shape), (x,), identity(len(self.shape)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
        yield Sample(cls((1, 24)), (x,))
        yield Sample(cls((1, 4, 3, 2)), (x,))
        yield Sample(cls((1, 6, 4)), (x,))


@dataclass(frozen=True)
class QReshape(IntegerOperator):
    """x u8 of any shape; output: the same bytes as `shape`."""

    name = "q_reshape"
    alias = True

    shape: Shape

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        _check(inputs[0], self.shape)
        return (Type(self.shape, inputs[0].dtype),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_reshaped(inputs[0], self.shape),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"bytes": outputs[0].nbytes}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = codes(np.random.default_rng(8), (1, 16, 16))
        yield Sample(cls((1, 256)), (x,))
        yield Sample(cls((1, 2, 8, 16)), (x,))
