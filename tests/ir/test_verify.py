"""The verifier: each rule, broken once, is named with the node or value and the user's own line."""

import numpy as np
import pytest

from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph, Node, Operation
from penjing.ir.types import Constant, Dim, DType, Quant, Source, State, Type
from penjing.ir.verify import verify
from penjing.ops.concat import Concat
from penjing.ops.f_dequantize import FDequantize
from penjing.ops.f_quantize import FQuantize
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.ops.reshape import QReshape
from penjing.ops.split import Split
from penjing.ops.table import QTable

HERE = Source("net.py", 7, "aten.relu.default")
F32 = Type((Dim("batch", 1), 4))
U8 = Type((Dim("batch", 1), 4), DType.U8, Quant((0.5,), 3))
CODES = np.arange(256, dtype=np.uint8)


def network() -> Graph:
    """x -> relu -> y."""
    graph = Graph("net")
    graph.add_input("x", F32)
    graph.add_node(Relu(), ("x",), ("y",), HERE)
    graph.outputs = ("y",)
    return graph


def program() -> Graph:
    """x -> table -> y, in integers."""
    graph = Graph("net", stage="lowered")
    graph.add_input("x", U8)
    graph.add_constant("t", Constant(CODES))
    graph.add_node(QTable(), ("x", "t"), ("y",), HERE)
    graph.types["y"] = U8
    graph.outputs = ("y",)
    return graph


def refused(graph: Graph) -> InvalidGraph:
    with pytest.raises(InvalidGraph) as caught:
        verify(graph)
    assert type(caught.value) is InvalidGraph
    return caught.value


@pytest.mark.parametrize("make", [network, program])
def test_a_legal_graph_passes(make):
    verify(make())


@pytest.mark.parametrize("stage", ["imported", "cleaned", "compressed"])
def test_every_float_stage_is_known(stage):
    graph = network()
    graph.stage = stage
    verify(graph)


def test_an_unknown_stage_is_named():
    graph = network()
    graph.stage = "baked"
    error = refused(graph)
    assert error.what == "unknown stage 'baked'"
    assert error.where == "graph net"


def break_node(graph: Graph, **changes) -> Graph:
    (node,) = graph.nodes
    parts = {"op": node.op, "inputs": node.inputs, "outputs": node.outputs} | changes
    graph.nodes = [Node(parts["op"], parts["inputs"], parts["outputs"], HERE)]
    return graph


def clash() -> Graph:
    return break_node(network(), outputs=("x",))


def twice() -> Graph:
    graph = network()
    graph.nodes = [*graph.nodes, *graph.nodes]
    return graph


def twice_in_one_node() -> Graph:
    graph = network()
    graph.nodes = []
    graph.add_node(Split(1, (2, 2)), ("x",), ("y", "z"))
    return break_node(graph, outputs=("y", "y"))


def late() -> Graph:
    graph = network()
    graph.add_node(Relu(), ("y",), ("z",))
    graph.nodes.reverse()
    graph.outputs = ("z",)
    return graph


def wrong_shape() -> Graph:
    graph = network()
    graph.types["y"] = Type((Dim("batch", 1), 5))
    return graph


def wrong_bound() -> Graph:
    graph = network()
    graph.types["y"] = Type((Dim("batch", 2), 4))
    return graph


def wrong_dtype() -> Graph:
    graph = network()
    graph.types["y"] = Type(F32.shape, DType.U8)
    return graph


def no_type() -> Graph:
    graph = network()
    del graph.types["y"]
    return graph


def rule_refuses() -> Graph:
    graph = network()
    graph.add_constant("w", Constant(np.zeros((3, 5), np.float32)))
    return break_node(graph, op=Linear(), inputs=("x", "w"))


def too_few_inputs() -> Graph:
    return break_node(network(), op=Linear(), inputs=("x",))


def no_inputs() -> Graph:
    return break_node(network(), op=Concat(1), inputs=())


def too_many_outputs() -> Graph:
    graph = network()
    graph.types["z"] = F32
    return break_node(graph, outputs=("y", "z"))


