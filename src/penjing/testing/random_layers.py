"""How a random layer of each kind is drawn: one rule per operator whose geometry deserves more than its samples.

An operator without a rule still takes part: by one of its own samples, on an input cut to the sample's shape. So a new
operator is drawn as soon as its file exists.
"""

from collections.abc import Callable

import numpy as np

from penjing.ir.types import Constant
from penjing.ops import operators
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose1d import ConvTranspose1d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.linear import Linear
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.operator import Operator, Sample
from penjing.ops.pad import MODES, Pad, PadValue
from penjing.ops.permute import Permute
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.prelu import Prelu
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Select, Slice
from penjing.ops.softmax import Softmax
from penjing.ops.split import Split
from penjing.ops.table import Elementwise
from penjing.ops.upsample import UpsampleLinear, UpsampleNearest
from penjing.testing.growth import Growth
from penjing.testing.sample_graphs import knows_position

Rule = Callable[[Growth], tuple[str, ...]]
MAX_CHANNELS = 19  # over one vector of 16
_WITH_AXES = (2, 3, 4, 5, 6)  # ranks that have an axis beside the batch
_BY_RULE = (False,) * 11 + (True,)


def grow(growth: Growth, name: str) -> tuple[str, ...]:
    """Append a layer with operator `name`; returns its outputs, none when nothing in the pool fits."""
    rule = RULES.get(name)
    if rule is None or growth.choose(_BY_RULE):
        return _from_sample(growth, operators()[name])
    return rule(growth)


def _from_sample(growth: Growth, operator: type[Operator]) -> tuple[str, ...]:
    sample: Sample = growth.choose([one for one in operator.samples() if not knows_position(one)])
    if issubclass(operator, Elementwise) and len(sample.inputs) == 1:
        name = growth.value()
        return growth.add(operator_of(sample), name) if name else ()
    inputs = []
    for position, array in enumerate(sample.inputs):
        if array is None:
            inputs.append("")
        elif array.dtype == np.int32:
            inputs.append(growth.ids(array.shape[1:]))
        elif position in sample.constant:
            inputs.append(growth.graph.add_constant(f"c{len(growth.graph.types)}", Constant(array)))
        else:
            name = growth.value()
            name = growth.adapted(name, array.shape[1:]) if name and array.ndim > 1 else None
            if name is None:
                return ()
            inputs.append(name)
    return growth.add(operator_of(sample), *inputs)


def operator_of(sample: Sample) -> Operator:
    """The operator of a sample of a network operator."""
    assert isinstance(sample.op, Operator)
    return sample.op


