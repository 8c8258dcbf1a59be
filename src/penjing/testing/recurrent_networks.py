"""Networks of recurrent layers of every kind, made by hand, for tests."""

from penjing.ir.graph import Graph
from penjing.ops.concat import Concat
from penjing.ops.gru import Gru
from penjing.ops.lstm import Lstm
from penjing.ops.mean import Mean
from penjing.ops.permute import Permute
from penjing.ops.rnn import Rnn
from penjing.ops.slice import Select, Slice
from penjing.testing.networks import Network
from penjing.testing.sequences import recurrent_layer

STEPS, UNITS = 7, 8


def every_layer() -> Graph:
    """An LSTM both ways, then a GRU, a projected LSTM, a rectified and a plain layer; steps cut, averaged, the last."""
    net = Network("recurrent")
    x = net.node(Permute((0, 2, 1)), net.input(6, STEPS), out="steps")
    there = recurrent_layer(net, x, Lstm(), "there", units=UNITS, start=True)
    back = recurrent_layer(net, x, Lstm(True), "back", units=UNITS)
    both = net.node(Concat(2), there, back, out="both")
    gru = recurrent_layer(
        net, net.node(Slice(1, 1, STEPS, 1), both, out="later"), Gru(), "gru", units=UNITS, start=True
    )
    inner = recurrent_layer(net, gru, Lstm(False, True), "inner", units=UNITS, width=4, start=True)
    rectified = recurrent_layer(net, inner, Rnn(True, True), "rectified", units=UNITS)
    turned = net.node(Permute((0, 2, 1)), net.node(Permute((0, 2, 1)), rectified, out="turned"), out="back_again")
    plain = recurrent_layer(net, turned, Rnn(), "plain", units=UNITS, start=True)
    heads = [
        net.linear(net.node(Select(1, 2), plain, out="one"), 3, out="head"),
        net.linear(net.node(Mean((1,)), rectified, out="mean"), 2, out="average"),
        net.linear(net.node(Concat(1), "there.last", "gru.last", out="ends"), 2, out="end"),
    ]
    return net.done(*heads)
