"""Quantization-aware training: what is learned is what the integer program computes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.arithmetic import quantize
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import activation_parameters, grid_codes, on_grid
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant, Encoding
from penjing.ops.add import Add
from penjing.ops.mul import Mul
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.relu import Relu
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import Network
from penjing.train.fake_quantize import StepSizes, fake_quantize
from penjing.train.fit import fit, predict
from penjing.train.qat import QuantizedGraph, quantization_aware

OPTIONS = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01}


def cnn() -> Graph:
    """With a residual, a pool, an operand that is a constant, and two linear layers."""
    net = Network()
    x = net.node(Relu(), net.conv(net.input(1, 8, 8), 4, out="conv1"), out="relu1")
    y = net.node(Add(), net.conv(x, 4, out="conv2"), x, out="sum")
    y = net.node(MaxPool2d((2, 2), (2, 2)), net.node(Relu(), y, out="relu2"), out="pool")
    y = net.node(Mul(), y, net.constant("gain", np.linspace(0.5, 1.5, 4).reshape(1, 4, 1, 1)), out="scaled")
    y = net.flatten(net.node(AvgPool2d((2, 2), (2, 2)), y, out="mean"), out="flat")
    y = net.node(Relu(), net.linear(y, 12, out="fc1"), out="relu3")
    return net.done(net.linear(y, 3, out="fc2"))


def data(n: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is the row that is bright."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 1, 8, 8)).astype(np.float32)
    x[np.arange(n), 0, 2 * y + 1] += 1.5
    return x, y


def aware(graph: Graph | None = None, **options) -> QuantizedGraph:
    graph = graph or cnn()
    return quantization_aware(graph, calibrate(graph, [data()[0]]).ranges, **options)


def program_of(module: QuantizedGraph) -> Graph:
    return lower(run_passes(module.to_graph(), [QuantizeStatic(Ranges(module.ranges, len(data()[0])))])[0])


def codes_of(program: Graph, x: np.ndarray) -> np.ndarray:
    quant = program.types[program.inputs[0]].quant
    return interpret(program, quantize(x, quant.scale, quant.zero_point))[0]


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_the_trained_module_and_its_integer_program_agree(bits):
    module, (x, y) = aware(bits=bits), data()
    result = fit(module, (x, y), **OPTIONS)
    assert result.losses[-1] < result.losses[0]
    program = program_of(module)
    got = codes_of(program, x)
    quant = program.types[program.outputs[0]].quant
    want = quantize(predict(module, x), quant.scale, quant.zero_point)
    off = np.abs(got.astype(int) - want)
    # float sums in another order may move a value inside across a tie
    assert (off > 0).mean() < 0.01


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_weights_come_back_on_a_grid_of_so_many_bits_whose_codes_are_kept(bits):
    module = aware(bits=bits)
    fit(module, data(), **OPTIONS | {"epochs": 1})
    graph = module.to_graph()
    for name in ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"):
        codes = grid_codes(graph.constants[name])
        assert np.abs(codes).max() <= 2 ** (bits - 1) - 1
        assert graph.constants[name].quant.axis == 0
    quantized = QuantizeStatic(Ranges(module.ranges, 1)).run(graph).graph
    np.testing.assert_array_equal(quantized.constants["fc2.weight.q"].array, grid_codes(graph.constants["fc2.weight"]))


def test_layers_may_have_bits_of_their_own():
    module = aware(bits={"conv2.weight": 2, "fc1.weight": 4})
    graph = module.to_graph()
    tops = {name: np.abs(grid_codes(graph.constants[name])).max() for name in graph.constants if "weight" in name}
    assert tops == {"conv1.weight": 127, "conv2.weight": 1, "fc1.weight": 7, "fc2.weight": 127}


def test_ranges_give_quantize_static_the_very_steps_that_were_learned():
    module = aware()
    fit(module, data(), **OPTIONS | {"epochs": 1})
    types = QuantizeStatic(Ranges(module.ranges, 1)).run(module.to_graph()).graph.types
    moved = 0
    for name in ("x", "relu1", "relu2", "scaled", "mean", "relu3", "fc2"):
        assert types[name].quant.scale == np.float32(module.step_sizes(name))
        moved += types[name].quant.scale != activation_parameters(*aware().ranges[name])[0]
    assert moved


def test_pruned_weights_stay_zero():
    graph = cnn()
    array = np.where(np.abs(graph.constants["conv2.weight"].array) > 0.1, graph.constants["conv2.weight"].array, 0)
    graph.set_constant("conv2.weight", Constant(array.astype(np.float32)))
    module = aware(graph, bits=4)
    fit(module, data(), weight_decay=1e-3, **OPTIONS)
    assert not module.to_graph().constants["conv2.weight"].array[array == 0].any()


def test_a_weight_on_a_grid_starts_from_it():
    graph = cnn()
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (4, 4, 3, 3))
    graph.set_constant("conv2.weight", on_grid(codes, rng.uniform(0.1, 0.2, 4), 0))
    got = aware(graph, bits=4).to_graph().constants["conv2.weight"]
    np.testing.assert_array_equal(grid_codes(got), codes)
    assert got.quant == graph.constants["conv2.weight"].quant


def test_shared_values_stay_shared_and_on_one_step():
    graph = cnn()
    array = graph.constants["fc1.weight"].array
    book = np.array([-0.5, -0.2, 0, 0.2, 0.5], np.float32)
    graph.set_constant("fc1.weight", Constant(book[np.abs(array[..., None] - book).argmin(-1)], Encoding.CODEBOOK))
    module = aware(graph)
    fit(module, data(), **OPTIONS | {"epochs": 1})
    got = module.to_graph().constants["fc1.weight"]
    assert got.encoding is Encoding.CODEBOOK
    assert got.quant.axis is None
    assert np.unique(grid_codes(got)).size <= 5


@pytest.mark.parametrize("after", [3, 8, 20])
def test_an_interrupted_training_learns_the_same_steps(tmp_path, after):
    left = iter(range(after))

    def stop(_progress):
        if next(left) == after - 1:
            raise KeyboardInterrupt

    whole, resumed = aware(bits=4), aware(bits=4)
    fit(whole, data(), **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        fit(aware(bits=4), data(), checkpoint=tmp_path / "state", progress=stop, **OPTIONS)
    fit(resumed, data(), checkpoint=tmp_path / "state", **OPTIONS)
    assert print_graph(resumed.to_graph()) == print_graph(whole.to_graph())
    assert resumed.ranges == whole.ranges


def test_rounding_is_half_to_even_and_limited():
    x = torch.tensor([-9.0, -1.5, -0.5, 0.5, 1.5, 2.5, 9.0])
    got = fake_quantize(x, torch.tensor(1.0), -3, 3)
    assert got.tolist() == [-3, -2, 0, 0, 2, 2, 3]
    assert fake_quantize(x.bfloat16(), torch.tensor(1.0), -3, 3).dtype is torch.bfloat16


@pytest.mark.parametrize("layout", ["rows", "channels last", "a slice"])
def test_large_activations_are_rounded_alike_in_every_layout(layout):
    whole = torch.randn(3, 40, 36, 34, generator=torch.Generator().manual_seed(0))  # several pieces and a rest
    x = {
        "rows": whole,
        "channels last": whole.contiguous(memory_format=torch.channels_last),
        "a slice": torch.cat([whole, whole], 1)[:, :40],
    }[layout].requires_grad_()
    s = torch.tensor(0.25, requires_grad=True)
    y = fake_quantize(x, s, -3, 6)
    assert torch.equal(y, (whole / 0.25).round().clamp(-3, 6) * 0.25)
    pulls = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))
    (y * pulls).sum().backward()
    v = whole.double() / 0.25
    inside = (v >= -3) & (v <= 6)
    assert torch.equal(x.grad, pulls * inside)
    want = (torch.where(inside, v.round() - v, v.clamp(-3, 6)) * pulls).sum()
    assert s.grad.item() == pytest.approx(want.item(), rel=1e-3)


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=9), st.floats(0.125, 2, width=32))
def test_gradients_are_those_of_learned_step_sizes(values, step):
    x = torch.tensor(values, requires_grad=True)
    s = torch.tensor(step, requires_grad=True)
    fake_quantize(x, s, -2, 5).sum().backward()
    v = np.array(values, np.float32) / np.float32(step)
    inside = (v >= -2) & (v <= 5)
    np.testing.assert_array_equal(x.grad.numpy(), inside)
    want = np.where(inside, np.rint(v) - v, np.clip(v, -2, 5)).sum(dtype=np.float64)
    assert s.grad.item() == pytest.approx(want, abs=1e-4)


def test_a_step_moves_as_the_paper_has_it_and_not_faster_than_what_it_rounds():
    start = torch.tensor([[0.5], [0.01]])
    steps = StepSizes(start, shared=2, low=-3, high=3)
    x = torch.tensor([[0.7, -0.2], [5.0, 4.0]])  # the second row is far beyond its end codes
    free = start.clone().requires_grad_()
    y = fake_quantize(x, free, -3, 3)
    y.retain_grad()
    (y**3).sum().backward()
    (steps.round(x) ** 3).sum().backward()
    with torch.no_grad():
        steps.relative -= 1e-3 * steps.relative.grad
    move = free.grad / math.sqrt(2 * 3)
    limit = start * y.grad.norm(dim=1, keepdim=True) / x.norm(dim=1, keepdim=True)
    assert (move.abs() > limit).tolist() == [[False], [True]]
    torch.testing.assert_close(steps().detach(), start - 1e-3 * move.clamp(-limit, limit))


def test_the_limit_of_an_activation_does_not_depend_on_the_batch():
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)) * 9
    moves = []
    for batch in (x, x.repeat(8, 1)):
        steps = StepSizes(torch.tensor(0.1), shared=5, low=-3, high=3)
        (steps.round(batch) ** 2).sum(1).mean().backward()
        moves.append(steps.relative.grad)
    torch.testing.assert_close(*moves)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_of_many_codes_do_not_run_away(optimizer):
    module = aware(bits=8)
    first = {name: module.step_sizes(name) for name in ("conv1.weight", "conv2.weight", "relu1", "fc2.weight", "fc2")}
    fit(module, data(), optimizer=optimizer, **OPTIONS)
    for name, start in first.items():
        moved = module.step_sizes(name) / start
        assert moved.min() > 0.4
        assert moved.max() < 2.5


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"bits": 1}, InvalidInput, "2 to 8 bits, not 1"),
        ({"bits": 9}, InvalidInput, "not 9"),
        ({"bits": {"conv1.weight": 0}}, InvalidInput, "conv1.weight"),
        ({"bits": {"conv9.weight": 4}}, InvalidInput, "conv9.weight"),
        ({"bits": {"conv1.bias": 4}}, InvalidInput, "conv1.bias"),
    ],
)
def test_impossible_bits_are_refused(options, error, named):
    with pytest.raises(error, match=named):
        aware(**options)


def test_a_graph_that_was_not_calibrated_or_has_diverged_is_refused():
    graph = cnn()
    ranges = calibrate(graph, [data()[0]]).ranges
    with pytest.raises(QuantizationError, match="relu3"):
        quantization_aware(graph, {name: r for name, r in ranges.items() if name != "relu3"})
    spoilt = graph.constants["fc1.weight"].array.copy()
    spoilt[0, 0] = np.nan
    graph.set_constant("fc1.weight", Constant(spoilt))
    with pytest.raises(InvalidInput, match="NaN"):
        quantization_aware(graph, ranges)
