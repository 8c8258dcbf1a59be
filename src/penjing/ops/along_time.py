"""What operators do to steps of time, for networks that read whole sequences and are to read them piece by piece.

Of every value it is known how it hangs on time, its `Track`. An operator that reads steps says by which operator it is
replaced, and what its outputs are. It may read steps before its own, which the reader then has to remember, but none
after: those of a stream are not known.

The columns of a causal attention are a cache of all steps, to which those of a piece are appended, and their number is
the position of the piece. What differs from step to step but not with the input, as positions do, is read from there
on. With the `before` zeros of a track,

    y[t] = sum over k of w[k] * x[t + k*dilation - before]     is causal for before = (kernel - 1)*dilation, the reach
"""

from dataclasses import replace
from functools import singledispatch
from math import prod

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Operation
from penjing.ir.types import Shape, bounds
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from penjing.ops.add import Binary
from penjing.ops.attend import Attend
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose1d import ConvTranspose1d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.embedding import Embedding
from penjing.ops.identity import Identity
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.linear import Linear
from penjing.ops.matmul import Matmul
from penjing.ops.mean import Mean
from penjing.ops.operator import Operator
from penjing.ops.pad import Pad, PadValue
from penjing.ops.permute import Permute
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.position import is_position
from penjing.ops.prelu import Prelu
from penjing.ops.recurrent import Recurrent
from penjing.ops.reshape import Reshape
from penjing.ops.rms_norm import RmsNorm
from penjing.ops.rotary import Rotary
from penjing.ops.slice import Select, Slice
from penjing.ops.softmax import Softmax
from penjing.ops.split import Split
from penjing.ops.table import Elementwise
from penjing.ops.track import Moment, Reading, Scores, Steps, Streamed
from penjing.ops.upsample import UpsampleLinear, UpsampleNearest


def along_time(reading: Reading) -> Streamed:
    """How a node that reads steps is streamed.

    Raises:
        UnsupportedOp: it needs steps that come later, or all of them at once.
    """
    padded = [track for track in reading.tracks if isinstance(track, Steps) and track.before]
    reading.expect(
        not padded or isinstance(reading.node.op, _TAKES_ZEROS),
        "zeros before the first step that no convolution takes",
        hint="pad directly before the convolution",
    )
    counts = isinstance(reading.node.op, Attend | Matmul | Rotary) and any(map(is_position, reading.inputs[1:]))
    reading.expect(not counts, "it knows a position already")
    return _streamed(reading.node.op, reading)


_TAKES_ZEROS = (Conv1d, Conv2d, Identity, Pad, Permute)


@singledispatch
def _streamed(op: Operation, r: Reading) -> Streamed:
    raise UnsupportedOp(
        f"this cannot be streamed: {op.name}", where=str(r.node), hint="there is no rule for this operator"
    )


@_streamed.register(Elementwise)
@_streamed.register(Identity)
def _kept(op: Operator, r: Reading) -> Streamed:
    """Each step by itself, on the same axis of every output."""
    if isinstance(r.tracks[0], Scores) and isinstance(op, Elementwise | Identity):
        return Streamed(op, (r.tracks[0],))
    return Streamed(op, (r.at,) * len(r.outputs))


@_streamed.register
def _batch_norm(op: BatchNorm, r: Reading) -> Streamed:
    r.expect_apart((1,), "it has one factor for each slice of")
    return _kept(op, r)


@_streamed.register
def _prelu(op: Prelu, r: Reading) -> Streamed:
    slopes = r.inputs[1]
    if slopes is not None and slopes.elements > 1:
        r.expect_apart((1,), "it has one slope for each slice of")
    return _kept(op, r)


@_streamed.register
def _linear(op: Linear, r: Reading) -> Streamed:
    r.expect_apart((r.x.rank - 1,), "it sums over")
    return _kept(op, r)


@_streamed.register
def _embedding(op: Embedding, r: Reading) -> Streamed:
    return Streamed(op, (r.tracks[1],))


