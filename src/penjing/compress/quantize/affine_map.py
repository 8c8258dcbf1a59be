"""The seed document's affine map between real numbers and M integer codes, and the search for a good one.

    q    = floor(w * S + B), brought into 0..M-1        S = 1 / scale        B = zero_point + 1/2
    real = (q - zero_point) / S                         zero_point = B - 1/2

The 1/2 in B turns `floor` into "round to nearest". Codes beyond 0..M-1 saturate by default; `wrap` takes them mod M,
as the formula is written, so that a weight just above the range comes back as one just below it.

NOTE: floor(x + 1/2) sends a tie upwards: 2.5 -> 3, -2.5 -> -2. The kernels round to nearest *even* (`core.arithmetic`):
2.5 -> 2, -2.5 -> -2. The two agree everywhere except at x = k + 1/2 with k even, and where `w * S` and `w / scale`
round to different sides of a tie. This module is for choosing and judging maps; what ships is made by
`symmetric_per_channel` (weights) and `core.arithmetic.quantize` (activations), both with nearest even.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.grid import least_squares_scales, peak_scales

Overflow = Literal["saturate", "wrap"]
Centre = Literal["range", "mean"]
Metric = Literal["max", "rms"]
Clip = Literal["max", "mse"]

MAX_SIZE = 2**31  # codes are int32
# Steps between real zero and any code: float64 then still resolves 1/256 of a step, so no code is off by rounding.
_MAX_STEPS = 2.0**44
_SIZES_AT_ONCE = 1024
_CELLS_AT_ONCE = 2**18
_TINY = np.finfo(np.float32).tiny

_Float64 = NDArray[np.float64]
_Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class MapError:
    """What a map does to an array: largest and root-mean-square error, and signal-to-quantization-noise ratio in dB.

    `sqnr_db` is infinite where nothing is lost.
    """

    max_abs: float
    rms: float
    sqnr_db: float


@dataclass(frozen=True)
class AffineMap:
    """q = floor(w * scale + offset) in 0..size-1.

    Args:
        scale: S > 0, codes per unit of the real number. NOTE: the reciprocal of the `scale` of kernels and ONNX.
        offset: B, zero_point + 1/2.
        size: M, how many codes; 2 to 2**31.
        overflow: "saturate" (clamp to the end codes) or "wrap" (mod M).

    Raises:
        InvalidInput: a size or overflow that does not exist.
        QuantizationError: S not positive and finite, B not finite, or so far from 0..M that codes would be inexact.
    """

    scale: float
    offset: float
    size: int
    overflow: Overflow = "saturate"

    def __post_init__(self) -> None:
        if not 2 <= self.size <= MAX_SIZE:
            raise InvalidInput(f"M must lie in 2..2**31, not {self.size}", hint="M = 2**bits, 256 for 8 bits")
        if self.overflow not in ("saturate", "wrap"):
            raise InvalidInput(f"overflow must be 'saturate' or 'wrap', not {self.overflow!r}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise QuantizationError(f"the scaling factor S must be positive and finite, not {self.scale}")
        if not math.isfinite(self.offset) or abs(self.offset) + self.size > _MAX_STEPS:
            raise QuantizationError(
                f"offset B = {self.offset} leaves no exact codes: real zero is too many steps away",
                hint="the values are nearly constant: use fewer codes, or subtract their mean first",
            )

    @classmethod
    def from_parameters(
        cls, scale: float, zero_point: int, bits: int = 8, overflow: Overflow = "saturate"
    ) -> "AffineMap":
        """The map of the kernels' parameters: real = scale * (q - zero_point), codes 0..2**bits-1."""
        if not (math.isfinite(scale) and scale > 0):
            raise QuantizationError(f"a scale must be positive and finite, not {scale}")
        return cls(1.0 / scale, zero_point + 0.5, 2**bits, overflow)

    @property
    def zero_point(self) -> float:
        """The position of real zero in codes; an integer only where the map was made so."""
        return self.offset - 0.5

    def quantize(self, w: np.ndarray) -> NDArray[np.int32]:
        """Codes 0..M-1, same shape as `w`.

        Raises:
            InvalidInput: empty, or not real numbers.
            QuantizationError: NaN, infinity or beyond float32; or, wrapping, a value too large for an exact remainder.
        """
        position = _position(_real(w), self.scale, self.offset)
        if self.overflow == "saturate":
            return np.clip(position, 0, self.size - 1).astype(np.int32)
        if np.abs(position).max() > _MAX_STEPS:
            raise QuantizationError("values are too large to wrap around exactly", hint="use overflow='saturate'")
        return np.mod(position, self.size).astype(np.int32)

    def dequantize(self, codes: np.ndarray) -> NDArray[np.float64]:
        """The real number of each code.

        Raises:
            InvalidInput: codes that are not integers in 0..M-1.
        """
        q = np.asarray(codes)
        if q.dtype.kind not in "iu":
            raise InvalidInput(f"codes must be integers, not {q.dtype}")
        if q.size and (int(q.min()) < 0 or int(q.max()) >= self.size):
            raise InvalidInput(f"codes {q.min()}..{q.max()} are not all in 0..{self.size - 1}")
        return _restore(q.astype(np.float64), self.scale, self.offset)

    def error(self, w: np.ndarray) -> MapError:
        """How far dequantize(quantize(w)) is from `w`; raises as `quantize` does."""
        real = _real(w)
        difference = self.dequantize(self.quantize(real)) - real
        max_abs = float(np.abs(difference).max())
        rms, signal = _rms(difference), _rms(real)
        if rms == 0:
            return MapError(max_abs, rms, math.inf)
        return MapError(max_abs, rms, 20 * math.log10(signal / rms) if signal > 0 else -math.inf)


