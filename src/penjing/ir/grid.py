"""Grids of codes: how scales and zero points follow from ranges, and weights that lie on such a grid.

Weights on a grid are floats that are scale * code, symmetric, with int8 codes in the narrow range -127..127.

A pass that chooses codes (by rounding to few bits, by a codebook, by second-order information) leaves floats behind
that carry their scales: `Constant.quant` with zero point 0, one scale per tensor or one per output channel. Such a
weight can still be run, compared and calibrated as floats, and `quantize-static` takes its codes as they are.
"""

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import CalibrationError, InvalidInput, QuantizationError
from penjing.ir.types import Constant, Encoding, Quant

TOP_CODE = 127
_TINY = np.finfo(np.float32).tiny


def activation_parameters(low: float, high: float, bits: int = 8) -> tuple[np.float32, int]:
    """Scale and zero point of real = scale * (q - zero_point), codes 0..2**bits-1, for values in low..high.

    The range is first widened to hold zero, and the zero point is rounded to an integer, so that real zero is a code
    (padding and relu are then exact). That moves the ends by at most half a step. A value that was always the same,
    v, gets the scale |v| / (2**bits - 1); one that was always zero gets scale 1. A scale is never less than the
    smallest normal float32, because some CPUs treat smaller numbers as zero.

    Raises:
        CalibrationError: NaN, infinity or beyond float32, or low > high.
        InvalidInput: `bits` outside 2..16.
    """
    if not 2 <= bits <= 16:
        raise InvalidInput(f"activations take 2 to 16 bits, not {bits}")
    limit = float(np.finfo(np.float32).max)
    if not (abs(low) <= limit and abs(high) <= limit) or low > high:
        raise CalibrationError(f"a range of activations cannot be {low}..{high}")
    top = 2**bits - 1
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return np.float32(1), 0
    scale = np.float32(max((high - low) / top, float(_TINY)))
    return scale, min(max(round(-low / float(scale)), 0), top)


def peak_scales(peaks: np.ndarray, top: int) -> NDArray[np.float32]:
    """Scales that give the code `top` to these magnitudes; 1 for 0, and never less than the smallest normal float32."""
    scales = (peaks.astype(np.float64) / top).astype(np.float32)
    return np.where(peaks == 0, np.float32(1), np.maximum(scales, _TINY)).astype(np.float32)


def least_squares_scales(rows: np.ndarray, top: int) -> NDArray[np.float32]:
    """(n,): of each row of (n, k), the scale with the least squared error of codes -top..top.

    Tried are ranges of 100 %, 99 %, ... 5 % of the row's largest magnitude.
    """
    peaks = np.abs(rows).max(axis=1)
    best, least = peak_scales(peaks, top), np.full(len(rows), np.inf)
    for percent in range(100, 4, -1):
        scales = peak_scales(peaks * np.float32(percent / 100), top)
        codes = np.clip(np.rint(rows / scales[:, None]), np.float32(-top), np.float32(top))
        error = np.square(codes * scales[:, None] - rows, dtype=np.float64).sum(axis=1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best


def on_grid(codes: np.ndarray, scales: np.ndarray, axis: int | None, encoding: Encoding = Encoding.DENSE) -> Constant:
    """The float32 constant scale * code.

    Args:
        codes: integers in -127..127, any shape.
        scales: (n,) positive, one per slice along `axis`; one alone when `axis` is None.
        axis: of the output channels, or None.
        encoding: of the constant.

    Raises:
        InvalidInput: codes beyond -127..127, or scales that do not fit.
    """
    values = np.asarray(codes)
    if values.dtype.kind not in "iu" or (values.size and np.abs(values.astype(np.int64)).max() > TOP_CODE):
        raise InvalidInput(f"codes of a weight are integers in -{TOP_CODE}..{TOP_CODE}, not {values.dtype}")
    steps = np.asarray(scales, np.float32).reshape(-1)
    if steps.size != (1 if axis is None else values.shape[axis]) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InvalidInput(f"{steps.size} scales do not fit codes of shape {values.shape} along axis {axis}")
    array = values.astype(np.float32) * _along(steps, axis, values.ndim)
    return Constant(array, encoding, Quant(tuple(map(float, steps)), 0, axis))


def grid_codes(constant: Constant) -> NDArray[np.int8]:
    """The codes of a constant that lies on a grid.

    Raises:
        QuantizationError: it does not lie on it: a value is off by more than the rounding of one product.
    """
    assert constant.quant is not None
    scales = constant.quant.scale_array()
    codes = round_to_grid(constant.array, scales, constant.quant.axis)
    restored = codes.astype(np.float32) * _along(scales, constant.quant.axis, codes.ndim)
    if not np.allclose(restored, constant.array, rtol=1e-6, atol=0.0):
        raise QuantizationError(
            "a weight has moved off its grid", hint="a pass that changes weights must leave out their `quant`"
        )
    return codes


def round_to_grid(array: np.ndarray, scales: np.ndarray, axis: int | None) -> NDArray[np.int8]:
    """rne(w / scale) in float32, limited to -127..127."""
    steps = _along(np.asarray(scales, np.float32), axis, array.ndim)
    codes: NDArray[np.int8] = np.clip(np.rint(array / steps), -TOP_CODE, TOP_CODE).astype(np.int8)
    return codes


def _along(scales: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    if axis is None:
        return scales.reshape((1,) * rank)
    shape = [1] * rank
    shape[axis] = scales.size
    return scales.reshape(shape)