@_streamed.register(LayerNorm)
@_streamed.register(RmsNorm)
def _norm(op: LayerNorm | RmsNorm, r: Reading) -> Streamed:
    r.expect_apart(range(r.x.rank - op.axes, r.x.rank), "it is a norm over")
    return _kept(op, r)


@_streamed.register
def _rotary(op: Rotary, r: Reading) -> Streamed:
    r.expect_apart((r.x.rank - 1,), "it turns pairs of")
    return replace(_kept(op, r), counted=op.axis == r.at.axis)


@_streamed.register
def _matmul(op: Matmul, r: Reading) -> Streamed:
    rank, b = r.outputs[0].rank, _in_output(r, 1)
    if b is None:
        r.expect_apart((r.x.rank - 1,), "it sums over")
        return Streamed(op, (_in_output(r, 0) or r.at,))
    if b.axis == rank - 1:
        rows = _in_output(r, 0)
        r.expect(rows is not None and rows.axis == rank - 2, "its columns are steps, and its rows are not")
        r.expect(rows == replace(b, axis=rank - 2, after=0), "it reads steps that depend on the end of the sequence")
        return Streamed(op, (Scores(rank - 2),), caches={1: b.axis - rank + _rank(r, 1)}, counted=True)
    r.expect(b.axis != rank - 2, "it sums over all steps", hint="a causal attention is streamed as a whole")
    return Streamed(op, (_side_by_side(r),))


@_streamed.register
def _attend(op: Attend, r: Reading) -> Streamed:
    rank, masks = r.x.rank, r.inputs[2:]
    scores, v = r.tracks[0], _in_output(r, 1)
    if isinstance(scores, Scores):
        hint = "with is_causal=True, or a causal mask"
        r.expect(op.causal and not masks, "each step attends to others than those up to it", hint=hint)
        r.expect(v == Steps(rank - 2), "its values are not those of the steps that its scores are of")
        return Streamed(op, (Steps(rank - 2),), caches={1: rank - 2}, counted=True)
    r.expect(not op.causal, "its rows are steps, and what they attend to is not", hint="without a causal mask")
    r.expect_apart((rank - 1,), "it sums over")
    at = r.at.axis - rank
    for mask in masks:
        repeats = mask is None or mask.rank < -at or mask.bounds[at] == 1
        r.expect(repeats, "its mask differs from step to step")
    return Streamed(op, (r.at if v is None else _side_by_side(replace(r, tracks=r.tracks[:2], inputs=r.inputs[:2])),))


def _rank(r: Reading, i: int) -> int:
    type_ = r.inputs[i]
    assert type_ is not None
    return type_.rank


def _in_output(r: Reading, i: int) -> Steps | None:
    """Where the steps of an input are in the output, which has as many axes or more."""
    track = r.tracks[i]
    r.expect(track is not Moment.LAST, "every step would read the last one")
    r.expect(not isinstance(track, Scores), "it mixes scores of steps with all those before them")
    return replace(track, axis=track.axis + r.outputs[0].rank - _rank(r, i)) if isinstance(track, Steps) else None


@_streamed.register
def _softmax(op: Softmax, r: Reading) -> Streamed:
    r.expect_apart((op.axis % r.x.rank,), "it sums over")
    return _kept(op, r)


@_streamed.register
def _split(op: Split, r: Reading) -> Streamed:
    r.expect_apart((op.axis,), "it cuts")
    return _kept(op, r)


@_streamed.register
def _mean(op: Mean, r: Reading) -> Streamed:
    r.expect_apart(op.axes, "it sums over")
    gone = 0 if op.keepdim else sum(axis < r.at.axis for axis in op.axes)
    return Streamed(op, (replace(r.at, axis=r.at.axis - gone),))


@_streamed.register
def _permute(op: Permute, r: Reading) -> Streamed:
    return Streamed(op, (replace(r.at, axis=op.perm.index(r.at.axis)),))


