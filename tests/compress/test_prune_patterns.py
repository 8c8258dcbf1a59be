"""N:M and block pruning as passes: which layers they take, what they say, and that kernels run what they leave."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.compress.prune.patterns import as_rows
from penjing.compress.prune.prune_blocks import PruneBlocks
from penjing.compress.prune.prune_n_of_m import PruneNOfM
from penjing.core.errors import InvalidInput, PruningError
from penjing.core.targets import HOST, find_target
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassLog, run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches, edge_cnn
from penjing.vector.prepare import prepare


def run(graph: Graph, pass_: Pass) -> tuple[Graph, PassLog]:
    before = print_graph(graph)
    got, (log,) = run_passes(graph, [pass_])
    assert print_graph(graph) == before
    assert got.nodes == graph.nodes and got.stage == graph.stage
    return got, log


def reasons(log: PassLog) -> dict[str, str]:
    return {remark.where: remark.text for remark in log.declined}


def zeros(graph: Graph, name: str) -> float:
    return float((graph.constants[name].array == 0).mean())


def test_layers_that_gain_are_pruned_and_the_others_say_why_not():
    got, log = run(edge_cnn(), PruneNOfM(4))
    assert [remark.where for remark in log.changed] == ["conv2.weight", "fc1.weight"]
    assert zeros(got, "conv2.weight") == zeros(got, "fc1.weight") == 0.75
    assert "4:16: 25.0 % of 4608 weights stay" in log.changed[0].text and "% of energy" in log.changed[0].text
    assert reasons(log) == {
        "conv1.weight": "it reads 1 channels: one product covers four",
        "fc2.weight": "one row of 128 inputs is as fast dense",
    }


@pytest.mark.parametrize("pass_", [PruneNOfM(4), PruneNOfM(2), PruneBlocks(0.8)])
def test_kernels_for_zeros_take_what_the_passes_leave(pass_):
    graph, _ = run(edge_cnn(), pass_)
    program = api.lower(api.quantize(graph, batches(graph, 4), observer="min-max"))
    taken = [node.op for node in prepare(program, find_target(HOST), 1, {}).program.nodes]
    wanted = "v_sparse_windows" if isinstance(pass_, PruneNOfM) else "v_sparse_blocks"
    assert sum(op.name == wanted for op in taken) == 2, [op.name for op in taken]
    if isinstance(pass_, PruneNOfM):  # windows are filled from near, without blocks for other instruction sets
        assert all(op.blocks_at == 0 for op in taken if op.name == wanted)


def test_a_linear_layer_behind_a_flatten_has_its_groups_across_channels():
    got, _ = run(edge_cnn(), PruneNOfM(4))
    kept = got.constants["fc1.weight"].array.reshape(128, 32, 64) != 0  # channels, places
    assert (kept.reshape(128, 2, 16, 64).sum(axis=2) == 4).all()


def test_a_flattened_input_of_the_graph_keeps_its_own_order():
    net = Network()
    x = net.flatten(net.input(2, 16, 16), out="flat")
    graph = net.done(net.linear(x, 16, out="fc"))
    assert pattern_layers(graph)["fc.weight"].view == (16, 512)


def test_a_global_ratio_counts_the_blocks_of_all_layers():
    got, _ = run(edge_cnn(), PruneBlocks(0.5, scope="global"))
    views = {"conv2.weight": (32, 16, 3, 3), "fc1.weight": (128, 32, 64)}
    blocks = [as_rows(got.constants[name].array.reshape(view) != 0) for name, view in views.items()]
    kept = [part.reshape(-1, 16, part.shape[1], part.shape[2] // 4, 4).all(axis=(1, 4)) for part in blocks]
    assert sum(part.sum() for part in kept) == sum(part.size for part in kept) / 2
    assert kept[0].mean() > 0.9  # conv2 has the larger weights


def test_named_layers_are_pruned_whatever_they_gain_and_have_their_own_n():
    got, log = run(edge_cnn(), PruneNOfM(4, per_layer={"fc2.weight": 2, "conv2.weight": 16}))
    assert zeros(got, "fc2.weight") == 0.875 and zeros(got, "conv2.weight") == 0
    assert reasons(log)["conv2.weight"] == "16:16 is met already, 100.0 % of 4608 weights stay"


def test_blocks_are_cut_by_output_channels_and_by_channels_at_a_tap():
    got, log = run(edge_cnn(), PruneBlocks(0.5, (8, 4), layers=("fc2.weight",)))
    kept = as_rows(got.constants["conv2.weight"].array != 0).reshape(4, 8, 3, 12, 4)
    whole = kept.all(axis=(1, 4))
    np.testing.assert_array_equal(whole, kept.any(axis=(1, 4)))
    assert whole.mean() == 0.5
    assert {remark.where for remark in log.changed} == {"conv2.weight", "fc1.weight", "fc2.weight"}


def test_grouped_and_transposed_layers_are_left_with_a_reason():
    net = Network()
    x = net.conv(net.input(16, 8, 8), 16, out="depthwise", groups=16)
    y = net.node(ConvTranspose2d(), x, net.weight("up", 16, 16, 2, 2), out="y")
    graph = net.done(net.conv(y, 16, out="last"))
    _, log = run(graph, PruneNOfM(4))
    assert reasons(log) == {
        "depthwise.weight": "it has groups: no kernel leaves out its zeros",
        "up": "no kernel leaves out zeros of conv_transpose2d",
    }
    with pytest.raises(PruningError, match="cannot have a pattern"):
        run(graph, PruneNOfM(4, per_layer={"up": 4}))
    with pytest.raises(PruningError, match="there is no layer with the weight 'nobody'"):
        run(graph, PruneBlocks(0.5, layers=("nobody",)))


def test_an_importance_is_taken_for_every_layer():
    graph = edge_cnn()
    importance = {name: 1 / (1e-3 + np.abs(layer.weight)) for name, layer in pattern_layers(graph).items()}
    for pass_ in (PruneNOfM(4, importance=importance), PruneBlocks(0.5, importance=importance)):
        got, _ = run(graph, pass_)
        old, new = (g.constants["conv2.weight"].array for g in (graph, got))
        assert np.abs(old[new != 0]).mean() < np.abs(old[new == 0]).mean()
    with pytest.raises(InvalidInput, match="none for this layer") as caught:
        run(graph, PruneNOfM(4, importance={}))
    assert caught.value.where == "conv2.weight"
    with pytest.raises(InvalidInput, match="importances of shape"):
        run(graph, PruneNOfM(4, importance={**importance, "conv2.weight": np.ones(3)}))


def test_pruning_again_finds_the_zeros_already_there_and_tightening_keeps_them():
    once, _ = run(edge_cnn(), PruneNOfM(4))
    twice, log = run(once, PruneNOfM(4))
    assert log.changed == () and print_graph(once) == print_graph(twice)
    tighter, _ = run(once, PruneNOfM(2))
    for name, constant in once.constants.items():
        assert (tighter.constants[name].array[constant.array == 0] == 0).all()


def test_a_layer_of_zeros_is_left_with_a_reason():
    net = Network()
    x = net.node(Relu(), net.conv(net.input(16, 4, 4), 16, out="none"), out="relu")
    graph = net.done(net.conv(x, 16, out="last"))
    graph.set_constant("none.weight", Constant(np.zeros((16, 16, 3, 3), np.float32)))
    _, log = run(graph, PruneNOfM(4))
    assert reasons(log) == {"none.weight": "all its weights are zero"}


@pytest.mark.parametrize(
    "pass_",
    [
        PruneNOfM(17),
        PruneNOfM(0),
        PruneNOfM(4, per_layer={"fc1.weight": 0}),
        PruneBlocks(1.0),
        PruneBlocks(0.5, (0, 4)),
    ],
)
def test_options_out_of_range_are_refused(pass_):
    with pytest.raises(PruningError):
        run(edge_cnn(), pass_)


def test_an_unknown_scope_and_a_network_without_layers_are_refused():
    with pytest.raises(PruningError, match="no scope"):
        run(edge_cnn(), PruneBlocks(0.5, scope="row"))
    net = Network()
    graph = net.done(net.node(Relu(), net.input(3), out="y"))
    with pytest.raises(PruningError, match="no layer has a weight"):
        run(graph, PruneNOfM(4))
