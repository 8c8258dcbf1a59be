"""Where the batch stands: on axis 0 of every input of a model, and behind it wherever an operator has moved it.

What reads time first has it on axis 1, between moves there and back. Such moves vanish in pairs.
"""

from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.model import OnnxNode
from penjing.ir.graph import Graph, Node
from penjing.ir.types import DType, Type
from penjing.ops.onnx_call import BATCH, Ref
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape

_MOVES = frozenset(
    {
        "Concat", "Flatten", "Gather", "GRU", "LSTM", "Reshape", "RNN", "Slice", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
_EACH_ELEMENT = frozenset(
    {
        "Cast", "Clip", "Dropout", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Relu",
        "Sigmoid", "Swish", "Tanh",
    }
)  # fmt: skip


def check_reader(node: OnnxNode, place: int, ref: Ref) -> None:
    """Raise UnsupportedOp where a node takes ids for numbers.

    So it does where a node takes a value whose batch is elsewhere, and would take axis 0 for it.
    """
    if ref.type.dtype is DType.S32 and not (node.op == "Gather" and place == 1) and node.op not in ("Cast", "Identity"):
        raise UnsupportedOp(
            f"reads the ids %{ref.name}; ids are only looked up", hint="let Gather of a constant table read them"
        )
    where = ref.type.shape.index(BATCH)
    if where == 0 or node.op in _MOVES or node.op in _EACH_ELEMENT:
        return
    axis = node.attributes.get("axis")
    if node.op == "Softmax" and isinstance(axis, int) and (axis - where) % ref.type.rank:
        return
    raise UnsupportedOp(
        f"{node.op} of a value whose batch is axis {where}", hint="transpose it before, so that its axis 0 is the batch"
    )


def check_made(type_: Type) -> None:
    """Raise UnsupportedOp for a value in which samples meet one another."""
    if type_.shape.count(BATCH) != 1:
        raise UnsupportedOp("mixes the batch with another axis")


def undone(graph: Graph, op: Operator, name: str, maker: Node | None) -> str | None:
    """The value that comes out when `op` takes back what the maker of `name` did; None where it does not."""
    if maker is None or len(maker.inputs) != 1:
        return None
    source, before = maker.inputs[0], maker.op
    if isinstance(op, Permute) and isinstance(before, Permute):
        return source if [before.perm[axis] for axis in op.perm] == sorted(op.perm) else None
    if isinstance(op, Reshape) and isinstance(before, Reshape):
        return source if graph.types[source].shape == op.shape else None
    return None