def too_few_outputs() -> Graph:
    return break_node(network(), op=Split(1, (2, 2)))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (clash, "value %x is defined twice"),
        (twice, "value %y is defined twice"),
        (twice_in_one_node, "value %y is defined twice"),
        (lambda: break_node(network(), outputs=("",)), "value % is defined twice"),
        (late, "input %y is not defined before its use"),
        (lambda: break_node(network(), inputs=("nowhere",)), "input %nowhere is not defined before its use"),
        (wrong_shape, "%y is recorded as Type(shape=(Dim(name='batch', max=1), 5)"),
        (wrong_bound, "%y is recorded as Type(shape=(Dim(name='batch', max=2), 4)"),
        (wrong_dtype, "the shape rule says"),
        (no_type, "%y is recorded as None"),
        (rule_refuses, "4 features, but the weight has 5"),
        (too_few_inputs, "linear cannot take (%x f32(1, 4))"),
        (no_inputs, "concat cannot take ()"),
        (too_many_outputs, "relu makes 1 values, not 2"),
        (too_few_outputs, "split makes 2 values, not 1"),
    ],
)
def test_a_broken_node_is_named_with_its_source(make, what):
    error = refused(make())
    assert what in error.what
    if make not in (late, twice_in_one_node):
        assert "net.py:7, from aten.relu.default" in error.where
    assert error.where.startswith("node ")


def test_a_shape_rule_that_names_its_own_place_keeps_it():
    class Placed(Relu):
        def infer(self, *inputs):
            raise InvalidGraph("no", where="row 3")

    graph = network()
    graph.nodes = [Node(Placed(), ("x",), ("y",), HERE)]
    assert refused(graph).where == "row 3"


def typed(type_: Type) -> Graph:
    graph = network()
    graph.types["x"] = type_
    graph.nodes = []
    graph.outputs = ("x",)
    del graph.types["y"]
    return graph


@pytest.mark.parametrize(
    ("type_", "what"),
    [
        (Type((1,) * 7), "%x has rank 7, more than 6"),
        (Type((4, 0)), "%x has an extent of 0"),
        (Type((4, -1)), "%x has an extent of -1"),
        (Type((Dim("n", 0),)), "%x has an extent of n<=0"),
        (Type((Dim("长", 3),)), "%x has an extent of 长<=3"),
        (Type((4,), quant=Quant((0.0,))), "%x has a scale that is not a positive number"),
        (Type((4,), quant=Quant((-1.0,))), "%x has a scale that is not a positive number"),
        (Type((4,), quant=Quant((float("nan"),))), "%x has a scale that is not a positive number"),
        (Type((4,), quant=Quant((float("inf"),))), "%x has a scale that is not a positive number"),
        (Type((4,), quant=Quant((1.0, 1.0))), "%x of (4,) has 2 scales along None"),
        (Type((4, 3), quant=Quant((1.0,) * 3, 0, 0)), "%x of (4, 3) has 3 scales along 0"),
        (Type((4, 3), quant=Quant((1.0,) * 3, 0, 2)), "%x of (4, 3) has 3 scales along 2"),
        (Type((4,), DType.U8, Quant((1.0,), 256)), "%x has zero point 256, which is no u8 code"),
        (Type((4,), DType.U8, Quant((1.0,), -1)), "%x has zero point -1, which is no u8 code"),
        (Type((4,), DType.S8, Quant((1.0,), 128)), "%x has zero point 128, which is no s8 code"),
    ],
)
def test_a_type_that_no_value_can_have_is_named(type_, what):
    error = refused(typed(type_))
    assert error.what == what
    assert error.where == "graph net"


@pytest.mark.parametrize(
    "type_",
    [
        Type((1,) * 6),
        Type(()),
        Type((Dim("s0.1_a", 2**31 - 1),)),
        Type((4, 3), quant=Quant((1.0, 2.0, 3.0), 0, 1)),
        Type((4,), DType.U8, Quant((1e-38,), 255)),
        Type((4,), DType.S16, Quant((1.0,), -(2**15))),
    ],
)
def test_types_at_their_limits_pass(type_):
    verify(typed(type_))


def test_the_same_value_cannot_be_input_constant_or_state_at_once():
    for change in (
        lambda g: g.constants.update(x=Constant(CODES)),
        lambda g: g.states.update(x=State(F32, "y")),
        lambda g: setattr(g, "inputs", ("x", "x")),
        lambda g: setattr(g, "inputs", ("x", "")),
    ):
        graph = network()
        change(graph)
        assert "is defined twice" in refused(graph).what


