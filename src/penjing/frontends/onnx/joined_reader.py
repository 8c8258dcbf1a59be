"""Reads the nodes between where a model joins axes and where it takes them apart; see `joined`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from penjing.core.errors import InvalidGraph, PenjingError, UnsupportedOp
from penjing.frontends.onnx.codes import Append, Coded
from penjing.frontends.onnx.fold import shape_of
from penjing.frontends.onnx.joined import (
    Joined,
    Probed,
    apart,
    at_probes,
    changes_shape,
    made_shapes,
    on_held,
    regroupings,
    transposed,
)
from penjing.frontends.onnx.model import OnnxNode
from penjing.ir.types import DType, Shape
from penjing.ops.onnx_call import Known, Ref
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape

Carry = Callable[[OnnxNode, list[Ref | Known | Coded | None]], Sequence[object]]


@dataclass(frozen=True)
class JoinedReader:
    """What a reader of values with joined axes needs.

    Attributes:
        append: adds a node to the graph.
        carry: reads a node whose inputs have no joined axes.
        origins: value name -> name in the ONNX model.
        batch: the one batch size that the model is written for; None when it takes any.
    """

    append: Append
    carry: Carry
    origins: dict[str, str]
    batch: int | None

    def begun(self, node: OnnxNode, held: list[Ref | Known | Coded | None], error: PenjingError) -> Ref | Joined | None:
        """What a node makes that the graph cannot hold as it is; None where it does not only change the shape."""
        x, *others = held
        if not changes_shape(node) or not isinstance(x, Ref) or x.type.dtype is not DType.F32:
            return None
        return self._regrouped(node, Joined(x, (), node, error), at_probes(x.type.shape), others)

    def read(
        self, node: OnnxNode, joined: Joined, held: list[Ref | Known | Coded | Joined | None]
    ) -> Ref | Known | Joined | None:
        """What a node makes of values with joined axes; None where it cannot be told."""
        operands = [value for value in held if not isinstance(value, Coded)]
        if node.domain or len(operands) < len(held):
            return None
        if node.op == "Shape":
            return shape_of(node, joined.extents())
        if node.op == "Transpose":
            order, groups = transposed(node, joined.groups)
            is_same = order == tuple(sorted(order))
            ref = joined.ref if is_same else self._moved(node, Permute(order), joined.ref)
            return replace(joined, ref=ref, groups=groups)
        if changes_shape(node):
            return self._regrouped(node, joined, joined.extents(), operands[1:])
        found = on_held(node, operands)
        if found is None:
            return None
        (made,) = self.carry(found.node, list(found.operands))
        if not isinstance(made, Ref):
            return None
        if self.origins.get(made.name) == node.outputs[0]:
            del self.origins[made.name]  # it has another shape there
        return replace(joined, ref=made)

    def _regrouped(self, node: OnnxNode, x: Joined, before: Probed, others: Sequence[object]) -> Ref | Joined | None:
        """The elements of x in the shape that a node gives them, with its axes apart if they can be."""
        known = next((value for value in others if isinstance(value, Known)), None)
        shapes = made_shapes(node, before, known, self.batch)
        for shape, groups in regroupings(x.ref.type.shape, shapes):
            whole = apart(shape, groups)
            ref = self._reshaped(node, x.ref, shape if whole is None else whole)
            if ref is not None and whole is not None:
                self.origins.setdefault(ref.name, node.outputs[0])
                return ref
            ref = self._reshaped(node, x.ref, shape) if ref is None else ref
            if ref is not None:
                return replace(x, ref=ref, groups=groups)
        return None

    def _reshaped(self, node: OnnxNode, ref: Ref, shape: Shape) -> Ref | None:
        try:
            return ref if ref.type.shape == shape else self._moved(node, Reshape(shape), ref)
        except (UnsupportedOp, InvalidGraph):
            return None

    def _moved(self, node: OnnxNode, op: Operator, ref: Ref) -> Ref:
        return self.append(op, (ref.name,), node.stem, node.source)[0]