@_streamed.register
def _reshape(op: Reshape, r: Reading) -> Streamed:
    x, y, at = r.x.shape, op.shape, r.at.axis
    extent, before = x[at], prod(bounds(x[:at]))
    found = [axis for axis in range(len(y)) if y[axis] == extent and prod(bounds(y[:axis])) == before]
    r.expect(len(found) == 1, f"it mixes axis {at}, which is time, with others")
    shape: Shape = (*y[: found[0]], r.steps, *y[found[0] + 1 :])
    return Streamed(Reshape(shape), (replace(r.at, axis=found[0]),))


@_streamed.register
def _binary(op: Binary, r: Reading) -> Streamed:
    track = _side_by_side(r)
    tables = {}
    for i, (name, type_, other) in enumerate(zip(r.node.inputs, r.inputs, r.tracks, strict=True)):
        assert type_ is not None
        axis = track.axis - (r.outputs[0].rank - type_.rank)
        if isinstance(other, Moment) and axis >= 0 and type_.bounds[axis] != 1:
            r.expect(r.known[i], f"%{name} has another value for each step")
            r.expect(track == type(track)(track.axis), "it reads steps that depend on the end of the sequence")
            tables[i] = axis
    return Streamed(op, (track,), tables=tables)


@_streamed.register
def _concat(op: Concat, r: Reading) -> Streamed:
    track = _side_by_side(r)
    r.expect(isinstance(track, Steps), "it joins scores of steps with all those before them")
    r.expect(track.axis != op.axis, f"it joins along axis {op.axis}, which is time")
    alike = all(isinstance(other, Steps) for other in r.tracks)
    r.expect(alike, "it joins values that have steps with others that have none")
    return Streamed(op, (track,))


def _side_by_side(r: Reading) -> Steps | Scores:
    """Where in the output the steps of all inputs are, which broadcast to its rank."""
    r.expect(Moment.LAST not in r.tracks, "every step would read the last one")
    found: set[Steps | Scores] = set()
    for type_, track in zip(r.inputs, r.tracks, strict=True):
        if isinstance(track, Steps | Scores) and type_ is not None:
            found.add(replace(track, axis=track.axis + r.outputs[0].rank - type_.rank))
    r.expect(len(found) == 1, f"the steps of its inputs do not stand side by side: {_places(found)}")
    return found.pop()


def _places(tracks: set[Steps | Scores]) -> str:
    return ", ".join(sorted(_place(track) for track in tracks))


def _place(track: Steps | Scores) -> str:
    if isinstance(track, Scores):
        return f"axis {track.axis} with all steps before"
    return f"axis {track.axis} with {track.before} before and {track.after} after"


@_streamed.register
def _slice(op: Slice, r: Reading) -> Streamed:
    if op.axis != r.at.axis:
        return _kept(op, r)
    if (op.start, op.stop, op.step) == (0, r.whole, 1):  # what depends on the end is cut off
        return Streamed(Identity(), (Steps(op.axis),))
    r.expect(op.start == r.whole - 1 and op.stop == r.whole, f"it cuts axis {op.axis}, which is time")
    return Streamed(Slice(op.axis, r.steps - 1, r.steps), (Moment.LAST,))


@_streamed.register
def _select(op: Select, r: Reading) -> Streamed:
    if op.axis != r.at.axis:
        return Streamed(op, (replace(r.at, axis=r.at.axis - (op.axis < r.at.axis)),))
    r.expect(op.index == r.whole - 1, f"it takes step {op.index}, which is not the last")
    return Streamed(Select(op.axis, r.steps - 1), (Moment.LAST,))


