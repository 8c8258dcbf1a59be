"""Where the batch stands: on axis 0 of every input of a model, and behind it wherever an operator has moved it.

What reads time first has it on axis 1, between moves there and back. Such moves vanish in pairs.
"""

from collections.abc import Mapping

from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.inputs import FIX_HINT
from penjing.frontends.onnx.model import OnnxNode
from penjing.ir.graph import Graph, Node
from penjing.ir.types import DType, Type
from penjing.ops.onnx_call import BATCH, Ref
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape

_INTEGERS = (6, 7)  # TensorProto.INT32 and INT64
_MOVES = frozenset(
    {
        "Concat", "Flatten", "Gather", "GRU", "LSTM", "Reshape", "RNN", "Slice", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
EACH_ELEMENT = frozenset(
    {
        "Cast", "Clip", "Dropout", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Relu", "Sigmoid",
        "Swish", "Tanh",
    }
)  # fmt: skip


def check_reader(node: OnnxNode, place: int, ref: Ref) -> None:
    """Raise UnsupportedOp where a node takes ids for numbers.

    So it does where a node takes a value whose batch is elsewhere, and would take axis 0 for it.
    """
    if ref.type.dtype is DType.S32 and not _reads_ids(node, place):
        raise UnsupportedOp(
            f"reads the ids %{ref.name}; ids are only looked up, and masks of padding are fixed: --fix {ref.name}=1",
            hint=f"let Gather of a constant table read them; {FIX_HINT.format(name=ref.name)}",
        )
    if BATCH not in ref.type.shape:
        return
    where = ref.type.shape.index(BATCH)
    if where == 0 or node.op == "MatMul" or node.op in _MOVES | EACH_ELEMENT:
        return
    axis = node.attributes.get("axis")
    if node.op == "Softmax" and isinstance(axis, int) and (axis - where) % ref.type.rank:
        return
    raise UnsupportedOp(
        f"{node.op} of a value whose batch is axis {where}", hint="transpose it before, so that its axis 0 is the batch"
    )


def _reads_ids(node: OnnxNode, place: int) -> bool:
    """Whether a node looks ids up, or hands them on as they are."""
    if node.op == "Cast":
        return node.attributes.get("to") in _INTEGERS
    return node.op == "Identity" or (node.op == "Gather" and place == 1)


def check_made(type_: Type) -> None:
    """Raise UnsupportedOp for a value in which samples meet one another."""
    if type_.shape.count(BATCH) != 1:
        raise UnsupportedOp("mixes the batch with another axis")


def undone(graph: Graph, op: Operator, name: str, makers: Mapping[str, Node]) -> str | None:
    """The value that comes out when `op` takes back what made `name`; None where it does not."""
    maker = makers.get(name)
    if isinstance(op, Permute) and maker is not None and isinstance(maker.op, Permute):
        return maker.inputs[0] if [maker.op.perm[axis] for axis in op.perm] == sorted(op.perm) else None
    while isinstance(op, Reshape) and maker is not None and _keeps_order(graph, maker):
        (source,) = maker.inputs
        if graph.types[source].shape == op.shape:
            return source
        maker = makers.get(source)
    return None


def _keeps_order(graph: Graph, node: Node) -> bool:
    """Whether a node gives its input's elements in their order: moves of extents of 1 do."""
    if not isinstance(node.op, Permute):
        return isinstance(node.op, Reshape)
    shape = graph.types[node.inputs[0]].shape
    moved = [axis for axis in node.op.perm if shape[axis] != 1]
    return moved == sorted(moved)
