"""Mixed precision: sensitivities are what they say, and the assignment is the best one up to a single step."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.assign_bits import assign_bits, loss_sensitivity, output_sensitivity
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.ops.add import Add
from penjing.ops.evaluate import evaluate
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches

SIZES = {"a.weight": 36, "b.weight": 24, "c.weight": 8}


def network() -> Graph:
    net = Network()
    value = net.node(Relu(), net.linear(net.input(6), 6, out="a"), out="r")
    return net.done(net.linear(net.node(Relu(), net.linear(value, 4, out="b"), out="s"), 2, out="c"))


def cost_of(sensitivity: dict[str, dict[int, float]], bits: dict[str, int]) -> float:
    return sum(sensitivity[name][b] for name, b in bits.items())


def size_of(bits: dict[str, int]) -> int:
    return sum(SIZES[name] * b for name, b in bits.items())


costs = st.dictionaries(st.integers(2, 8), st.floats(0, 100), min_size=1, max_size=4)


@given(st.fixed_dictionaries(dict.fromkeys(SIZES, costs)), st.integers(0, 70))
def test_the_assignment_fits_and_misses_the_best_one_by_less_than_one_step(sensitivity, budget):
    graph = network()
    choices = [dict(zip(SIZES, bits, strict=True)) for bits in product(*(sensitivity[name] for name in SIZES))]
    fitting = [cost_of(sensitivity, bits) for bits in choices if size_of(bits) <= 8 * budget]
    if not fitting:
        with pytest.raises(QuantizationError, match="at the least"):
            assign_bits(graph, sensitivity, max_bytes=budget)
        return
    got = assign_bits(graph, sensitivity, max_bytes=budget)
    assert got.keys() == sensitivity.keys()
    assert size_of(got) <= 8 * budget
    one_step = max(max(choices.values()) - min(choices.values()) for choices in sensitivity.values())
    assert cost_of(sensitivity, got) <= min(fitting) + one_step + 1e-9


def test_bits_go_to_the_layer_that_gains_most_from_each_byte():
    sensitivity = {"a.weight": {2: 4.0, 4: 1.0, 8: 0.9}, "b.weight": {2: 1.0, 4: 0.9}, "c.weight": {2: 1.0, 8: 0.0}}
    assert assign_bits(network(), sensitivity, average_bits=2) == {"a.weight": 2, "b.weight": 2, "c.weight": 2}
    # per byte: c gains 1 / 6, a 3 / 9, b 0.1 / 6
    assert assign_bits(network(), sensitivity, max_bytes=17 + 9) == {"a.weight": 4, "b.weight": 2, "c.weight": 2}
    assert assign_bits(network(), sensitivity, max_bytes=17 + 15) == {"a.weight": 4, "b.weight": 2, "c.weight": 8}
    assert assign_bits(network(), sensitivity, average_bits=8) == {"a.weight": 8, "b.weight": 4, "c.weight": 8}


def test_a_choice_that_costs_more_with_more_bits_is_never_taken():
    sensitivity = {"a.weight": {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.0}, "b.weight": {4: 0.0, 8: 0.0}}
    assert assign_bits(network(), sensitivity, average_bits=8) == {"a.weight": 4, "b.weight": 4}


def test_the_sensitivity_of_the_outputs_is_their_error_over_their_square():
    graph = network()
    x = next(batches(graph, 64))[0]
    got = output_sensitivity(graph, collect_layer_inputs(graph, [x]), (3, 8), clip="max")
    assert {name: list(found) for name, found in got.items()} == {name: [3, 8] for name in SIZES}
    rounded = graph.copy()
    rounded.set_constant("a.weight", RoundWeights(3).run(graph).graph.constants["a.weight"])
    values: list[np.ndarray] = []
    for made in (graph, rounded):
        evaluate(made, x, watch=lambda name, array: values.append(array) if name == "a" else None)
    signal = np.square(values[0] - graph.constants["a.bias"].array).mean()
    assert got["a.weight"][3] == pytest.approx(float(np.square(values[1] - values[0]).mean() / signal), rel=1e-3)
    assert got["a.weight"][8] < 0.01 * got["a.weight"][3]


def test_the_sensitivity_of_a_loss_is_its_rise_when_one_layer_is_rounded():
    graph = network()
    x = next(batches(graph, 32))[0]
    (want,) = evaluate(graph, x)

    def loss(made: Graph) -> float:
        return 1 + float(np.square(evaluate(made, x)[0] - want).mean())

    got = loss_sensitivity(graph, loss, (2, 5, 8))
    assert {name: list(found) for name, found in got.items()} == {name: [2, 5, 8] for name in SIZES}
    assert all(found[2] > found[5] > found[8] >= 0 for found in got.values())
    only = RoundWeights(2, clip="mse").run(graph).graph.constants["b.weight"]
    alone = graph.copy()
    alone.set_constant("b.weight", only)
    assert got["b.weight"][2] == pytest.approx(loss(alone) - 1)


def test_mixed_bits_are_better_than_equal_bits_of_the_same_size():
    net = Network()
    x = net.input(12)
    graph = net.done(net.node(Add(), net.linear(x, 8, out="loud"), net.linear(x, 8, out="quiet"), out="sum"))
    graph.set_constant("quiet.weight", Constant(graph.constants["quiet.weight"].array * np.float32(0.01)))
    (inputs,) = next(batches(graph, 64))
    (want,) = evaluate(graph, inputs)

    def loss(made: Graph) -> float:
        return float(np.square(evaluate(made, inputs)[0] - want).mean())

    bits = assign_bits(graph, loss_sensitivity(graph, loss), average_bits=5)
    assert bits == {"loud.weight": 8, "quiet.weight": 2}
    mixed, equal = (RoundWeights(5, clip="mse", overrides=chosen).run(graph).graph for chosen in (bits, {}))
    assert loss(mixed) < 0.2 * loss(equal)


def test_what_does_not_fit_is_refused():
    graph = network()
    good = {"a.weight": {4: 1.0}}
    for budget in ({}, {"average_bits": 4.0, "max_bytes": 100}):
        with pytest.raises(InvalidInput, match="one of the two"):
            assign_bits(graph, good, **budget)
    with pytest.raises(QuantizationError, match=r"36 weights take 4\.00 bits on average, 18 bytes, at the least"):
        assign_bits(graph, good, average_bits=3)
    for bad in ({}, {"a.weight": {}}, {"no.weight": {4: 1.0}}, {"a.weight": {9: 1.0}}, {"a.weight": {4: float("nan")}}):
        with pytest.raises(InvalidInput):
            assign_bits(graph, bad, average_bits=4)
    with pytest.raises(InvalidInput, match="no bits"):
        output_sensitivity(graph, collect_layer_inputs(graph, batches(graph, 4)), ())
    with pytest.raises(InvalidInput, match="ternary"):
        loss_sensitivity(graph, lambda made: 0.0, ("ternary",))
    with pytest.raises(InvalidInput, match="finite"):
        loss_sensitivity(graph, lambda made: float("nan"))