def min_max(w: np.ndarray, size: int, overflow: Overflow = "saturate") -> AffineMap:
    """The plain map: the smallest value gets code 0, the largest code M-1. A constant `w` keeps its value and zero.

    Raises:
        InvalidInput, QuantizationError: as `AffineMap` and its `quantize`.
    """
    low, high = _span(_real(w), "range")
    return _spanning(low, high, size, overflow)


def mean_centred(w: np.ndarray, size: int, overflow: Overflow = "saturate") -> AffineMap:
    """均值精度调整: the mean goes to the middle of 0..M-1, and the largest deviation from it to an end.

    Its step, 2 * max |w - mean| / (M - 1), is never finer than that of `min_max`. It is the better map

    * where M is odd and most values lie at the mean: the mean is then a code of its own and loses nothing;
    * beside a map that must hold real zero, when the values lie far from it (scales of a batch norm around 1).

    Otherwise, and above all for skewed values, `min_max` is finer. A constant `w` keeps its value and zero.

    Raises:
        InvalidInput, QuantizationError: as `AffineMap` and its `quantize`.
    """
    low, high = _span(_real(w), "mean")
    return _spanning(low, high, size, overflow)


def smallest_size(
    w: np.ndarray, *, max_error: float, metric: Metric = "max", centre: Centre = "range", limit: int = 2**16
) -> AffineMap:
    """最小整数映射: the map with the smallest M whose error on `w` is at most `max_error`.

    The error does not fall steadily with M (values 0, 1/2, 1 are exact at M = 3 and not at M = 4), so bisection would
    be wrong: every M from 2 upwards is tried, sieved on a few values before the rest of `w` is looked at.

    Args:
        w: any shape.
        max_error: in units of `w`, >= 0.
        metric: "max" (largest absolute error) or "rms".
        centre: "range" for maps of `min_max`, "mean" for maps of `mean_centred`.
        limit: the largest M to try; time grows with it.

    Raises:
        InvalidInput: an option that does not exist; empty `w`.
        QuantizationError: NaN, infinity or beyond float32 in `w`, or no M <= `limit` keeps the error.
    """
    if metric not in ("max", "rms"):
        raise InvalidInput(f"metric must be 'max' or 'rms', not {metric!r}")
    if not (math.isfinite(max_error) and max_error >= 0):
        raise InvalidInput(f"max_error must be a finite number >= 0, not {max_error}")
    if not 2 <= limit <= MAX_SIZE:
        raise InvalidInput(f"limit must lie in 2..2**31, not {limit}")
    values = _real(w)
    low, high = _span(values, centre)
    # A fixed shuffle: neighbours in a sorted array would be wrong, or right, together and sieve little.
    unique, counts = np.unique(values, return_counts=True)
    order = np.random.default_rng(0).permutation(unique.size)
    unique, counts = unique[order], counts[order]
    last = 2 if low == high else limit  # a constant gets the same map for every M
    for start in range(2, last + 1, _SIZES_AT_ONCE):
        sizes = np.arange(start, min(start + _SIZES_AT_ONCE, last + 1), dtype=np.float64)
        if low < high:
            sizes = _sieve(sizes, low=low, high=high, unique=unique, counts=counts, max_error=max_error, metric=metric)
        for size in sizes:
            found = _spanning(low, high, int(size), "saturate")
            error = found.error(values)
            if (error.max_abs if metric == "max" else error.rms) <= max_error:
                return found
    raise QuantizationError(
        f"no map of up to {limit} codes keeps the {metric} error within {max_error}",
        hint="allow a larger error, or raise limit",
    )