def test_an_input_without_a_type_is_named():
    graph = network()
    graph.inputs = ("x", "z")
    assert refused(graph).what == "value %z has no type"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_constant_that_is_not_finite_is_named(bad):
    graph = network()
    graph.add_constant("0.weight", Constant(np.float32([[1, 2], [3, bad]])))
    error = refused(graph)
    assert error.what == "constant %0.weight holds NaN or infinity"
    assert error.hint == "check the training run that made it"


def test_a_constant_recorded_with_another_type_is_named():
    graph = network()
    graph.add_constant("w", Constant(CODES))
    graph.types["w"] = F32
    assert refused(graph).what.startswith("constant %w is Type(shape=(256,)")


def test_a_type_left_over_from_a_value_that_is_gone_is_named():
    graph = network()
    graph.types["ghost"] = F32
    assert refused(graph).what == "types recorded for values that do not exist: ['ghost']"


@pytest.mark.parametrize("outputs", [(), ("z",), ("y", "z")])
def test_outputs_must_exist(outputs):
    graph = network()
    graph.outputs = outputs
    assert refused(graph).what == ("it has no outputs" if not outputs else "output %z is never computed")


def stateful(update: str = "y", type_: Type = F32, initial: float = 0.0) -> Graph:
    graph = network()
    graph.states["h"] = State(type_, update, initial)
    graph.types["h"] = type_
    return graph


def test_a_state_is_replaced_by_a_value_of_its_own_type():
    verify(stateful())
    assert refused(stateful("nowhere")).what == "output %nowhere is never computed"
    assert "its update %y is" in refused(stateful(type_=Type((Dim("batch", 1), 5)))).what
    assert refused(stateful(initial=float("nan"))).what == "state %h starts at nan"


def test_networks_may_return_inputs_constants_and_one_value_twice():
    graph = network()
    graph.outputs = ("x", "y", "y")
    verify(graph)


@pytest.mark.parametrize("outputs", [("x",), ("y", "y"), ("t",)])
def test_each_output_of_a_program_is_a_value_of_its_own(outputs):
    graph = program()
    graph.outputs = outputs
    assert refused(graph).what == f"output %{outputs[-1]} is not a value of its own"


def test_no_floats_enter_a_program():
    graph = program()
    graph.types["x"] = F32
    assert refused(graph).what == "float value %x enters or leaves the lowered stage"


def test_no_floats_leave_a_program():
    class Loose(Operation):
        name = "q_loose"

        def infer(self, *inputs):
            return (F32,)

        def integer_reference(self, *inputs):
            return inputs

    graph = break_node(program(), op=Loose())
    graph.types["y"] = F32
    assert refused(graph).what == "float value %y enters or leaves the lowered stage"


def test_floats_may_go_from_node_to_node_of_a_program():
    graph = program()
    (x,) = graph.inputs
    graph.add_node(FDequantize(1.0, 0), (x,), ("real",))
    graph.add_node(FQuantize(1.0, 0), ("real",), ("z",))
    graph.outputs = ("z",)
    verify(graph)


@pytest.mark.parametrize("stage", ["lowered", "planned"])
def test_an_operator_without_an_integer_meaning_cannot_stand_in_a_program(stage):
    class Loose(Relu):
        def infer(self, *inputs):
            return (Type(inputs[0].shape, DType.U8),)

    graph = break_node(program(), op=Loose(), inputs=("x",))
    graph.stage = stage
    error = refused(graph)
    assert error.what == "relu has no integer meaning and cannot stand in a program"
    assert "net.py:7" in error.where


def test_float_constants_of_a_program_are_its_multipliers_and_may_stand_there():
    graph = program()
    graph.add_constant("m", Constant(np.float32([0.5])))
    verify(graph)


def test_an_alias_in_a_program_is_a_value_of_its_own():
    graph = program()
    graph.add_node(QReshape((Dim("batch", 1), 2, 2)), ("y",), ("z",))
    graph.outputs = ("y", "z")
    verify(graph)
