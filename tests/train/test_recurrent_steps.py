"""Recurrent layers in training for integers: every step computes what the program's step computes."""

import numpy as np
import pytest
import torch

from penjing.compress.prune.prune_blocks import PruneBlocks
from penjing.compress.prune.prune_n_of_m import PruneNOfM
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.arithmetic import quantize
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import run_passes
from penjing.ops.gru import Gru
from penjing.ops.lstm import Lstm
from penjing.ops.rnn import Rnn
from penjing.ops.slice import Select
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import Network, batches
from penjing.testing.recurrent_networks import every_layer
from penjing.testing.sequences import recurrent_layer
from penjing.train.fit import fit
from penjing.train.module import trainable
from penjing.train.qat import QuantizedGraph, quantization_aware
from penjing.train.recurrent_steps import rounded_steps

STEPS = 6


def codes_of(graph: Graph, ranges: Ranges, x: np.ndarray) -> tuple[Graph, tuple[np.ndarray, ...]]:
    """The program of a graph, and its codes for `x`."""
    program = lower(run_passes(graph, [QuantizeStatic(ranges)])[0])
    quant = program.types[program.inputs[0]].quant
    return program, interpret(program, quantize(x, quant.scale, quant.zero_point))


def steps_off(module: QuantizedGraph, x: np.ndarray) -> np.ndarray:
    """How many codes the outputs of the module and of its program lie apart."""
    program, made = codes_of(module.to_graph(), Ranges(module.ranges, len(x)), x)
    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(x))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    quants = [program.types[name].quant for name in program.outputs]
    wanted = [quantize(y.numpy(), q.scale, q.zero_point) for y, q in zip(outputs, quants, strict=True)]
    return np.concatenate([(a.astype(int) - b).ravel() for a, b in zip(made, wanted, strict=True)])


def squares(_x: torch.Tensor, outputs: torch.Tensor | tuple[torch.Tensor, ...], _y: torch.Tensor) -> torch.Tensor:
    return sum(y.square().mean() for y in outputs)


@pytest.mark.parametrize("bits", [8, 4])
def test_every_layer_computes_what_its_integers_compute_before_and_after_training(bits):
    graph = every_layer()
    (x,) = next(batches(graph, 64))
    module = quantization_aware(graph, calibrate(graph, [x]).ranges, bits=bits)
    assert (steps_off(module, x) != 0).mean() < 0.002
    before = {name: module.step_sizes(name) for name in ("there.w_hh", "rectified.y", "inner.y")}
    fit(module, (x, np.zeros(64)), epochs=1, batch_size=16, learning_rate=0.003, optimizer="adam", loss=squares)
    assert all((module.step_sizes(name) != step).any() for name, step in before.items())
    # float sums in another order may move a value across a tie
    off = steps_off(module, x)
    assert np.abs(off).max() <= 1 and (off != 0).mean() < 0.01


@pytest.mark.parametrize(
    ("op", "width"),
    [(Lstm(), 0), (Lstm(True, True), 4), (Gru(), 0), (Rnn(), 0), (Rnn(True, True), 0)],
    ids=["lstm", "projected", "gru", "rnn", "rectified"],
)
def test_at_8_bits_gradients_are_nearly_those_of_the_floats(op, width):
    net = Network()
    y = recurrent_layer(net, net.input(STEPS, 5), op, "r", units=8, width=width)
    graph = net.done(net.linear(net.node(Select(1, 2), y, out="one"), 3, out="head"))
    (x,) = next(batches(graph, 64))
    found = []
    for module in (trainable(graph), quantization_aware(graph, calibrate(graph, [x]).ranges)):
        module(torch.from_numpy(x)).square().mean().backward()
        found.append({n: p.grad.ravel() for n, p in module.named_parameters() if p.grad is not None})
    for name, want in found[0].items():
        # weights beyond their last code have none
        assert torch.nn.functional.cosine_similarity(want, found[1][name], 0) > 0.95, name


@pytest.mark.parametrize(("start", "moves"), [(5.0, True), (15.9, False)])
def test_a_cell_at_its_limit_stops_the_gradient(start, moves):
    rows = torch.full((4, 1), 9.0)  # all gates open
    c0 = torch.tensor([[start]], requires_grad=True)
    operands = [torch.ones(1, 1, 1), rows, torch.zeros(4, 1), None, None, None, torch.zeros(1, 1), c0]
    _, cell = rounded_steps(Lstm(), operands, torch.nn.Identity())
    assert cell.item() == pytest.approx(min(start * 0.99967 + 0.99967, 16), abs=2**-11)
    cell.sum().backward()
    assert (c0.grad.item() != 0) == moves


def ones_and_minus_ones(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences whose class is how many are positive, modulo 3."""
    rng = np.random.default_rng(seed)
    positive = rng.integers(0, 2, (n, STEPS))
    x = 2 * positive[..., None] - 1 + 0.1 * rng.normal(size=(n, STEPS, 1))
    return x.astype(np.float32), positive.sum(1) % 3


def right(graph: Graph, ranges: Ranges, x: np.ndarray, y: np.ndarray) -> float:
    return float((codes_of(graph, ranges, x)[1][0].argmax(1) == y).mean())


def test_training_at_few_bits_wins_back_what_rounding_loses():
    net = Network(seed=3)
    hidden = recurrent_layer(net, net.input(STEPS, 1), Rnn(), "r", units=8)
    graph = net.done(net.linear(net.node(Select(1, STEPS - 1), hidden, out="last"), 3, out="head"))
    data, test = ones_and_minus_ones(1024, 0), ones_and_minus_ones(512, 1)
    module = trainable(graph)
    fit(module, data, epochs=20, batch_size=32, learning_rate=0.02, optimizer="adam")
    graph = module.to_graph()
    whole = right(graph, calibrate(graph, [data[0]]), *test)
    nearest = RoundWeights(3).run(graph).graph
    rounded = right(nearest, calibrate(nearest, [data[0]]), *test)
    aware = quantization_aware(graph, calibrate(graph, [data[0]]).ranges, bits=3)
    fit(aware, data, epochs=4, batch_size=32, learning_rate=0.005, optimizer="adam")
    assert np.abs(grid_codes(aware.to_graph().constants["r.w_hh"])).max() <= 3
    trained = right(aware.to_graph(), Ranges(aware.ranges, 1024), *test)
    assert rounded < whole - 0.1 and trained > whole - 0.05


@pytest.mark.parametrize("op", [Lstm(), Gru(), Rnn()], ids=lambda op: op.name)
def test_patterns_of_zeros_in_both_weights_outlive_training(op):
    names = ("r.w_ih", "r.w_hh")
    net = Network()
    y = recurrent_layer(net, net.input(STEPS, 8), op, "r", units=8)
    graph = net.done(net.linear(net.node(Select(1, 2), y, out="one"), 3, out="head"))
    passes = [PruneNOfM(per_layer={"r.w_ih": 4}, m=8, n=4), PruneBlocks(0.5, (4, 4), layers=("r.w_hh",))]
    pruned, _ = run_passes(graph, passes)
    (x,) = next(batches(graph, 32))
    aware = quantization_aware(pruned, calibrate(pruned, [x]).ranges, bits=4)
    fit(aware, (x, np.arange(32) % 3), epochs=2, batch_size=8, learning_rate=0.01, optimizer="adam")
    for name in names:
        zero = pruned.constants[name].array == 0
        assert zero.mean() == pytest.approx(0.5, abs=0.01)
        assert not aware.to_graph().constants[name].array[zero].any()
