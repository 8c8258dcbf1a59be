"""Inputs and outputs that become states: codes that both ends share, and what is refused."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.carry_states import CarryStates, shared_ranges
from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.parse import parse_graph
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import State
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.add import Add
from penjing.ops.relu import Relu
from penjing.ops.sigmoid import Sigmoid
from penjing.testing.networks import Network
from penjing.testing.stateful import STATEFUL, average, delay


def network():
    net = Network("net")
    x, h = net.input(4, name="x"), net.input(4, name="h")
    total = net.node(Add(), x, h, out="total")
    return net.done(net.node(Relu(), total, out="y"), total)


def test_observed_codes_cover_both_ends():
    ranges = Ranges({"x": (-1.0, 1.0), "h": (-2.0, 0.5), "total": (-1.0, 3.0), "y": (0.0, 3.0)}, 1)
    assert shared_ranges(network(), ranges, {"h": "total"}).ranges == {
        "x": (-1.0, 1.0), "h": (-2.0, 3.0), "total": (-2.0, 3.0), "y": (0.0, 3.0)
    }  # fmt: skip


def test_codes_that_an_operator_fixes_are_taken():
    net = Network("net")
    x, h = net.input(4, name="x"), net.input(4, name="h")
    gate = net.node(Sigmoid(), net.node(Add(), x, h, out="total"), out="gate")
    graph = net.done(net.node(Relu(), gate, out="y"), gate)
    ranges = Ranges({"x": (-1.0, 1.0), "h": (-9.0, 9.0), "total": (-2.0, 2.0), "y": (0.0, 1.0)}, 1)
    assert shared_ranges(graph, ranges, {"h": "gate"}).ranges["h"] == (0.0, 255 / 256)


@pytest.mark.parametrize("name", STATEFUL)
def test_programs_with_states_are_valid_and_read_back(name):
    program = STATEFUL[name]()
    verify(program)
    text = print_graph(program)
    weights = {key: constant.array for key, constant in program.constants.items()}
    assert print_graph(parse_graph(text, weights, registry())) == text
    for key, state in program.states.items():
        assert program.types[state.update].quant == program.types[key].quant


def test_a_state_may_begin_elsewhere():
    ranges = shared_ranges(network(), Ranges(dict.fromkeys(("x", "h", "total", "y"), (-4.0, 4.0)), 1), {"h": "total"})
    from penjing.compress.quantize.quantize_static import QuantizeStatic

    graph, _ = run_passes(network(), [QuantizeStatic(ranges), CarryStates({"h": "total"}, {"h": 2.0})])
    program = api.lower(graph)
    quant = program.types["h"].quant
    from penjing.program.states import initial_states

    code = initial_states(program)["h"]
    assert code.tolist() == [[round(2.0 / float(quant.scale)) + quant.zero_point] * 4]


@pytest.mark.parametrize(
    ("pairs", "said"),
    (
        ({"g": "total"}, "no input g"),
        ({"h": "x"}, "no output x"),
        ({"h": "total", "x": "total"}, "one output cannot replace two"),
        ({"h": "total", "x": "y"}, "needs an input and an output besides"),
    ),
)
def test_pairs_that_do_not_fit_are_refused(pairs, said):
    rng = np.random.default_rng(0)
    batches = [tuple(rng.normal(size=(8, 4)).astype(np.float32) for _ in range(2))]
    with pytest.raises(InvalidInput, match=said):
        api.quantize(network(), batches, carry=pairs)


def test_another_shape_is_refused():
    net = Network("net")
    x, h = net.input(4, name="x"), net.input(5, name="h")
    graph = net.done(net.node(Relu(), x, out="a"), net.node(Relu(), h, out="b"))
    with pytest.raises(InvalidInput, match="has shape"):
        shared_ranges(graph, Ranges({}, 0), {"h": "a"})


def test_what_was_quantized_apart_is_refused():
    rng = np.random.default_rng(0)
    batches = [tuple(rng.normal(size=(8, 4)).astype(np.float32) for _ in range(2))]
    with pytest.raises(InvalidInput, match="different codes"):
        CarryStates({"h": "total"}).run(api.quantize(network(), batches))


def test_only_what_is_carried_begins():
    with pytest.raises(InvalidInput, match="is not carried"):
        CarryStates({"h": "total"}, {"x": 1.0}).run(network())


def test_a_program_whose_update_is_no_value_of_its_own_is_refused():
    program = delay()
    program.states["second"] = State(program.types["second"], "first")
    with pytest.raises(InvalidGraph, match="not a value of its own"):
        verify(program)
    program = average()
    program.states["m"] = State(program.types["m"], program.outputs[0])
    with pytest.raises(InvalidGraph, match="not a value of its own"):
        verify(program)
