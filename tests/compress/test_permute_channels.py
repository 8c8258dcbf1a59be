"""Channels in another order: the network computes the same, and N:M pruning keeps more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.prune.patterns import NOfM, kept_energy
from penjing.compress.prune.permute_channels import PermuteChannels, best_order, kept
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Remark, run_passes
from penjing.ir.types import Constant
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.evaluate import evaluate
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches


def uneven(net: Network, name: str) -> None:
    """The first half of the input channels of a weight gets larger values: a bad order."""
    array = net.graph.constants[name].array.copy()
    array[:, : array.shape[1] // 2] *= 5
    net.graph.set_constant(name, Constant(array))


def chain() -> Graph:
    """Convolution, batch norm, ReLU, depthwise, pool, convolution, flatten, linear."""
    net = Network(seed=2)
    x = net.conv(net.input(8, 8, 8), 32, out="first", kernel=1)
    constants = [net.constant(f"norm.{i}", np.abs(net.rng.normal(size=32)) + 0.5) for i in range(4)]
    x = net.node(Relu(), net.node(BatchNorm(), x, *constants, out="norm"), out="relu")
    x = net.node(MaxPool2d((2, 2), (2, 2)), net.conv(x, 32, out="depthwise", groups=32), out="pool")
    x = net.node(Relu(), net.conv(x, 48, out="second"), out="relu2")
    graph = net.done(net.linear(net.flatten(x, out="flat"), 10, out="third"))
    uneven(net, "second.weight")
    uneven(net, "third.weight")
    return graph


def test_the_network_computes_the_same_and_pruning_keeps_more():
    graph = chain()
    got, (log,) = run_passes(graph, [PermuteChannels(4)])
    assert [remark.where for remark in log.changed] == ["second.weight", "third.weight"]
    assert "with the channels of first" in log.changed[0].text
    (x,) = next(batches(graph, 4))
    np.testing.assert_allclose(evaluate(got, x)[0], evaluate(graph, x)[0], rtol=1e-4, atol=1e-4)
    for name, view in (("second.weight", (48, 32, 3, 3)), ("third.weight", (10, 48, 16))):
        before, after = (g.constants[name].array.reshape(view) for g in (graph, got))
        assert sorted(after.ravel()) == sorted(before.ravel())
        shares = [kept_energy(w, NOfM(4).mask(w)) for w in (before, after)]
        assert shares[1] > 1.1 * shares[0]


@given(st.integers(1, 3), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_the_order_is_a_permutation_that_no_swap_improves(n, groups, seed):
    energy = np.random.default_rng(seed).random((5, 4 * groups)) ** 4
    order = best_order(energy, n, 4, passes=20)
    assert sorted(order) == list(range(4 * groups))
    base = kept(energy[:, order], n, 4)
    assert base >= kept(energy, n, 4)
    for i in range(4 * groups):
        for j in range(i):
            swapped = order.copy()
            swapped[[i, j]] = swapped[[j, i]]
            assert kept(energy[:, swapped], n, 4) <= base * (1 + 1e-6)


def test_why_channels_stay_where_they_are():
    net = Network()
    x = net.input(32, 6, 6)
    a = net.conv(x, 32, out="of_input")
    b = net.conv(net.node(Relu(), a, out="relu"), 32, out="in_branch")
    c = net.conv(net.node(Add(), a, b, out="sum"), 32, out="of_sum")
    d = net.conv(net.conv(c, 24, out="narrow"), 32, out="of_24")
    e = net.conv(net.conv(d, 16, out="to_16"), 16, out="of_16")
    graph = net.done(e)
    got, (log,) = run_passes(graph, [PermuteChannels(4, per_layer={"of_16.weight": 16})])
    assert {remark.where: remark.text for remark in log.declined} == {
        "of_input.weight": "it reads an input of the graph",
        "in_branch.weight": "of_input has other readers",
        "of_sum.weight": "its channels come from add (sum)",
        "of_24.weight": "its 24 input channels do not divide into groups of 16",
        "of_16.weight": "it stays dense",
    }
    _, (log,) = run_passes(got, [PermuteChannels(4)])
    assert Remark("of_16.weight", "its 16 input channels make one group") in log.declined


def test_what_has_been_put_in_order_is_in_order():
    once, _ = run_passes(chain(), [PermuteChannels(4)])
    _, (log,) = run_passes(once, [PermuteChannels(4)])
    assert [remark.text for remark in log.declined if remark.where == "third.weight"] == [
        "no swap of channels keeps more"
    ]


def test_a_shared_weight_and_an_output_of_the_graph_stay():
    net = Network()
    first = net.conv(net.input(32, 4, 4), 32, out="first")
    second = net.node(net.graph.nodes[0].op, first, "first.weight", "first.bias", out="second")
    third = net.conv(second, 16, out="third")
    _, (log,) = run_passes(net.done(third, second), [PermuteChannels(4)])
    texts = {remark.where: remark.text for remark in log.declined}
    assert texts["first.weight"] == "its weight is shared with another layer"
    assert texts["third.weight"] == "second has other readers"


@pytest.mark.parametrize("pass_", [PermuteChannels(0), PermuteChannels(17), PermuteChannels(4, passes=0)])
def test_options_out_of_range_are_refused(pass_):
    with pytest.raises(PruningError):
        run_passes(chain(), [pass_])
