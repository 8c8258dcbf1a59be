"""What kernels are given at each length: exact polynomials, or an error with the node and the field."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing import api, assembly
from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.types import LENGTH, Dim, DType, Type
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.concat import Concat
from penjing.ops.gru import Gru
from penjing.ops.linear import QLinear
from penjing.ops.matmul import Matmul
from penjing.ops.mean import Mean
from penjing.ops.operator import IntegerOperator
from penjing.ops.permute import Permute
from penjing.ops.prefix import Prefix
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Select
from penjing.program.interpret import interpret
from penjing.program.lengths import Polynomial, length_fault, varying_fields
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import BATCH, Network
from penjing.testing.plan_check import plan_problems
from penjing.toolchain import host_target
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.prepare import prepare
from penjing.vector.specialise import choose

LONGEST = 40
STEPS = Dim(LENGTH, LONGEST)
PLAIN = dataclasses.replace(host_target(), isas=())

small = st.integers(-50, 50)


@given(small, small, small, st.integers(2, 600))
def test_a_polynomial_is_found_exactly(a, b, c, bound):
    found = varying_fields(lambda n: {"field": a + b * n + c * n * n, "same": (7, a)}, bound)
    values = {a + b * n + c * n * n for n in range(1, bound + 1)}
    assert set(found) == ({"field"} if len(values) > 1 else set())
    for n in range(1, bound + 1):
        assert "field" not in found or found["field"].at(n) == a + b * n + c * n * n


@pytest.mark.parametrize(
    ("polynomial", "text"),
    [
        (Polynomial(0, 1, 0), "length"),
        (Polynomial(0, 64, 0), "64 * length"),
        (Polynomial(-1, 1, 0), "length - 1"),
        (Polynomial(3, -2, 1), "length * length - 2 * length + 3"),
        (Polynomial(5, 0, -4), "-4 * length * length + 5"),
        (Polynomial(0, 0, 0), "0"),
    ],
)
def test_its_text_is_c(polynomial, text):
    assert str(polynomial) == text


@pytest.mark.parametrize(
    "field",
    [
        lambda n: (n + 3) // 4,
        lambda n: min(n, 16),
        lambda n: n**3,
        lambda n: n * (n + 1) // 2,
        lambda n: n % 2,
        lambda n: 0 if n == LONGEST else 1,
        lambda n: 0 if n == LONGEST - 1 else 1,
        lambda n: n * 10**9,
        lambda n: 1.0 / n,
    ],
)
def test_what_is_no_polynomial_is_an_error_that_names_the_field(field):
    with pytest.raises(InvalidGraph, match=r"its field rows\[1\] is no polynomial"):
        varying_fields(lambda n: {"rows": (1, field(n))}, LONGEST)


@dataclasses.dataclass(frozen=True)
class _Tiled(QLinear):
    """A kernel that is told in how many tiles of four rows it works."""

    def kernel_params(self, inputs, outputs):
        return {**super().kernel_params(inputs, outputs), "tiles": -(-inputs[0].bounds[1] // 4)}


@dataclasses.dataclass(frozen=True)
class _Greedy(QLinear):
    """A kernel that needs more memory for short sequences."""

    def scratch_bytes(self, inputs, outputs):
        return 1000 - inputs[0].bounds[1]


def _linear_types(steps=STEPS):
    wide = Type((8, 16), DType.S8), Type((8,), DType.S32), Type((8,), DType.F32)
    return (Type((BATCH, steps, 16), DType.U8), *wide)


def test_a_kernel_that_is_no_polynomial_of_the_length_leaves_the_node_to_another(monkeypatch):
    types, op = _linear_types(), QLinear(0, 0, 0, 255)
    assert length_fault(op, types, op.infer(*types), LONGEST) is None
    for cls, why in ((_Tiled, "field tiles"), (_Greedy, "scratch memory at length 1")):
        faulty = cls(0, 0, 0, 255)
        assert why in (length_fault(faulty, types, faulty.infer(*types), LONGEST) or "")
        made = type("Made", (VectorOperator,), {"name": "v_made", "take": lambda *_, op=faulty: Taken(op, {})})
        monkeypatch.setattr("penjing.vector.specialise._by_name", lambda made=made: {"q_linear": [made]})
        taken, reasons = choose(op, types, [None] * 4)
        assert taken is None and why in reasons[0]
        taken, _ = choose(op, _linear_types(LONGEST), [None] * 4)  # of one length, it may stand there
        assert taken is not None


def test_a_node_that_no_kernel_can_compute_is_named_where_c_is_made():
    net = Network()
    program = api.lower(api.quantize(net.done(net.linear(net.input(STEPS, 16), 8, out="fc")), [_data(16)]))
    (node,) = program.nodes
    op = _Tiled(*(getattr(node.op, field.name) for field in dataclasses.fields(node.op)))
    program.nodes = [dataclasses.replace(node, op=op)]
    with pytest.raises(InvalidGraph, match="field tiles") as caught:
        assembly.emit(prepare(program, PLAIN), standalone=True)
    assert "node fc" in str(caught.value.where)


def _data(features, length=LONGEST, count=4):
    return np.random.default_rng(length).normal(size=(count, length, features)).astype(np.float32)


def _checked(graph, features, *, target=PLAIN):
    program = api.lower(api.quantize(graph, [_data(features, n) for n in (LONGEST, 1, 6)]))
    prepared = prepare(program, target)
    assert plan_problems(prepared.program, prepared.plan) == []
    samples = corner_samples(program, np.random.default_rng(0), 10)
    assert run_model_suite(program, samples, target, optimize="-O0").problems == ()
    return program, prepared


def test_recurrent_layers_run_along_it_and_concats_of_features_lie_in_place():
    net = Network()
    x = net.input(STEPS, 6)
    y, back = (
        net.graph.add_node(Gru(reverse), (x, *_gru(net, name, 6)), (name, f"{name}.last")).outputs[0]
        for name, reverse in (("gru", False), ("back", True))
    )
    both = net.node(Concat(2), y, back, out="both")
    ends = net.node(Select(1, -1), both, out="last")
    _checked(net.done(net.node(Relu(), both, out="relu"), ends), 6)


def _gru(net, name, features, units=8):
    shapes = {"w_ih": (3 * units, features), "w_hh": (3 * units, units), "b_ih": (3 * units,), "b_hh": (3 * units,)}
    return [net.weight(f"{name}.{key}", *shape) for key, shape in shapes.items()]


def test_parts_whose_places_follow_the_length_are_copied():
    """(N, 2, L, C) joined along axis 1 lie 2 * L * C bytes apart, which no plan for the longest knows."""
    net = Network()
    x = net.input(STEPS, 6)
    parts = []
    for i in range(2):
        heads = net.node(Reshape((BATCH, STEPS, 1, 6)), net.linear(x, 6, out=f"fc{i}"), out=f"split{i}")
        parts.append(net.node(Permute((0, 2, 1, 3)), heads, out=f"head{i}"))
    joined = net.node(Concat(1), *parts, out="joined")
    scores = net.node(Matmul(), joined, net.node(Permute((0, 1, 3, 2)), joined, out="t"), out="scores")
    _checked(net.done(scores, net.node(Mean((2,)), joined, out="mean")), 6)


def test_a_prefix_of_a_constant_is_its_own_bytes_where_it_can_be():
    net = Network()
    x = net.input(STEPS, 6)
    table = net.node(Prefix(0, 1), net.weight("table", LONGEST, 6), x, out="part")
    tall = net.node(Prefix(1, 1), net.weight("tall", 3, LONGEST, 6), x, out="tall.part")
    y = net.node(registry()["add"](), x, table, out="sum")
    z = net.node(registry()["mul"](), net.node(Reshape((BATCH, 1, STEPS, 6)), y, out="four"), tall, out="product")
    program, prepared = _checked(net.done(z, table), 6)  # one is returned too, and copied
    places = prepared.plan.places
    part = next(node for node in program.nodes if node.op.name == "q_prefix" and node.outputs[0] == "part")
    assert places[part.inputs[0]].base == "weights"
    assert any(node.op.name == "q_prefix" and places[node.outputs[0]].base == "weights" for node in program.nodes)


def test_the_text_reads_back():
    net = Network()
    graph = net.done(net.linear(net.input(STEPS, 16), 8, out="fc"))
    text = print_graph(graph)
    assert "f32[batch<=1, length<=40, 16]" in text
    arrays = {name: constant.array for name, constant in graph.constants.items()}
    again = parse_graph(text, arrays, registry())
    assert print_graph(again) == text and again.types["x"].shape[1] == STEPS


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((STEPS, 8), "axis 0"),
        ((BATCH, STEPS, Dim(LENGTH, 8)), "different bounds"),
    ],
)
def test_two_lengths_or_one_in_the_place_of_the_batch_are_no_graph(shape, what):
    net = Network()
    net.graph.add_input("x", Type(shape))
    with pytest.raises(InvalidGraph, match=what):
        net.done(net.node(Relu(), "x", out="y"))


def test_a_shape_rule_that_takes_the_bound_for_an_extent_is_found():
    net = Network()
    x = net.input(STEPS, 6)
    graph = net.done(net.node(Relu(), x, out="y"))
    program = api.lower(api.quantize(graph, [_data(6)]))
    node = program.nodes[0]
    program.nodes = [dataclasses.replace(node, op=_Careless())]
    with pytest.raises(InvalidGraph, match="at the bound and at 1"):
        verify(program)


@dataclasses.dataclass(frozen=True)
class _Careless(IntegerOperator):
    name = "careless"

    def infer(self, *inputs):
        return (inputs[0].with_shape((BATCH, STEPS, 6)),)

    def integer_reference(self, *inputs):
        return inputs[:1]


def test_streams_and_states_of_any_length_are_refused():
    net = Network()
    x = net.input(STEPS, 6)
    h = net.graph.add_input("h", Type((BATCH, 1, 6)))
    y = net.node(registry()["add"](), x, h, out="y")
    graph = net.done(y, net.node(Relu(), h, out="next"))
    data = [(_data(6), _data(6, 1))]
    quantized = api.quantize(graph, data)
    with pytest.raises(InvalidInput, match="any length cannot be streamed"):
        api.stream(quantized, axis={"x": 2})
    with pytest.raises(InvalidInput, match="any length cannot carry states"):
        api.quantize(graph, data, carry={"h": "next"})


def test_the_oracle_runs_at_the_actual_length_and_refuses_more():
    net = Network()
    program = api.lower(api.quantize(net.done(net.node(Mean((1,)), net.input(STEPS, 6), out="mean")), [_data(6)]))
    x = np.zeros((1, LONGEST + 1, 6), np.uint8)
    assert interpret(program, x[:, :3])[0].shape == (1, 6)
    for wrong in (x, x[:, :0]):
        with pytest.raises(InvalidInput, match="1 to 40"):
            interpret(program, wrong)
