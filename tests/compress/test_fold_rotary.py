"""Rotary embeddings as people write them in torch become one operator, which rounds once; what is none stays."""

import numpy as np
import pytest

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.structure.fold_rotary import FoldRotary
from penjing.core.arithmetic import dequantize, quantize
from penjing.ir.passes import run_passes
from penjing.ops.add import Add, Sub
from penjing.ops.concat import Concat
from penjing.ops.evaluate import evaluate
from penjing.ops.mul import Mul
from penjing.ops.relu import Relu
from penjing.ops.rotary import Rotary
from penjing.ops.slice import Slice
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import Network

torch = pytest.importorskip("torch")

STEPS, HEADS, FEATURES = 6, 3, 8
INVERSE = 100.0 ** (-torch.arange(0, FEATURES, 2) / FEATURES)
ANGLES = torch.outer(torch.arange(STEPS).float(), INVERSE)
BOTH = torch.cat((ANGLES, ANGLES), -1)


def half(x):
    a, b = x[..., : FEATURES // 2], x[..., FEATURES // 2 :]
    return torch.cat((-b, a), -1)


def every_two(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def halves(x):
    return x * BOTH.cos() + half(x) * BOTH.sin()


def computed(x):
    angles = torch.outer(torch.arange(x.shape[2]).float(), INVERSE)
    angles = torch.cat((angles, angles), -1)
    return half(x) * angles.sin() + x * angles.cos()


def pairs(x):
    a, b = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * ANGLES.cos() - b * ANGLES.sin(), a * ANGLES.sin() + b * ANGLES.cos()), -1).flatten(-2)


def neighbours(x):
    return x * ANGLES.cos().repeat_interleave(2, -1) + every_two(x) * ANGLES.sin().repeat_interleave(2, -1)


SPELLINGS = {halves: False, computed: False, pairs: True, neighbours: True}


class Turned(torch.nn.Module):
    def __init__(self, spelling, axis) -> None:
        super().__init__()
        self.spelling, self.axis = spelling, axis

    def forward(self, x):
        x = x.unflatten(-1, (HEADS, FEATURES))
        if self.axis == 2:
            return self.spelling(x.transpose(1, 2))
        return self.spelling(x.transpose(1, 2)).transpose(1, 2)


def captured(spelling, axis=2):
    from penjing.frontends.torch_export import capture

    return capture(Turned(spelling, axis).eval(), torch.randn(2, STEPS, HEADS * FEATURES))


def data(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def error(graph, x, want):
    program = lower(QuantizeStatic(calibrate(graph, [x], "min-max")).run(graph).graph)
    a, b = (program.types[name].quant for name in (program.inputs[0], program.outputs[0]))
    got = dequantize(interpret(program, quantize(x, a.scale, a.zero_point))[0], b.scale, b.zero_point)
    return float(np.square(got - want).mean())


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: spelling.__name__)
def test_a_rotation_is_found_however_it_is_written(spelling):
    graph = captured(spelling)
    folded, (log,) = run_passes(graph, [FoldRotary()])
    assert [node.op.name for node in folded.nodes] == ["reshape", "permute", "rotary"]
    assert folded.nodes[-1].op == Rotary(2, SPELLINGS[spelling])
    assert len(log.changed) == 1 and "rotation" in log.changed[0].text
    x = data(4, STEPS, HEADS * FEATURES)
    (want,) = evaluate(graph, x)
    np.testing.assert_allclose(evaluate(folded, x)[0], want, atol=1e-5)
    # 2.5 dB and more were measured
    assert error(folded, x, want) < 0.7 * error(graph, x, want)


def rotation(net, x, cos, sin, *, out="y"):
    """With the halves exchanged by slices."""
    features = net.graph.types[x].bounds[-1]
    axis = net.graph.types[x].rank - 1
    a = net.node(Slice(axis, features // 2, features), x, out=f"{out}.b")
    b = net.node(Slice(axis, 0, features // 2), x, out=f"{out}.a")
    other = net.node(Concat(axis), a, b, out=f"{out}.other")
    turned = net.node(Mul(), other, net.constant(f"{out}.s", sin), out=f"{out}.t")
    return net.node(Add(), net.node(Mul(), x, net.constant(f"{out}.c", cos), out=f"{out}.k"), turned, out=out)


def test_what_others_read_of_it_stays():
    net = Network("read")
    y = rotation(net, net.input(5, 4), *data(2, 5, 4))
    graph = net.done(y, net.node(Relu(), "y.other", out="z"))
    folded = FoldRotary().run(graph).graph
    assert [node.op.name for node in folded.nodes] == ["slice", "slice", "concat", "rotary", "relu"]
    x = data(2, 5, 4)
    for got, want in zip(evaluate(folded, x), evaluate(graph, x), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def by_head(net):
    return rotation(net, net.input(3, 5, 4), *data(2, 3, 5, 4))


def with_an_offset(net):
    x = net.input(5, 4)
    return rotation(net, net.node(Add(), x, net.node(Relu(), x, out="r"), out="sum"), *data(2, 5, 4))


def three_terms(net):
    y = rotation(net, net.input(5, 4), *data(2, 5, 4))
    rolled = [net.node(Slice(2, a, b), "x", out=f"part{a}") for a, b in ((1, 4), (0, 1))]
    return net.node(Sub(), y, net.node(Concat(2), *rolled, out="rolled"), out="z")


def test_angles_of_each_head_are_left_as_they_are():
    net = Network("heads")
    graph = net.done(by_head(net))
    assert "mul" in [node.op.name for node in FoldRotary().run(graph).graph.nodes]


def test_a_rotation_of_a_sum_is_found_and_the_sum_stays():
    net = Network("sum")
    graph = net.done(with_an_offset(net))
    assert [node.op.name for node in FoldRotary().run(graph).graph.nodes] == ["relu", "add", "rotary"]


def test_what_reads_a_third_feature_is_not_part_of_the_rotation():
    net = Network("three")
    graph = net.done(three_terms(net))
    folded = FoldRotary().run(graph).graph
    assert [node.op.name for node in folded.nodes].count("sub") == 1
    x = data(2, 5, 4)
    np.testing.assert_allclose(evaluate(folded, x)[0], evaluate(graph, x)[0], atol=1e-6)
