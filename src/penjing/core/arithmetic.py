"""Exact arithmetic: the definition that every target must reproduce byte for byte.

    real = scale * (q - zero_point)

    requantize(acc) = rne(clamp(float32(acc) * multiplier, qmin - zp, qmax - zp)) + zp

One int-to-float conversion, ONE IEEE-754 float32 multiplication, a clamp *in float* (out-of-range conversions differ
between CPUs), round to nearest even, and then an *integer* addition, so that nothing is left for a compiler to contract
into a fused multiply-add. `docs/spec/arithmetic.md` derives it.
"""

import numpy as np
from numpy.typing import NDArray

U8_MIN, U8_MAX = 0, 255
S16_MIN, S16_MAX = -(2**15), 2**15 - 1
INT32_MAX = 2**31 - 1

_SMALLEST_NORMAL = np.finfo(np.float32).tiny
_LARGEST_MULTIPLIER = np.float32(2.0**90)

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
UInt8 = NDArray[np.uint8]


def round_clamped(
    value: Float32, zero_point: int, qmin: int = U8_MIN, qmax: int = U8_MAX, dtype: type[np.generic] = np.uint8
) -> np.ndarray:
    """rne(clamp(value, qmin - zp, qmax - zp)) + zp, with `value` in float32 quantization steps."""
    low, high = np.float32(qmin - zero_point), np.float32(qmax - zero_point)
    clamped = np.minimum(np.maximum(value, low), high)
    return (np.rint(clamped).astype(np.int32) + np.int32(zero_point)).astype(dtype)


def requantize(acc: Int32, multiplier: Float32, zero_point: int, qmin: int = U8_MIN, qmax: int = U8_MAX) -> UInt8:
    """int32 accumulators to u8 codes; `multiplier` broadcasts against `acc` (its last axis for per-channel scales)."""
    return round_clamped(acc.astype(np.float32) * multiplier, zero_point, qmin, qmax)


def quantize(real: np.ndarray, scale: np.float32, zero_point: int) -> UInt8:
    """float32 to u8 codes: rne(clamp(real / scale)) + zp, with one IEEE float32 division."""
    return round_clamped(real.astype(np.float32) / np.float32(scale), zero_point)


def dequantize(codes: np.ndarray, scale: np.float32, zero_point: int) -> Float32:
    """Codes to float32: scale * float32(q - zp), one multiplication."""
    return (codes.astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale)


def multiplier(input_scale: np.float32, weight_scale: np.ndarray, output_scale: np.float32) -> Float32:
    """(s_x * s_w) / s_y, every operation in float32, in this order, made tame."""
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(input_scale) * weight_scale.astype(np.float32)
        return _tame(np.asarray(product / np.float32(output_scale), dtype=np.float32))


def ratio(scale: np.float32, output_scale: np.float32) -> float:
    """scale / output_scale, one float32 division, made tame; a Python float that is exactly a float32."""
    with np.errstate(over="ignore", under="ignore"):
        return float(_tame(np.asarray(np.float32(scale) / np.float32(output_scale), dtype=np.float32)))


def factors(values: np.ndarray) -> Float32:
    """float64 factors of either sign, rounded once to float32, made tame."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    return np.sign(rounded) * _tame(np.abs(rounded))


def _tame(values: Float32) -> Float32:
    """Multipliers that behave alike everywhere.

    Subnormal ones become 0, as some CPUs flush them and they round every accumulator to 0 anyway. Very large ones are
    capped, as they saturate every accumulator but 0 anyway, and an infinite one would make 0 * inf.
    """
    normal = np.where(np.abs(values) < _SMALLEST_NORMAL, np.float32(0), values)
    return np.minimum(normal, _LARGEST_MULTIPLIER).astype(np.float32)


def accumulator_bound(weights: np.ndarray, bias: np.ndarray, axis: int = 0) -> int:
    """The largest |accumulator| that any input can cause: max over channels of sum |w| * 255 + |b|."""
    rest = tuple(i for i in range(weights.ndim) if i != axis)
    sums = np.abs(weights.astype(np.int64)).sum(axis=rest) * U8_MAX
    return int((sums + np.abs(bias.astype(np.int64))).max(initial=0))
