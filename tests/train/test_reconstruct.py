"""Learned rounding: nearer to the float network than rounding to nearest, on a grid that the integer program keeps."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.quantize.calibrate import calibrate
from penjing.core.errors import CalibrationError, InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.mean import Mean
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu, Relu6
from penjing.program.interpret import interpret
from penjing.testing.networks import Network, batches
from penjing.train.block_training import Tuning
from penjing.train.blocks import find_blocks
from penjing.train.reconstruct import BlockProgress, reconstruct
from penjing.train.rounding import LearnedRounding

FEW = Tuning(steps=80, batch_size=16, rounding_rate=0.1, bias_rate=3e-2, drop=0.5)


def residual(seed: int = 0) -> Graph:
    """A layer, a residual block, another layer with a depthwise one before it, and a head."""
    net = Network("residual", seed)
    x = net.node(Relu(), net.conv(net.input(2, 6, 6), 6, out="stem"), out="stem.relu")
    y = net.node(Relu6(), net.conv(x, 8, out="a"), out="a.relu")
    x = net.node(Relu(), net.node(Add(), net.conv(y, 6, out="b", bias=False), x, out="sum"), out="sum.relu")
    x = net.node(Relu(), net.conv(x, 6, out="depthwise", groups=6), out="depthwise.relu")
    x = net.node(MaxPool2d((2, 2), (2, 2)), x, out="pool")
    graph = net.done(net.linear(net.node(Mean((2, 3), False), x, out="mean"), 4, out="head"))
    graph.stage = "cleaned"
    return graph


def inputs(graph: Graph, samples: int = 96, seed: int = 1) -> np.ndarray:
    return next(batches(graph, samples, seed=seed))[0]


def nearest(graph: Graph, bits: int) -> Graph:
    """Every weight rounded to the nearest code, with the scales of least squared error."""
    graph = graph.copy()
    for name in weights(graph):
        graph.set_constant(name, LearnedRounding(graph.constants[name].array, bits, 0).constant(nearest=True))
    return graph


def weights(graph: Graph) -> list[str]:
    return [node.inputs[1] for node in graph.nodes if len(node.inputs) > 1 and node.inputs[1] in graph.constants]


def correlated(samples: int, seed: int) -> np.ndarray:
    """(samples, 24): 24 mixtures of 4 numbers, so that errors of one weight can make up for those of others."""
    mixing = np.random.default_rng(0).normal(size=(4, 24))
    return (np.random.default_rng(seed).normal(size=(samples, 4)) @ mixing).astype(np.float32)


def output_error(graph: Graph, original: Graph, x: np.ndarray) -> float:
    return float(np.square(evaluate(graph, x)[0] - evaluate(original, x)[0]).mean())


@pytest.mark.parametrize(("granularity", "bits"), [("block", 2), ("block", 4), ("layer", 3)])
def test_the_output_is_nearer_than_with_rounding_to_nearest_on_samples_not_seen(granularity, bits):
    graph = residual()
    found = reconstruct(graph, inputs(graph), bits=bits, granularity=granularity, tuning=FEW)
    verify(found)
    fresh = inputs(graph, seed=2)
    assert output_error(found, graph, fresh) < 0.6 * output_error(nearest(graph, bits), graph, fresh)


def test_rounding_alone_is_far_better_where_inputs_go_together_and_moves_no_weight_by_more_than_a_step():
    net = Network()
    graph = net.done(net.linear(net.input(24), 6, out="y"))
    x, fresh = correlated(64, seed=1), correlated(64, seed=2)
    tuning = Tuning(steps=200, batch_size=16, rounding_rate=0.1, scale_rate=0, bias_rate=0)
    found, plain = reconstruct(graph, x, bits=3, tuning=tuning), nearest(graph, 3)
    assert output_error(found, graph, fresh) < 0.5 * output_error(plain, graph, fresh)
    np.testing.assert_array_equal(found.constants["y.bias"].array, graph.constants["y.bias"].array)
    got, old = found.constants["y.weight"], plain.constants["y.weight"]
    assert got.quant == old.quant
    moved = np.abs(grid_codes(got).astype(int) - grid_codes(old))
    assert moved.max() == 1


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_weight_has_a_code_of_its_bits(bits):
    graph = residual()
    found = reconstruct(graph, inputs(graph, 8), bits=bits, tuning=Tuning(steps=3))
    top = 2 ** (bits - 1) - 1
    for name in weights(graph):
        constant = found.constants[name]
        assert constant.quant is not None
        assert constant.quant.axis == 0
        assert np.abs(grid_codes(constant)).max() <= top


def test_zeros_stay_zero_and_a_channel_may_be_zero_whole():
    graph = residual()
    for name in weights(graph):
        array = graph.constants[name].array.copy()
        array[np.random.default_rng(0).random(array.shape) < 0.6] = 0
        array[1] = 0
        graph.set_constant(name, Constant(array))
    found = reconstruct(graph, inputs(graph), bits=4, tuning=FEW)
    for name in weights(graph):
        assert (found.constants[name].array[graph.constants[name].array == 0] == 0).all()


def test_the_integer_program_computes_with_these_codes():
    graph, x = residual(), inputs(residual())
    found = reconstruct(graph, x, bits=4, ranges=calibrate(graph, [x]).ranges, tuning=FEW)
    quantized = api.quantize(found, [x])
    for before, after in zip(found.nodes, quantized.nodes, strict=True):
        if len(before.inputs) > 1 and before.inputs[1] in found.constants:
            kept = quantized.constants[after.inputs[1]].array
            np.testing.assert_array_equal(kept, grid_codes(found.constants[before.inputs[1]]))
    program = api.lower(quantized)
    source, target = (program.types[name].quant for name in (program.inputs[0], program.outputs[0]))
    codes = np.clip(np.rint(x / source.scale) + source.zero_point, 0, 255).astype(np.uint8)
    real = (interpret(program, codes)[0].astype(np.float64) - target.zero_point) * target.scale
    wanted = evaluate(graph, x)[0]
    assert np.square(real - wanted).mean() < 0.6 * output_error(nearest(graph, 4), graph, x)


def test_the_same_seed_gives_the_same_graph_and_another_seed_another():
    graph = residual()
    once, again, other = (
        print_graph(reconstruct(graph, inputs(graph, 32), bits=3, tuning=Tuning(steps=20, drop=0.5), seed=seed))
        for seed in (3, 3, 4)
    )
    assert once == again
    assert once != other


def test_the_graph_that_was_given_is_not_changed():
    graph = residual()
    before = print_graph(graph)
    reconstruct(graph, inputs(graph, 8), tuning=Tuning(steps=2))
    assert print_graph(graph) == before


def test_only_the_layers_that_a_mapping_names_are_rounded():
    graph = residual()
    found = reconstruct(graph, inputs(graph, 8), bits={"a.weight": 3, "head.weight": 8}, tuning=Tuning(steps=2))
    assert [name for name in weights(graph) if found.constants[name].quant is not None] == ["a.weight", "head.weight"]
    assert np.abs(grid_codes(found.constants["a.weight"])).max() <= 3
    np.testing.assert_array_equal(found.constants["b.weight"].array, graph.constants["b.weight"].array)


def test_a_weight_that_lies_on_a_grid_keeps_it():
    graph = residual()
    fixed = nearest(graph, 3).constants["a.weight"]
    graph.set_constant("a.weight", fixed)
    found = reconstruct(graph, inputs(graph, 8), bits=4, tuning=Tuning(steps=2))
    assert found.constants["a.weight"] is fixed


def test_a_network_whose_weights_fit_the_grid_is_not_touched():
    graph = nearest(residual(), 4)
    exact = graph.copy()
    for name in weights(graph):
        exact.set_constant(name, Constant(graph.constants[name].array))
    found = reconstruct(exact, inputs(graph, 8), bits=8, tuning=Tuning(steps=40))
    assert output_error(found, exact, inputs(graph)) < 1e-4


def test_a_weight_of_two_layers_gets_one_grid():
    net = Network()
    x = net.input(4)
    w = net.weight("shared", 4, 4)
    graph = net.done(net.node(Linear(), net.node(Linear(), x, w, out="once"), w, out="twice"))
    found = reconstruct(graph, inputs(graph), bits=4, tuning=Tuning(steps=20))
    assert found.constants["shared"].quant is not None
    verify(found)


def test_a_transposed_convolution_has_its_scales_along_its_output_channels():
    net = Network()
    x = net.input(3, 4, 4)
    graph = net.done(net.node(ConvTranspose2d(), x, net.weight("w", 3, 5, 2, 2), out="y"))
    found = reconstruct(graph, inputs(graph, 16), bits=4, tuning=Tuning(steps=5))
    quant = found.constants["w"].quant
    assert quant is not None
    assert (quant.axis, len(quant.scales)) == (1, 5)
    api.lower(api.quantize(found, [inputs(graph, 16)]))


def test_progress_counts_every_step_of_every_block():
    seen: list[BlockProgress] = []
    reconstruct(residual(), inputs(residual(), 8), tuning=Tuning(steps=3), progress=seen.append)
    assert [(p.block, p.step) for p in seen] == [(b, s) for b in (1, 2, 3, 4) for s in (1, 2, 3)]
    assert {(p.blocks, p.steps) for p in seen} == {(4, 3)}


def test_what_an_interrupted_call_has_found_leads_to_the_same_graph():
    graph, x, kept = residual(), inputs(residual(), 32), dict[str, Constant]()

    def interrupt(progress: BlockProgress) -> None:
        if (progress.block, progress.step) == (3, 2):
            raise KeyboardInterrupt

    tuning = Tuning(steps=8)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(graph, x, tuning=tuning, progress=interrupt, found=kept.update)
    assert [name for name in kept if kept[name].quant is not None] == ["stem.weight", "a.weight", "b.weight"]
    seen: list[BlockProgress] = []
    resumed = reconstruct(graph, x, tuning=tuning, progress=seen.append, known=kept)
    assert {progress.block for progress in seen} == {3, 4}
    assert print_graph(resumed) == print_graph(reconstruct(graph, x, tuning=tuning))


def test_a_residual_block_is_one_and_layers_of_a_chain_are_apart():
    blocks = find_blocks(residual())
    assert [block.weights for block in blocks] == [
        ("stem.weight",),
        ("a.weight", "b.weight"),
        ("depthwise.weight",),
        ("head.weight",),
    ]
    assert [block.targets for block in blocks] == [("stem.relu",), ("sum.relu",), ("depthwise.relu",), ("head",)]
    assert [node.output for block in blocks for node in block.nodes] == [node.output for node in residual().nodes]


def test_layer_by_layer_a_layer_takes_its_clamp_along():
    blocks = find_blocks(residual(), "layer")
    assert [block.targets for block in blocks] == [
        ("stem.relu",),
        ("a.relu",),
        ("b",),
        ("depthwise.relu",),
        ("head",),
    ]


def test_a_clamp_that_is_not_the_only_reader_belongs_to_the_next_block():
    net = Network()
    x = net.linear(net.input(4), 4, out="first")
    y = net.linear(net.node(Relu(), x, out="relu"), 4, out="second")
    blocks = find_blocks(net.done(net.node(Add(), y, x, out="sum")))
    assert [block.targets for block in blocks] == [("first",), ("sum",)]


def test_two_heads_without_a_cut_between_them_are_learned_together():
    net = Network()
    x = net.linear(net.input(4), 4, out="body")
    graph = net.done(net.linear(x, 3, out="left"), net.linear(x, 2, out="right"))
    assert [block.targets for block in find_blocks(graph)] == [("body",), ("left", "right")]
    found = reconstruct(graph, inputs(graph, 64), bits=3, tuning=FEW)
    for got, plain, wanted in zip(
        *(evaluate(g, inputs(graph, seed=2)) for g in (found, nearest(graph, 3), graph)), strict=True
    ):
        assert np.square(got - wanted).mean() < np.square(plain - wanted).mean()


def test_branches_that_stay_open_for_long_are_learned_layer_by_layer():
    net = Network()
    x = start = net.input(4)
    for i in range(9):
        x = net.linear(x, 4, out=f"layer{i}")
    blocks = find_blocks(net.done(net.node(Add(), x, start, out="sum")))
    assert [block.weights for block in blocks] == [(f"layer{i}.weight",) for i in range(9)]


@pytest.mark.parametrize("bits", [1, 9, 4.5, {"head.weight": 1}, {"nothing": 4}, {"head.bias": 4}])
def test_bits_and_layers_that_there_are_not_are_refused(bits):
    with pytest.raises(InvalidInput):
        reconstruct(residual(), inputs(residual(), 4), bits=bits)


def test_a_granularity_that_there_is_not_is_refused():
    with pytest.raises(InvalidInput, match="granularity"):
        reconstruct(residual(), inputs(residual(), 4), granularity="channel")


@pytest.mark.parametrize(
    "ranges", [{"nothing": (0.0, 1.0)}, {"a.weight": (0.0, 1.0)}, {"a.relu": (1.0, 0.0)}, {"a.relu": (0.0, np.nan)}]
)
def test_ranges_that_fit_no_activation_are_refused(ranges):
    with pytest.raises(InvalidInput):
        reconstruct(residual(), inputs(residual(), 4), ranges=ranges)


@pytest.mark.parametrize("data", [[], np.full((4, 2, 6, 6), np.nan, np.float32)])
def test_samples_that_say_nothing_are_refused(data):
    with pytest.raises(CalibrationError):
        reconstruct(residual(), data)


@pytest.mark.parametrize(
    "data", [np.zeros((4, 3, 6, 6), np.float32), np.zeros((4, 2, 6, 6)), np.zeros((0, 2, 6, 6), np.float32)]
)
def test_samples_that_do_not_fit_are_refused(data):
    with pytest.raises(InvalidInput):
        reconstruct(residual(), data)


def test_an_overflow_inside_is_named():
    graph = residual()
    with pytest.raises(CalibrationError, match="NaN or infinity in an activation"):
        reconstruct(graph, inputs(graph, 4) * np.float32(1e38), tuning=Tuning(steps=1))


def test_a_weight_that_is_not_finite_is_refused():
    graph = residual()
    graph.set_constant("a.weight", Constant(np.full_like(graph.constants["a.weight"].array, np.inf)))
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        reconstruct(graph, inputs(graph, 4))


def test_a_graph_of_integers_is_refused():
    graph = residual()
    with pytest.raises(InvalidGraph, match="float graph"):
        reconstruct(api.quantize(graph, [inputs(graph, 4)]), inputs(graph, 4))


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"batch_size": 0}, {"drop": 1.5}, {"drop": float("nan")}, {"rounding_rate": 0}, {"penalty": -1}],
)
def test_settings_that_train_nothing_are_refused(options):
    with pytest.raises(InvalidInput):
        Tuning(**options)
