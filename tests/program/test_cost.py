"""What a run costs, against numbers worked out by hand."""

from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.program.cost import node_costs, total_macs
from penjing.program.lower import lower
from penjing.testing.networks import Network


def test_edge_cnn_takes_one_and_a_half_million_multiplications(edge_program):
    by_hand = {
        "relu1": 32 * 32 * 16 * (1 * 3 * 3),
        "relu2": 16 * 16 * 32 * (16 * 3 * 3),
        "relu3": 128 * 2048,
        "fc2": 10 * 128,
    }
    assert {entry.name: entry.cost.macs for entry in node_costs(edge_program) if entry.cost.macs} == by_hand
    assert total_macs(edge_program) == sum(by_hand.values()) == 1_590_528


def test_costs_stand_in_the_order_of_execution(edge_program):
    assert [(entry.name, entry.op) for entry in node_costs(edge_program)] == [
        (node.outputs[0], node.op.name) for node in edge_program.nodes
    ]


def test_bytes_are_those_of_constants_and_activations(edge_program):
    cost = {entry.name: entry.cost.bytes for entry in node_costs(edge_program)}
    assert cost["relu1"] == 32 * 32 + 144 + 16 * (4 + 4) + 32 * 32 * 16
    assert cost["pool1"] == 32 * 32 * 16 + 16 * 16 * 16
    assert cost["fc2"] == 128 + 1280 + 10 * (4 + 4) + 10


def test_groups_strides_and_pads_count(quantized):
    net = Network()
    x = net.input(8, 6, 6)
    a = net.conv(x, 8, out="depthwise", groups=8)
    b = net.conv(a, 4, out="grouped", groups=2)
    c = net.conv(b, 8, out="pointwise", kernel=1)
    w = net.weight("w", 8, 5, 2, 2)
    graph = net.done(net.node(ConvTranspose2d((2, 2)), c, w, out="up"))
    macs = {entry.name: entry.cost.macs for entry in node_costs(lower(quantized(graph))) if entry.cost.macs}
    assert macs == {
        "depthwise": 36 * 8 * 9,  # taps in the padding are counted: kernels may do them
        "grouped": 36 * 4 * 4 * 9,
        "pointwise": 36 * 8 * 4,
        "up": 36 * 8 * 5 * 4,
    }
