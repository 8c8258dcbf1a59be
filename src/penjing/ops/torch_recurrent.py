"""torch's recurrent calls, which are several layers and directions at once, as single layers.

aten.lstm.input(x, [h, c], weights, has_biases, layers, dropout, train, bidirectional, batch_first), and gru and rnn
alike with a state h alone. Weights come layer by layer, forward before backward; states are
(layers * directions, N, ...).
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from penjing.ir.types import is_batch
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Select
from penjing.ops.torch_call import Composed, Nodes, Ref, TorchCall

MakeLayer = Callable[[bool, bool], Operator]
"""(reverse, projected) -> the operator of one layer in one direction."""


def compose(call: TorchCall, gates: int, make: MakeLayer) -> Composed:
    """The layers of a call of torch.

    Raises:
        UnsupportedOp: packed sequences, or time along the batch axis.
    """
    stack = _Stack(call, gates, make)
    return Composed(stack.nodes)


class _Stack:
    def __init__(self, call: TorchCall, gates: int, make: MakeLayer) -> None:
        self.call = call
        self.make = make
        self.x = call.ref("input")
        self.layers = call.integer("num_layers")
        self.directions = 2 if call.flag("bidirectional") else 1
        self.batch_first = call.flag("batch_first")
        self.states = _refs(call, "hx")
        self.weights = self._grouped(_refs(call, "params"), gates)
        call.require(self.x.type.rank == 3, f"an input of rank {self.x.type.rank}")
        time = self.x.type.shape[1 if self.batch_first else 0]
        call.require(not is_batch(time), "time along the batch axis (write the layer with batch_first=True),")
        call.require(not call.flag("train") or float(call.number("dropout")) == 0, "dropout in training mode")

    def _grouped(self, weights: list[Ref], gates: int) -> list[tuple[str, ...]]:
        """(w_ih, w_hh, b_ih, b_hh, w_hr) of every layer and direction; '' for what it lacks."""
        count = self.layers * self.directions
        each = len(weights) // count
        biased = self.call.flag("has_biases")
        projected = each == 3 + 2 * biased
        self.call.require(each * count == len(weights) and each - 2 * biased in (2, 3), f"{len(weights)} weights")
        rows = weights[0].type.bounds[0]
        self.call.require(rows % gates == 0, f"weights of {rows} rows")
        names = [[ref.name for ref in weights[i : i + each]] for i in range(0, len(weights), each)]
        return [(*some[:2], *(some[2:4] if biased else ("", "")), some[-1] if projected else "") for some in names]

    def nodes(self, nodes: Nodes, read: Collection[int]) -> dict[int, str]:
        """Emit the layers; names of those outputs of the call that are read."""
        x = self.x.name if self.batch_first else nodes.add(Permute((1, 0, 2)), self.x.name)[0]
        from penjing.ops.concat import Concat

        last: list[_End] = []
        for layer in range(self.layers):
            places = [(layer * self.directions + way, way == 1) for way in range(self.directions)]
            made = [self._layer(nodes, x, index, reverse=reverse) for index, reverse in places]
            last += made
            outputs = [end.y for end in made]
            x = outputs[0] if len(outputs) == 1 else nodes.add(Concat(2), *outputs)[0]
        found = {}
        if 0 in read:
            found[0] = x if self.batch_first else nodes.add(Permute((1, 0, 2)), x)[0]
        for output in (i for i in sorted(read) if i > 0):
            ends = [self._state_after(nodes, end, output) for end in last]
            found[output] = _stacked(nodes, ends)
        return found

    def _layer(self, nodes: Nodes, x: str, index: int, *, reverse: bool) -> "_End":
        w_ih, w_hh, b_ih, b_hh, w_hr = self.weights[index]
        inputs = [x, w_ih, w_hh, b_ih, b_hh]
        if len(self.states) == 2:
            inputs.append(w_hr)
        states = [self._state(nodes, ref, index) for ref in self.states]
        if any(states):
            inputs += [state or self._zeros(nodes, ref) for state, ref in zip(states, self.states, strict=True)]
        while not inputs[-1]:
            inputs.pop()
        y, *more = nodes.add(self.make(reverse, bool(w_hr)), *inputs)
        steps = self.x.type.shape[1 if self.batch_first else 0]
        last = steps - 1 if isinstance(steps, int) else -1
        return _End(y, 0 if reverse else last, more[0] if more else "")

    def _state(self, nodes: Nodes, state: Ref, index: int) -> str:
        """The initial state of one layer, (N, H) or (1, H); '' for zeros."""
        known = nodes.value(state.name)
        if known is None:
            value: str = nodes.add(Permute((1, 0, 2)), state.name)[0]
            return nodes.add(Select(1, index), value)[0]
        part = known[index]
        return nodes.constant(f"{state.name}.{index}", part) if part.any() else ""

    def _zeros(self, nodes: Nodes, state: Ref) -> str:
        return nodes.constant(f"{state.name}.zeros", np.zeros((1, state.type.bounds[2]), np.float32))

    def _state_after(self, nodes: Nodes, end: "_End", output: int) -> str:
        """(N, 1, H) after the last step: what the layer carries, for its last state, else the last step of y."""
        carried = end.carried if output == len(self.states) else ""
        value = carried or nodes.add(Select(1, end.last), end.y)[0]
        batch, width = nodes.type(value).shape
        return nodes.add(Reshape((batch, 1, width)), value)[0]


class _End(NamedTuple):
    """What a layer made: y, the index of the step that it computed last, and the finer state that it carries or ''.

    The index is -1 in sequences of any length.
    """

    y: str
    last: int
    carried: str


def _stacked(nodes: Nodes, ends: list[str]) -> str:
    """(layers * directions, N, H)."""
    from penjing.ops.concat import Concat

    joined = ends[0] if len(ends) == 1 else nodes.add(Concat(1), *ends)[0]
    return nodes.add(Permute((1, 0, 2)), joined)[0]


def _refs(call: TorchCall, name: str) -> list[Ref]:
    """A tensor or list of tensors."""
    value = call.arguments[name]
    items = list(value) if isinstance(value, list | tuple) else [value]
    call.require(all(isinstance(item, Ref) for item in items), f"{name} = {value!r}")
    return [item for item in items if isinstance(item, Ref)]
