"""ONNX's LSTM, GRU and RNN, which are up to two directions of one layer, read as single layers.

    X (T, N, I), W (D, G * H, I), R (D, G * H, H), B (D, 2 * G * H), sequence_lens (N), initial_h, initial_c (D, N, H)
    Y (T, D, N, H), Y_h, Y_c (D, N, H);  with layout = 1 the batch leads: X (N, T, I), Y (N, T, D, H), Y_h (N, D, H)

Rows of W, R and both halves of B come gate by gate, in another order than torch's: i o f c of an LSTM, z r h of a GRU.
Of two directions, the reverse one is the second. Its Y lies in the order of X, as ours does.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.types import Constant, Quant
from penjing.ops.onnx_call import BATCH, Known, OnnxCall, Ref, at_probe
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Select
from penjing.ops.torch_call import Composed, Nodes

MakeLayer = Callable[[bool, bool], Operator]
"""(reverse, rectified) -> the operator of one direction."""


@dataclass(frozen=True)
class OnnxLayer:
    """One of ONNX's recurrent operators.

    Attributes:
        target: its name.
        order: our gate k is ONNX's gate order[k].
        activations: of the gates of one direction, in lower case, as ONNX lists them.
        states: how many it carries: h, and the cell c.
    """

    target: str
    order: tuple[int, ...]
    activations: tuple[str, ...]
    states: int = 1

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Rows (G * H, ...) in ONNX's order of gates, in ours."""
        return _blocks(array, self.order)

    def rows_of_onnx(self, array: np.ndarray) -> np.ndarray:
        """Rows (G * H, ...) in our order of gates, in ONNX's."""
        return _blocks(array, tuple(self.order.index(k) for k in range(len(self.order))))


