"""A zero pad before a convolution becomes its padding; where it does not, the reason is given."""

import numpy as np
import pytest

from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Quant, Type
from penjing.ir.verify import verify
from penjing.ops.conv2d import QConv2d
from penjing.ops.depthwise import QDepthwise
from penjing.ops.pad import QPad
from penjing.program.fold_pad import FoldPadIntoConvolution
from penjing.program.interpret import interpret

ZERO = 7


def program(pads=(0, 0, 1, 2, 0, 3, 0, 0), mode="constant", code=ZERO, depthwise=False, pad_leaves=False) -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("padded", stage="lowered")
    quant = Quant((np.float32(0.1),), ZERO)
    x = graph.add_input("x", Type((1, 5, 6, 4), DType.U8, quant))
    shape = (3, 2, 4) if depthwise else (8, 3, 2, 4)
    channels = 4 if depthwise else 8
    w = graph.add_constant("w", Constant(rng.integers(-127, 128, shape, dtype=np.int8)))
    bias = graph.add_constant("bias", Constant(rng.integers(-999, 999, channels, dtype=np.int32)))
    m = graph.add_constant("m", Constant(np.full(channels, 0.01, np.float32)))
    graph.add_node(QPad(pads, mode, code), (x,), ("padded",))
    geometry = ((2, 1), (1, 0, 0, 1), (1, 1))
    quants = (ZERO, 3, 0, 255)
    op = QDepthwise(*geometry, *quants) if depthwise else QConv2d(*geometry, 1, *quants)
    graph.add_node(op, ("padded", w, bias, m), ("y",))
    graph.outputs = ("y", "padded") if pad_leaves else ("y",)
    verify(graph)
    return graph


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_convolution_pads_by_itself(depthwise):
    before = program(depthwise=depthwise)
    result = FoldPadIntoConvolution().run(before)
    verify(result.graph)
    assert [node.op.name for node in result.graph.nodes] == ["q_depthwise" if depthwise else "q_conv2d"]
    assert result.graph.nodes[0].op.padding == (2, 0, 2, 4)
    codes = np.random.default_rng(1).integers(0, 256, (1, 5, 6, 4), dtype=np.uint8)
    np.testing.assert_array_equal(interpret(result.graph, codes)[0], interpret(before, codes)[0])
    assert len(before.nodes) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"code": ZERO + 1}, "means 0"),
        ({"mode": "reflect", "pads": (0, 0, 1, 2, 0, 3, 0, 0)}, "means 0"),
        ({"pads": (0, 0, 1, 0, 0, 0, 0, 0), "pad_leaves": True}, "other users"),
    ],
)
def test_a_reason_is_given_where_the_pad_stays(changes, reason):
    result = FoldPadIntoConvolution().run(program(**changes))
    assert [node.op.name for node in result.graph.nodes] == ["q_pad", "q_conv2d"]
    (remark,) = result.declined
    assert reason in remark.text
