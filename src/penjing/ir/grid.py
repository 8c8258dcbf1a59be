"""Weights on a grid: floats that are scale * code, symmetric, with int8 codes in the narrow range -127..127.

A pass that chooses codes (by rounding to few bits, by a codebook, by second-order information) leaves floats behind
that carry their scales: `Constant.quant` with zero point 0, one scale per tensor or one per output channel. Such a
weight can still be run, compared and calibrated as floats, and `quantize-static` takes its codes as they are.
"""

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.types import Constant, Encoding, Quant

TOP_CODE = 127


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
