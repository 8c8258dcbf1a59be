"""Networks of recurrent layers, compiled for this machine, equal the interpreter, their states included."""

import numpy as np
import pytest

from penjing import api
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Type
from penjing.ops.concat import Concat
from penjing.ops.evaluate import evaluate
from penjing.ops.gru import Gru
from penjing.ops.linear import Linear
from penjing.ops.lstm import Lstm, QLstm
from penjing.ops.permute import Permute
from penjing.ops.rnn import QRnn, Rnn
from penjing.ops.slice import Select
from penjing.program.check import check_accumulators
from penjing.program.interpret import interpret
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import Network, batches

STEPS = 21


def weights(net: Network, name: str, gates: int, features: int, units: int, width: int) -> tuple[str, ...]:
    rows = gates * units
    matrices = (net.weight(f"{name}.ih", rows, features), net.weight(f"{name}.hh", rows, width))
    biases = (net.constant(f"{name}.{k}", 0.2 * net.rng.normal(size=rows)) for k in ("b_ih", "b_hh"))
    return (*matrices, *biases)


def every_layer() -> Graph:
    """Both directions of an LSTM, one with states from outside, then GRU, projected LSTM, rectified, plain layer."""
    net = Network("recurrent")
    x, h, c = net.input(6, STEPS), net.input(9, name="h"), net.input(9, name="c")
    x = net.node(Permute((0, 2, 1)), x, out="steps")
    there = net.graph.add_node(
        Lstm(), (x, *weights(net, "there", 4, 6, 9, 9), "", h, c), ("there", "there.cell")
    ).outputs
    back = net.graph.add_node(Lstm(True), (x, *weights(net, "back", 4, 6, 9, 9)), ("back", "back.cell")).outputs
    both = net.node(Concat(2), there[0], back[0], out="both")
    gru = net.graph.add_node(
        Gru(), (both, *weights(net, "gru", 3, 18, 7, 7), net.constant("start", 0.5 * net.rng.normal(size=(1, 7)))),
        ("gru", "gru.last"),
    ).outputs  # fmt: skip
    inner = (*weights(net, "inner", 4, 7, 10, 4), net.weight("inner.hr", 4, 10))
    projected = net.graph.add_node(Lstm(False, True), (gru[0], *inner), ("inner", "inner.cell")).outputs
    rectified = net.node(Rnn(True, True), projected[0], *weights(net, "rectified", 1, 4, 5, 5), out="rectified")
    plain = net.node(Rnn(), rectified, *weights(net, "plain", 1, 5, 8, 8), out="plain")
    last = net.node(Select(1, STEPS - 1), plain, out="last")
    y = net.node(Linear(), last, net.weight("head", 3, 8), out="y")
    return net.done(y, there[1], gru[1], rectified)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return every_layer()


@pytest.fixture(scope="module")
def program(graph) -> Graph:
    return api.lower(api.quantize(graph, batches(graph, 32)))


def test_a_network_of_recurrent_layers_equals_the_interpreter(program, host, rng):
    report = run_model_suite(program, corner_samples(program, rng, 12), host, optimize="-O1")
    assert not report.problems, "\n".join(report.problems)


def test_all_layers_of_a_program_share_their_tables(program):
    tables = [name for name, constant in program.constants.items() if constant.array.shape == (2048,)]
    assert sorted(tables) == ["sigmoid.table", "tanh.table"]


def test_the_program_stays_near_the_network(graph, program):
    inputs = batches(graph, 16)
    inputs = inputs if isinstance(inputs, tuple) else next(iter(inputs))
    quants = [program.types[name].quant for name in program.inputs]
    codes = [
        np.clip(np.rint(x / q.scale) + q.zero_point, 0, 255).astype(np.uint8)
        for x, q in zip(inputs, quants, strict=True)
    ]
    for name, got, real in zip(program.outputs, interpret(program, *codes), evaluate(graph, *inputs), strict=True):
        quant = program.types[name].quant
        off = np.abs(quant.scale * (got.astype(np.float64) - quant.zero_point) - real)
        assert off.mean() < 3 * quant.scale, name


def test_samples_of_a_batch_do_not_mix(program, rng):
    codes = [rng.integers(0, 256, (3, *program.types[name].bounds[1:]), dtype=np.uint8) for name in program.inputs]
    together = interpret(program, *codes)
    for i in range(3):
        alone = interpret(program, *(x[i : i + 1] for x in codes))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[i : i + 1], b)


def test_a_state_carried_on_is_a_longer_sequence():
    """Cutting a sequence in two and handing on h and the 16-bit cell changes no byte."""
    plain = next(s for s in QLstm.samples() if s.inputs[0].shape[1] == 5 and not s.op.reverse)
    x, *constants = plain.inputs
    whole, cell = plain.op.integer_reference(x, *constants)
    first, between = plain.op.integer_reference(x[:, :2], *constants)
    carried = QLstm(plain.op.x_zero, 128, False, False, True)
    second, last = carried.integer_reference(x[:, 2:], *constants, first[:, -1], between)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_array_equal(last, cell)


@pytest.mark.parametrize("place", [1, 4])
def test_sums_that_could_overflow_are_refused(place):
    program = Graph("overflow", stage="lowered")
    arrays = [np.ones((2, 3), np.int8), np.zeros(2, np.int32), np.ones(2, np.float32)]
    arrays += [np.ones((2, 2), np.int8), np.zeros(2, np.int32), np.ones(2, np.float32), np.zeros(2048, np.int16)]
    arrays[place] = np.full(2, 2**31 - 256, np.int32)
    names = [program.add_constant(f"c{i}", Constant(array)) for i, array in enumerate(arrays)]
    program.add_node(
        QRnn(0, 128, False, False, False), (program.add_input("x", Type((1, 4, 3), DType.U8)), *names), ("y",)
    )
    program.outputs = ("y",)
    with pytest.raises(QuantizationError, match="over the int32 limit"):
        check_accumulators(program)