def _channels(growth: Growth, inputs: int) -> tuple[int, int]:
    """(output channels, groups): mostly dense, then depthwise, then grouped."""
    divisors = [n for n in range(1, inputs + 1) if inputs % n == 0]
    groups = growth.choose([1, 1, inputs, *divisors])
    return groups * growth.number(1, max(1, MAX_CHANNELS // groups)), groups


def _bias(growth: Growth, channels: int) -> tuple[str, ...]:
    return (growth.constant((channels,)),) if growth.flag() else ()


def _pair(growth: Growth, low: int, high: int) -> tuple[int, int]:
    return growth.number(low, high), growth.number(low, high)


def _pads(growth: Growth, high: int = 2) -> tuple[int, int, int, int]:
    return (*_pair(growth, 0, high), *_pair(growth, 0, high))


def _conv2d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(4)
    if x is None:
        return ()
    c = growth.type(x).bounds[1]
    outputs, groups = _channels(growth, c)
    kernel = _pair(growth, 1, 4)
    op = Conv2d(_pair(growth, 1, 3), _pads(growth), _pair(growth, 1, 2), groups)
    weight = growth.constant((outputs, c // groups, *kernel), fan_in=c // groups * kernel[0] * kernel[1])
    return growth.add(op, x, weight, *_bias(growth, outputs))


def _conv1d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(3)
    if x is None:
        return ()
    c, kernel = growth.type(x).bounds[1], growth.number(1, 5)
    outputs, groups = _channels(growth, c)
    op = Conv1d(growth.number(1, 3), _pair(growth, 0, 2), growth.number(1, 2), groups)
    weight = growth.constant((outputs, c // groups, kernel), fan_in=c // groups * kernel)
    return growth.add(op, x, weight, *_bias(growth, outputs))


def _conv_transpose2d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(4)
    if x is None:
        return ()
    c, kernel = growth.type(x).bounds[1], _pair(growth, 1, 4)
    outputs, groups = _channels(growth, c)
    op = ConvTranspose2d(_pair(growth, 1, 3), _pads(growth), _pair(growth, 0, 1), _pair(growth, 1, 2), groups)
    weight = growth.constant((c, outputs // groups, *kernel), fan_in=c // groups * kernel[0] * kernel[1])
    return growth.add(op, x, weight, *_bias(growth, outputs))


def _conv_transpose1d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(3)
    if x is None:
        return ()
    c, kernel = growth.type(x).bounds[1], growth.number(1, 4)
    outputs, groups = _channels(growth, c)
    op = ConvTranspose1d(growth.number(1, 3), _pair(growth, 0, 2), growth.number(0, 1), growth.number(1, 2), groups)
    weight = growth.constant((c, outputs // groups, kernel), fan_in=c // groups * kernel)
    return growth.add(op, x, weight, *_bias(growth, outputs))


def _linear(growth: Growth) -> tuple[str, ...]:
    x = growth.value(*_WITH_AXES)
    if x is None:
        return ()
    return linear_of(growth, flattened(growth, x) if growth.flag() else x)


def flattened(growth: Growth, x: str) -> str:
    """`x` with all axes but the batch in one."""
    if growth.type(x).rank == 2:
        return x
    (flat,) = growth.add(Reshape((growth.type(x).shape[0], _per_sample(growth, x))), x) or (x,)
    return flat


def linear_of(growth: Growth, x: str) -> tuple[str, ...]:
    """Append a linear layer on `x`."""
    k, outputs = growth.type(x).bounds[-1], growth.number(1, MAX_CHANNELS)
    weight = growth.constant((outputs, k), fan_in=k)
    return growth.add(Linear(), x, weight, *_bias(growth, outputs))


def _per_sample(growth: Growth, x: str) -> int:
    return growth.type(x).elements // growth.type(x).bounds[0]


def _batch_norm(growth: Growth) -> tuple[str, ...]:
    x = growth.value(2, 3, 4)
    return batch_norm_of(growth, x) if x else ()


def batch_norm_of(growth: Growth, x: str) -> tuple[str, ...]:
    """Append a batch norm of `x`, of rank 2 to 4."""
    c = growth.type(x).bounds[1]
    gamma, beta = (growth.constant((c,)) if growth.flag() else "" for _ in range(2))
    mean, var = growth.constant((c,)), growth.constant((c,), positive=True)
    return growth.add(BatchNorm(growth.choose((1e-5, 1e-3))), x, gamma, beta, mean, var)


def _prelu(growth: Growth) -> tuple[str, ...]:
    x = growth.value(*_WITH_AXES)
    if x is None:
        return ()
    return growth.add(Prelu(), x, growth.constant((growth.choose((growth.type(x).bounds[1], 1)),)))


def _binary(make: Callable[[], Operator]) -> Rule:
    def rule(growth: Growth) -> tuple[str, ...]:
        a = growth.value()
        if a is None:
            return ()
        shape = growth.type(a).bounds
        fitting = [b for b in reversed(growth.pool) if _broadcasts(growth.type(b).bounds, shape)]
        if fitting and not growth.flag():
            b = growth.choose(fitting[:8])
        else:
            extents = tuple(n if growth.flag() else 1 for n in shape[1:])
            b = growth.constant(growth.choose([(1, *extents), extents]))
        return growth.add(make(), *((b, a) if growth.flag() else (a, b)))

    return rule


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


def _concat(growth: Growth) -> tuple[str, ...]:
    x = growth.value(*_WITH_AXES)
    if x is None:
        return ()
    shape = growth.type(x).bounds
    axis = growth.number(1, len(shape) - 1)
    parts = [n for n in reversed(growth.pool) if _same_beside(growth.type(n).bounds, shape, axis)]
    chosen = [x, *(growth.choose(parts[:8]) for _ in range(growth.number(0, 3)))]
    return growth.add(Concat(axis), *chosen)


def _same_beside(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    return len(a) == len(b) and all(x == y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i != axis)


def _reshape(growth: Growth) -> tuple[str, ...]:
    x = growth.value()
    if x is None:
        return ()
    n = _per_sample(growth, x)
    first = growth.choose([k for k in range(1, n + 1) if n % k == 0])
    second = growth.choose([k for k in range(1, n // first + 1) if n // first % k == 0])
    shapes = [(n,), (first, n // first), (first, second, n // first // second)]
    return growth.add(Reshape((growth.type(x).shape[0], *growth.choose(shapes))), x)


def _permute(growth: Growth) -> tuple[str, ...]:
    x = growth.value()
    if x is None:
        return ()
    rest = list(range(1, growth.type(x).rank))
    perm = [0]
    while rest:
        perm.append(rest.pop(growth.number(0, len(rest) - 1)))
    return growth.add(Permute(tuple(perm)), x)


def _axis(growth: Growth) -> tuple[str, int, int] | None:
    """(value, axis other than the batch, its extent)."""
    x = growth.value(*_WITH_AXES)
    if x is None:
        return None
    axis = growth.number(1, growth.type(x).rank - 1)
    return x, axis, growth.type(x).bounds[axis]


def _slice(growth: Growth) -> tuple[str, ...]:
    found = _axis(growth)
    if found is None:
        return ()
    x, axis, extent = found
    start = growth.number(0, extent - 1)
    return growth.add(Slice(axis, start, growth.number(start + 1, extent), growth.number(1, 3)), x)


def _select(growth: Growth) -> tuple[str, ...]:
    found = _axis(growth)
    if found is None or growth.type(found[0]).rank < 3:
        return ()
    x, axis, extent = found
    return growth.add(Select(axis, growth.number(0, extent - 1)), x)


def _split(growth: Growth) -> tuple[str, ...]:
    found = _axis(growth)
    if found is None:
        return ()
    x, axis, extent = found
    sizes = []
    while extent:
        sizes.append(growth.number(1, extent))
        extent -= sizes[-1]
    return growth.add(Split(axis, tuple(sizes)), x)


def _mean(growth: Growth) -> tuple[str, ...]:
    x = growth.value()
    if x is None:
        return ()
    axes = tuple(axis for axis in range(1, growth.type(x).rank) if growth.flag())
    keep = growth.flag() or len(axes) == growth.type(x).rank - 1
    return growth.add(Mean(axes, keep), x) if axes else ()


def _softmax(growth: Growth) -> tuple[str, ...]:
    found = _axis(growth)
    return growth.add(Softmax(found[1]), found[0]) if found else ()


def _pad(growth: Growth) -> tuple[str, ...]:
    x = growth.value()
    if x is None:
        return ()
    pads = (0, 0, *(growth.number(0, 2) for _ in range(2 * growth.type(x).rank - 2)))
    return growth.add(Pad(pads, growth.choose(MODES)), x)


def _pad_value(growth: Growth) -> tuple[str, ...]:
    x = growth.value()
    if x is None:
        return ()
    pads = (0, 0, *(growth.number(0, 2) for _ in range(2 * growth.type(x).rank - 2)))
    return growth.add(PadValue(pads, growth.choose((1.5, -7.0, 100.0))), x)


def _max_pool2d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(4)
    if x is None:
        return ()
    kernel = _pair(growth, 1, 3)
    pads = _half_pads(growth, kernel)
    op = MaxPool2d(kernel, _pair(growth, 1, 3), pads, _pair(growth, 1, 2), growth.flag())
    return growth.add(op, x)


def _half_pads(growth: Growth, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """At most half a window, beyond which a window could lie in the padding alone."""
    top, left, bottom, right = (growth.number(0, k // 2) for k in kernel * 2)
    return top, left, bottom, right


def _avg_pool2d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(4)
    if x is None:
        return ()
    kernel = _pair(growth, 1, 3)
    op = AvgPool2d(kernel, _pair(growth, 1, 3), _half_pads(growth, kernel), growth.flag(), growth.flag())
    return growth.add(op, x)


def _max_pool1d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(3)
    if x is None:
        return ()
    kernel = growth.number(1, 4)
    op = MaxPool1d(kernel, growth.number(1, 3), _pair(growth, 0, kernel // 2), growth.number(1, 2), growth.flag())
    return growth.add(op, x)


def _avg_pool1d(growth: Growth) -> tuple[str, ...]:
    x = growth.value(3)
    if x is None:
        return ()
    kernel = growth.number(1, 4)
    op = AvgPool1d(kernel, growth.number(1, 3), _pair(growth, 0, kernel // 2), growth.flag(), growth.flag())
    return growth.add(op, x)


def _to_size(make: Callable[[Growth, tuple[int, ...]], Operator]) -> Rule:
    """Adaptive pools and resizing: a new size for each spatial axis."""

    def rule(growth: Growth) -> tuple[str, ...]:
        x = growth.value(3, 4)
        if x is None:
            return ()
        return growth.add(make(growth, tuple(growth.number(1, 9) for _ in growth.type(x).bounds[2:])), x)

    return rule


def _no_scales(size: tuple[int, ...]) -> tuple[float, ...]:
    return (0.0,) * len(size)


RULES: dict[str, Rule] = {
    "adaptive_avg_pool": _to_size(lambda growth, size: AdaptiveAvgPool(size)),
    "adaptive_max_pool": _to_size(lambda growth, size: AdaptiveMaxPool(size)),
    "add": _binary(Add),
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "batch_norm": _batch_norm,
    "concat": _concat,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv_transpose1d": _conv_transpose1d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "max_pool1d": _max_pool1d,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "mul": _binary(Mul),
    "pad": _pad,
    "pad_value": _pad_value,
    "permute": _permute,
    "prelu": _prelu,
    "reshape": _reshape,
    "select": _select,
    "slice": _slice,
    "softmax": _softmax,
    "split": _split,
    "sub": _binary(Sub),
    "upsample_linear": _to_size(lambda growth, size: UpsampleLinear(size, _no_scales(size), growth.flag())),
    "upsample_nearest": _to_size(lambda growth, size: UpsampleNearest(size, _no_scales(size))),
}