def _blocks(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    blocks = array.reshape(len(order), -1, *array.shape[1:])
    return np.ascontiguousarray(blocks[list(order)].reshape(array.shape))


LSTM = OnnxLayer("LSTM", (0, 2, 3, 1), ("sigmoid", "tanh", "tanh"), states=2)
GRU = OnnxLayer("GRU", (1, 0, 2), ("sigmoid", "tanh"))
RNN = OnnxLayer("RNN", (0,), ("tanh",))

_RECTIFIED = ("relu",)
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_READ = ("activations", "direction", "hidden_size", "input_forget", "layout", "linear_before_reset")
_SEQUENCE_LENS, _INITIAL, _PEEPHOLES = 4, 5, 7


def read_layer(call: OnnxCall, layer: OnnxLayer, make: MakeLayer) -> Composed:
    """The directions of a node as single layers.

    Raises:
        UnsupportedOp: other arithmetic than that of our layers, weights or lengths that are computed, shapes that do
            not fit.
    """
    return Composed(_Reading(call, layer, make).nodes)


class _Reading:
    def __init__(self, call: OnnxCall, layer: OnnxLayer, make: MakeLayer) -> None:
        self.call, self.layer, self.make = call, layer, make
        self.directions = self._directions()
        self.batch_first = call.flag("layout")
        self.x = call.activation(0)
        shape, where = self.x.type.shape, 0 if self.batch_first else 1
        call.require(len(shape) == 3, f"X of rank {len(shape)}")
        if shape[where] != BATCH:
            raise UnsupportedOp(
                f"{call.target}: axis {where} of X is not the batch",
                hint="axis 0 of every input of a model is the batch: write the layer with batch_first=True",
            )
        self.steps = shape[1 - where]
        self.units = self._units()
        self._check_attributes()
        self._check_lengths()

    def _directions(self) -> tuple[bool, ...]:
        text = self.call.text("direction", "forward")
        self.call.require(text in _DIRECTIONS, f"direction = {text!r}")
        return _DIRECTIONS[text]

    def _units(self) -> int:
        """H, once the shapes of W, R and B fit."""
        count, gates = len(self.directions), len(self.layer.order)
        features = self.x.type.bounds[2]
        shape = self.call.array(2).shape
        units = shape[-1] if len(shape) == 3 else 0
        rows = gates * units
        wanted = {1: (count, rows, features), 2: (count, rows, units), 3: (count, 2 * rows)}
        self.call.require(units > 0, f"R of shape {shape}")
        for position, expected in wanted.items():
            if position == 3 and not self.call.has(position):
                continue
            found = self.call.array(position)
            what = f"{'XWRB'[position]} of shape {found.shape}, where {expected} is needed,"
            self.call.require(found.shape == expected, what)
            self.call.require(found.dtype.kind == "f", f"a weight of {found.dtype}")
        self.call.require(self.call.integer("hidden_size", units) == units, f"hidden_size other than {units}")
        return units

    def _check_attributes(self) -> None:
        call = self.call
        other = sorted(set(call.attributes) - set(_READ))
        call.require(not other, f"{', '.join(other)} given")
        call.require(not call.flag("input_forget"), "input_forget, gates of LSTM that are coupled,")
        if self.layer is GRU and not call.flag("linear_before_reset"):
            raise UnsupportedOp(
                "GRU that resets the state before the product with it (linear_before_reset = 0)",
                hint="train one that resets behind it, as torch and cuDNN do (Keras: reset_after=True)",
            )
        call.require(not call.has(_PEEPHOLES), "peepholes, the input P,")

    def _check_lengths(self) -> None:
        """All sequences must have all steps."""
        lengths = self.call.inputs[_SEQUENCE_LENS] if self.call.has(_SEQUENCE_LENS) else None
        if lengths is None:
            return
        wanted = [at_probe((self.steps,), probe)[0] for probe in (0, 1)]
        known = isinstance(lengths, Known) and all(
            (array == steps).all() for array, steps in zip((lengths.array, lengths.other), wanted, strict=True)
        )
        self.call.require(known, f"sequence_lens other than {self.steps} for all")

    def _is_rectified(self, way: int) -> bool:
        """Whether a direction is an RNN with Relu; UnsupportedOp for activations that no layer has."""
        given = self.call.attributes.get("activations") or self.layer.activations * len(self.directions)
        count = len(self.layer.activations)
        fits = isinstance(given, tuple) and len(given) == count * len(self.directions)
        self.call.require(fits, f"activations = {given}")
        assert isinstance(given, tuple)
        own = tuple(str(name).lower() for name in given[way * count : (way + 1) * count])
        is_rectified = self.layer is RNN and own == _RECTIFIED
        self.call.require(is_rectified or own == self.layer.activations, f"activations = {given}")
        return is_rectified

    def nodes(self, nodes: Nodes, read: Collection[int]) -> dict[int, str]:
        """Emit the layers; names of those outputs that are read."""
        x = self.x.name if self.batch_first else nodes.add(Permute((1, 0, 2)), self.x.name)[0]
        made = [self._layer(nodes, x, way) for way in range(len(self.directions))]
        found = {0: self._all_steps(nodes, [y for y, _ in made])} if 0 in read else {}
        for output in (i for i in sorted(read) if i > 0):
            found[output] = self._last_steps(nodes, made, output)
        return found

    def _layer(self, nodes: Nodes, x: str, way: int) -> tuple[str, str]:
        """y (N, T, H) of one direction, and the finer state (N, H) that it carries, or ''."""
        w_ih, w_hh = self._weight(1, way), self._weight(2, way)
        inputs = [x, w_ih, w_hh, *self._biases(way)]
        inputs += [""] if self.layer is LSTM else []
        states = [self._state(nodes, _INITIAL + i, way) for i in range(self.layer.states)]
        if any(states):
            zeros = "" if all(states) else nodes.constant(f"{w_hh}.zeros", np.zeros((1, self.units), np.float32))
            inputs += [state or zeros for state in states]
        while not inputs[-1]:
            inputs.pop()
        y, *more = nodes.add(self.make(self.directions[way], self._is_rectified(way)), *inputs)
        return y, more[0] if more else ""

    def _weight(self, position: int, way: int) -> str:
        """The rows (G * H, ...) of one direction; they keep their grid where they can."""
        known = self.call.inputs[position]
        assert isinstance(known, Known)
        array = self.layer.rows(known.array[way]).astype(np.float32)
        quant = known.quant
        if quant is not None and quant.axis is not None:
            scales = {0: quant.scale_array()[way : way + 1], 1: self.layer.rows(quant.scale_array())}
            along = scales.get(quant.axis) if quant.axis == 0 or len(quant.scales) == len(array) else None
            quant = None if along is None else Quant(tuple(map(float, along)), 0, None if quant.axis == 0 else 0)
        return self.call.make(self._stem(known.name, way), Constant(array, quant=quant)).name

    def _biases(self, way: int) -> tuple[str, str]:
        """Names of b_ih and b_hh; '' for one that is zero."""
        if not self.call.has(3):
            return "", ""
        stem = self._stem(self.call.name(3), way)
        halves = np.split(self.call.array(3)[way], 2)
        b_ih, b_hh = (
            self.call.constant(f"{stem}.{part}", self.layer.rows(half)).name if half.any() else ""
            for part, half in zip(("ih", "hh"), halves, strict=True)
        )
        return b_ih, b_hh

    def _stem(self, name: str, way: int) -> str:
        return name if len(self.directions) == 1 else f"{name}.{('forward', 'reverse')[way]}"

    def _state(self, nodes: Nodes, position: int, way: int) -> str:
        """The initial state of one direction, (N, H) or (1, H); '' for zeros."""
        state = self.call.inputs[position] if self.call.has(position) else None
        if state is None:
            return ""
        count = len(self.directions)
        if isinstance(state, Ref):
            wanted = (BATCH, count, self.units) if self.batch_first else (count, BATCH, self.units)
            self.call.require(state.type.shape == wanted, f"an initial state of {tuple(map(str, state.type.shape))}")
            if count == 1:
                return nodes.add(Reshape((BATCH, self.units)), state.name)[0]
            name = state.name if self.batch_first else nodes.add(Permute((1, 0, 2)), state.name)[0]
            return nodes.add(Select(1, way), name)[0]
        row = self._common_row(state)[way : way + 1]
        return nodes.constant(self._stem(state.name, way), row) if row.any() else ""

    def _common_row(self, state: Known) -> np.ndarray:
        """(D, H) of an initial state that is known, which must be the same for all samples."""
        where = 0 if self.batch_first else 1
        arrays = [np.moveaxis(a, where, 0) for a in (state.array, state.other) if a.ndim == 3]
        wanted = (len(self.directions), self.units)
        fits = len(arrays) == 2 and all(a.shape[1:] == wanted for a in arrays) and state.array.dtype.kind == "f"
        self.call.require(fits, f"an initial state of {state.array.dtype}{state.array.shape}")
        follows = arrays[0].shape[0] != arrays[1].shape[0] or arrays[0].shape[0] == self.call.batch
        self.call.require(follows, f"an initial state for a batch of {arrays[0].shape[0]}")
        row: np.ndarray = arrays[0][0]
        alike = all((a == row).all() for a in arrays)
        self.call.require(alike, "an initial state that differs from sample to sample")
        return row

    def _all_steps(self, nodes: Nodes, ys: list[str]) -> str:
        """Y, of which every part is one move, so that what exporters write behind it undoes them one by one."""
        from penjing.ops.concat import Concat

        count, size = len(ys), (self.steps, len(ys), self.units)
        y = ys[0] if count == 1 else nodes.add(Concat(2), *ys)[0]
        if self.batch_first:
            return nodes.add(Reshape((BATCH, *size)), y)[0]
        y = nodes.add(Permute((1, 0, 2)), y)[0]
        if count == 1:
            return nodes.add(Reshape((self.steps, 1, BATCH, self.units)), y)[0]
        y = nodes.add(Reshape((self.steps, BATCH, count, self.units)), y)[0]
        return nodes.add(Permute((0, 2, 1, 3)), y)[0]

    def _last_steps(self, nodes: Nodes, made: list[tuple[str, str]], output: int) -> str:
        """Y_h or Y_c: what a layer carries, for its last state, else the step of y that it computed last."""
        ends = []
        for (y, carried), reverse in zip(made, self.directions, strict=True):
            at = 0 if reverse else self.steps - 1 if isinstance(self.steps, int) else -1
            ends.append(carried if carried and output == self.layer.states else nodes.add(Select(1, at), y)[0])
        if len(ends) == 1:
            shape = (BATCH, 1, self.units) if self.batch_first else (1, BATCH, self.units)
            return nodes.add(Reshape(shape), ends[0])[0]
        from penjing.ops.concat import Concat

        both = nodes.add(Concat(1), *(nodes.add(Reshape((BATCH, 1, self.units)), end)[0] for end in ends))[0]
        return both if self.batch_first else nodes.add(Permute((1, 0, 2)), both)[0]