@_streamed.register
def _pad(op: Pad, r: Reading) -> Streamed:
    before, after = op.pads[2 * r.at.axis : 2 * r.at.axis + 2]
    zeros = op.mode == "constant" or before == after == 0
    r.expect(zeros, f"{op.mode} padding of axis {r.at.axis}, which is time")
    pads = (*op.pads[: 2 * r.at.axis], 0, 0, *op.pads[2 * r.at.axis + 2 :])
    track = Steps(r.at.axis, r.at.before + before, r.at.after + after)
    return Streamed(replace(op, pads=pads) if any(pads) else Identity(), (track,))


@_streamed.register
def _pad_value(op: PadValue, r: Reading) -> Streamed:
    here = op.pads[2 * r.at.axis : 2 * r.at.axis + 2]
    r.expect(not any(here), f"it pads axis {r.at.axis}, which is time, with {op.value}")
    return _kept(op, r)


@_streamed.register
def _conv1d(op: Conv1d, r: Reading) -> Streamed:
    r.expect_apart((1,), "it sums over")
    track, reach = _convolved(r, 2, op.stride, op.dilation, op.padding)
    return Streamed(replace(op, padding=(0, 0)), (track,), reach)


@_streamed.register
def _conv2d(op: Conv2d, r: Reading) -> Streamed:
    r.expect_apart((1,), "it sums over")
    way = r.at.axis - 2
    track, reach = _convolved(r, r.at.axis, op.stride[way], op.dilation[way], op.padding[way::2])
    top, left, bottom, right = op.padding
    return Streamed(replace(op, padding=(top, 0, bottom, 0) if way else (0, left, 0, right)), (track,), reach)


def _convolved(r: Reading, axis: int, stride: int, dilation: int, padding: tuple[int, ...]) -> tuple[Steps, int]:
    """Where the steps of the output are, and how many before its own a step reads."""
    weight = r.inputs[1]
    assert weight is not None
    reach = (weight.bounds[axis] - 1) * dilation
    before, after = r.at.before + padding[0], r.at.after + padding[1]
    r.expect(stride == 1, f"a stride of {stride} along axis {axis}, which is time")
    r.expect(
        before >= reach,
        f"each step reads {reach - before} steps that come later",
        hint=f"pad axis {axis} by {reach} before and by nothing behind",
    )
    r.expect(before == reach, f"{before} zeros before the first step, though only {reach} are read with it")
    return Steps(axis, 0, after), reach


@_streamed.register(MaxPool1d)
@_streamed.register(AvgPool1d)
@_streamed.register(AdaptiveAvgPool)
@_streamed.register(AdaptiveMaxPool)
@_streamed.register(ConvTranspose1d)
@_streamed.register(ConvTranspose2d)
@_streamed.register(UpsampleLinear)
@_streamed.register(UpsampleNearest)
def _not_along_time(op: Operator, r: Reading) -> Streamed:
    """Windows over axes from 2 on, channel by channel or over all of them."""
    summed = (1,) if isinstance(op, ConvTranspose1d | ConvTranspose2d) else ()
    r.expect_apart((*summed, *range(2, r.x.rank)), f"{op.name} over")
    return _kept(op, r)


@_streamed.register(MaxPool2d)
@_streamed.register(AvgPool2d)
def _pool2d(op: MaxPool2d | AvgPool2d, r: Reading) -> Streamed:
    way = r.at.axis - 2
    single = way < 0 or (op.kernel[way], op.stride[way], *op.padding[way::2]) == (1, 1, 0, 0)
    r.expect(single, f"{op.name} over axis {r.at.axis}, which is time")
    return _kept(op, r)


@_streamed.register
def _recurrent(op: Recurrent, r: Reading) -> Streamed:
    where = f"its steps are along axis 1, time is axis {r.at.axis}"
    r.expect(r.at.axis == 1, where, hint="give the axis of time in each input")
    r.expect(not op.reverse, "it begins with the last step", hint="use a layer of one direction")
    r.expect(r.at.after == 0, "it reads steps that depend on the end of the sequence")
    return Streamed(op, (r.at, *(Moment.LAST for _ in r.outputs[1:])))