def symmetric_per_channel(
    w: np.ndarray, bits: int = 8, axis: int = 0, clip: Clip = "max"
) -> tuple[NDArray[np.int8], _Float32]:
    """Weights as the kernels want them: w = scale[channel] * code, codes in the narrow range +-(2**(bits-1) - 1).

    codes = rne(float32(w) / scale), with one IEEE float32 division. An all-zero channel gets scale 1 and codes 0; a
    channel too small for a normal float32 scale gets the smallest normal one.

    Args:
        w: weights, at least 1-D.
        bits: 2 to 8; codes are int8 in any case.
        axis: the output-channel axis.
        clip: "max": the largest |w| of a channel gets the end code. "mse": the channel's range is cut where the mean
            squared error is least (steps of 1 % of the range; never worse than "max").

    Returns:
        codes of the shape of `w`, and float32 scales of shape (w.shape[axis],).

    Raises:
        InvalidInput: empty, not real numbers, or an option or axis that does not exist.
        QuantizationError: NaN, infinity, or values beyond float32.
    """
    if not 2 <= bits <= 8:
        raise InvalidInput(f"weights take 2 to 8 bits, not {bits}")
    if clip not in ("max", "mse"):
        raise InvalidInput(f"clip must be 'max' or 'mse', not {clip!r}")
    weights = _real(w).astype(np.float32)
    if not -weights.ndim <= axis < weights.ndim:
        raise InvalidInput(f"weights of shape {weights.shape} have no axis {axis}")
    front = np.moveaxis(weights, axis, 0)
    rows = front.reshape(front.shape[0], -1)  # (channels, weights of a channel)
    top = 2 ** (bits - 1) - 1
    scales = peak_scales(np.abs(rows).max(axis=1), top) if clip == "max" else least_squares_scales(rows, top)
    codes = _round_symmetric(rows, scales, top).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(codes.reshape(front.shape), 0, axis)), scales


def _real(w: np.ndarray) -> _Float64:
    array = np.asarray(w)
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"quantization needs real numbers, not {array.dtype}")
    if array.size == 0:
        raise InvalidInput(f"an array of shape {array.shape} holds nothing to quantize")
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise QuantizationError(
            f"{np.count_nonzero(bad)} of {array.size} values are NaN, infinite or beyond float32",
            where=f"first at index {first}",
            hint="the training diverged, or a division by zero was folded in; look at the weights before this step",
        )
    return array.astype(np.float64)


def _rms(values: _Float64) -> float:
    # Divided by the peak, so that squares neither overflow nor vanish.
    peak = float(np.abs(values).max())
    return peak * math.sqrt(float(np.mean(np.square(values / peak)))) if peak > 0 else 0.0


def _span(values: _Float64, centre: Centre) -> tuple[float, float]:
    """The two real numbers that get the end codes; equal for a constant array."""
    if centre not in ("range", "mean"):
        raise InvalidInput(f"centre must be 'range' or 'mean', not {centre!r}")
    low, high = float(values.min()), float(values.max())
    if centre == "range" or low == high:
        return low, high
    mean = float(values.mean())
    deviation = max(high - mean, mean - low)
    return mean - deviation, mean + deviation


def _spanning(low: float, high: float, size: int, overflow: Overflow) -> AffineMap:
    if low == high:
        return _constant(low, size, overflow)
    scale, offset = _scale_and_offset(np.asarray(size, dtype=np.float64), low, high)
    return AffineMap(float(scale), float(offset), size, overflow)


def _constant(value: float, size: int, overflow: Overflow) -> AffineMap:
    """A map of step |value| with zero beside the middle: both `value` and zero are codes."""
    if value == 0:
        return AffineMap(1.0, size // 2 + 0.5, size, overflow)
    with np.errstate(over="ignore"):
        scale = float(1 / np.abs(np.float64(value)))
    zero = size // 2 - 1 if value > 0 else (size - 1) // 2 + 1
    return AffineMap(scale, zero + 0.5, size, overflow)


def _scale_and_offset(sizes: _Float64, low: float, high: float) -> tuple[_Float64, _Float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (sizes - 1) / (np.float64(high) - np.float64(low))
        return scale, 0.5 - low * scale


def _position(real: _Float64, scale: float | _Float64, offset: float | _Float64) -> _Float64:
    with np.errstate(over="ignore"):
        return np.asarray(np.floor(real * scale + offset))


def _restore(codes: _Float64, scale: float | _Float64, offset: float | _Float64) -> _Float64:
    return np.asarray((codes - (offset - 0.5)) / scale)


def _sieve(
    sizes: _Float64,
    *,
    low: float,
    high: float,
    unique: _Float64,
    counts: NDArray[np.int64],
    max_error: float,
    metric: Metric,
) -> _Float64:
    """The sizes that may keep `max_error` on all values; drops only those that certainly do not."""
    squares = np.zeros(sizes.size)
    # Summed in another order than in `error`: the slack keeps a borderline size for the exact check.
    budget = max_error * max_error * int(counts.sum()) * (1 + 1e-9)
    start = 0
    while start < unique.size and sizes.size:
        stop = start + max(64, _CELLS_AT_ONCE // sizes.size)
        points, weight = unique[start:stop], counts[start:stop]
        scale, offset = (column[:, None] for column in _scale_and_offset(sizes, low, high))
        codes = np.clip(_position(points, scale, offset), 0, sizes[:, None] - 1)
        error = np.abs(_restore(codes, scale, offset) - points)
        squares += np.square(error) @ weight
        keep = (error <= max_error).all(axis=1) if metric == "max" else squares <= budget
        sizes, squares = sizes[keep], squares[keep]
        start = stop
    return sizes


def _round_symmetric(rows: _Float32, scales: _Float32, top: int) -> _Float32:
    codes = np.rint(rows / scales[:, None])
    return np.asarray(np.clip(codes, np.float32(-top), np.float32(top)))
