"""Which values have 16 bits, and what that is good for."""

import numpy as np
import pytest

from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidGraph
from penjing.ir.types import DType, Quant, Type
from penjing.ops.add import Add
from penjing.ops.add_wide import QAddWide
from penjing.ops.evaluate import evaluate
from penjing.ops.fusion import between_roundings
from penjing.ops.layer_norm import LayerNorm, QLayerNorm
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.ops.rms_norm import QRmsNorm, RmsNorm
from penjing.ops.softmax import Softmax
from penjing.ops.wide import wide_quant, wide_values
from penjing.program.interpret import interpret
from penjing.runtime.engines import to_codes
from penjing.testing.networks import Network

WIDTH = 32
RMS = RmsNorm(1, 1e-5)


def feed_forward(net: Network, x: str, out: str) -> str:
    return net.linear(net.node(Relu(), net.linear(x, 48, out=f"{out}.up"), out=f"{out}.relu"), WIDTH, out=f"{out}.down")


def norm_behind():
    """norm(x + f(x)), twice: as in BERT."""
    net = Network()
    x = net.input(5, WIDTH)
    for i in (1, 2):
        total = net.node(Add(), feed_forward(net, x, f"f{i}"), x, out=f"sum{i}")
        x = net.node(LayerNorm(1, 1e-5), total, out=f"norm{i}")
    return net.done(x)


def norm_before(op=RMS, *, read_by_all: bool = False):
    """x + f(norm(x)), twice, and a norm at the end: as in decoders. The stream itself goes from sum to sum."""
    net = Network()
    x = net.linear(net.input(5, WIDTH), WIDTH, out="first")
    for i in (1, 2):
        normed = net.node(op, x, out=f"norm{i}")
        x = net.node(Add(), x, feed_forward(net, normed, f"f{i}"), out=f"sum{i}")
    last = net.node(op, x, out="norm3")
    return net.done(*((last, net.node(Softmax(2), x, out="soft")) if read_by_all else (last,)))


def test_sums_before_norms_and_what_is_added_are_wide():
    assert wide_values(norm_behind()) == {"f1.down", "sum1", "f2.down", "sum2"}


def test_a_stream_between_norms_is_wide_from_its_first_layer_on():
    assert wide_values(norm_before()) == {"first", "f1.down", "sum1", "f2.down", "sum2"}


def test_what_another_operator_reads_is_not_wide_nor_what_only_leads_there():
    # sum2 goes to a softmax: so does all that is added up on the way
    assert wide_values(norm_before(read_by_all=True)) == set()


@pytest.mark.parametrize("what", ["output", "broadcast", "no norm", "clamped", "convolution"])
def test_values_stay_in_8_bits(what):
    net = Network()
    if what == "convolution":  # it adds in passing
        a, b = net.input(3, 4, 4, name="a"), net.input(3, 4, 4, name="b")
        total = net.node(Add(), net.conv(a, 3, out="conv"), b, out="sum")
        assert wide_values(net.done(net.node(LayerNorm(1, 1e-5), total, out="y"))) == set()
        return
    x = net.input(5, WIDTH)
    made = net.linear(x, WIDTH, out="made") if what != "broadcast" else net.linear(x, 1, out="made")
    total = net.node(Add(), made, x, out="sum")
    if what == "no norm":
        graph = net.done(net.node(Softmax(2), total, out="y"))
    elif what == "clamped":
        graph = net.done(net.node(LayerNorm(1, 1e-5), net.node(Relu(), total, out="relu"), out="y"))
    else:
        y = net.node(LayerNorm(1, 1e-5), total, out="y")
        graph = net.done(*((y, total) if what == "output" else (y,)))
    assert wide_values(graph) == ({"sum"} if what == "broadcast" else set())


@pytest.mark.parametrize("graph", [norm_behind(), norm_before(), norm_before(LayerNorm(1, 1e-5))])
def test_the_program_has_them_in_16_bits_and_none_is_rounded_to_8(graph):
    data = np.random.default_rng(1).normal(size=(32, 5, WIDTH)).astype(np.float32)
    wide = wide_values(graph)
    assert wide <= between_roundings(graph)
    program = api.lower(api.quantize(graph, [data]))
    assert {name for name in program.types if program.types[name].dtype is DType.S16} == wide


def test_an_outlier_leaves_the_other_channels_their_accuracy():
    """One channel 300 times as large as the others, which the norm's factor takes back, as in trained Transformers."""
    net = Network()
    x = net.input(5, WIDTH)
    bias, factor = np.zeros(WIDTH), np.ones(WIDTH)
    bias[3], factor[3] = 300.0, 0.01
    made = net.node(Linear(), x, net.weight("w", WIDTH, WIDTH), net.constant("bias", bias), out="made")
    total = net.node(Add(), made, x, out="sum")
    graph = net.done(net.node(LayerNorm(1, 1e-5), total, net.constant("factor", factor), out="y"))
    data = np.random.default_rng(1).normal(size=(64, 5, WIDTH)).astype(np.float32)
    quantized = api.quantize(graph, [data], observer="min-max")
    program = api.lower(quantized)
    (codes,) = interpret(program, *to_codes(program, [data]))
    of_sum, of_y = quantized.types["sum"].quant, program.types[program.outputs[0]].quant
    watched = {}
    evaluate(graph, data, watch=watched.__setitem__)
    in_8_bits = dequantize(quantize(watched["sum"], of_sum.scale, of_sum.zero_point), of_sum.scale, of_sum.zero_point)
    (narrow,) = LayerNorm(1, 1e-5).float_reference(in_8_bits, graph.constants["factor"].array)

    def error(found: np.ndarray) -> float:
        return float(np.abs(np.delete(found - watched["y"], 3, -1)).mean())

    assert 5 * error(dequantize(codes, of_y.scale, of_y.zero_point)) < error(narrow)


@pytest.mark.parametrize(("scale", "zero"), [(0.1, 0), (0.1, 128), (3.0, 255), (1e-30, 7)])
def test_16_bits_hold_eight_times_the_range_in_steps_at_least_16_times_as_fine(scale, zero):
    narrow = Quant((float(np.float32(scale)),), zero)
    wide = wide_quant(narrow)
    assert wide.zero_point == 0
    assert float(wide.scale) * (2**15 - 1) >= 7.99 * float(narrow.scale) * max(zero, 255 - zero)
    assert 16 * float(wide.scale) <= 1.01 * float(narrow.scale)


def test_codes_of_16_bits_have_no_zero_point():
    with pytest.raises(InvalidGraph, match="zero point of 3"):
        QAddWide(1.0, 3, 1.0, 0).infer(Type((1, 4), DType.S16), Type((1, 4), DType.U8))
    with pytest.raises(InvalidGraph, match="zero point of 3"):
        QRmsNorm(1, 0, 0, 3, 0, 0, 255).infer(Type((1, 4), DType.S16), Type((4,), DType.F32))


def test_a_norm_of_16_bits_whose_sums_could_overflow_is_refused():
    n = 2**15 + 1
    with pytest.raises(InvalidGraph, match="overflow"):
        QLayerNorm(1, 0, 0, 0, 0, 255).infer(Type((1, n), DType.S16), Type((n,), DType.F32), Type((n,), DType.F32))
