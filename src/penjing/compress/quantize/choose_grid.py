"""Which grid a weight gets: how many codes, and the steps between them.

    w~ = s * m * clamp(rne(w / (s * m)), -top, top),    top = 2^(bits - 1) - 1

with one scale s per tensor or per output channel (Jacob et al., 2018, section 2; Krishnamoorthi, "Quantizing deep
convolutional networks", 2018, section 3), and whole multipliers m: 1, or one for each group of input weights. The
integers that are multiplied on the device are m * q, so a group of large weights beside groups of small ones costs
nothing at run time and stays exact. They must fit into int8: m <= 127 / top, which is 18 for 4 bits, 42 for 3, 127 for
2, and 1 for 8, where groups change nothing. (Two levels of scales, the inner one whole: Dai et al., "VS-Quant", 2021,
section 4.4.)

Ternary weights {-1, 0, 1} have the scale and threshold of least squares (Li et al., "Ternary weight networks", 2016,
equation 6). With the magnitudes sorted, a_1 >= a_2 >= ..., the n largest become +-1, where

    n = argmax (a_1 + ... + a_n)^2 / n,    s = (a_1 + ... + a_n) / n

The paper approximates n by a threshold of 0.7 mean |w|; sorting finds it exactly.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.affine_map import Clip, symmetric_per_channel
from penjing.compress.quantize.layers import from_channel_rows
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.grid import TOP_CODE, on_grid
from penjing.ir.types import Constant

Bits = int | Literal["ternary"]
Per = Literal["tensor", "channel"]

_Float32 = NDArray[np.float32]
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class GridOptions:
    """How grids are chosen.

    Attributes:
        per: one scale per "tensor" or per output "channel".
        group: how many neighbouring input weights of a channel share a multiplier; None: no multipliers.
        clip: "max": no weight is cut off. "mse": the range of least squared error.
    """

    per: Per = "channel"
    group: int | None = None
    clip: Clip = "max"

    def __post_init__(self) -> None:
        if self.per not in ("tensor", "channel"):
            raise InvalidInput(f"scales are per 'tensor' or 'channel', not {self.per!r}")
        if self.clip not in ("max", "mse"):
            raise InvalidInput(f"clip must be 'max' or 'mse', not {self.clip!r}")
        if self.group is not None and self.group < 1:
            raise InvalidInput(f"a group holds at least one weight, not {self.group}")


@dataclass(frozen=True, eq=False)
class RowGrid:
    """The grid of a weight given as rows (O, k).

    Attributes:
        scales: (O,), or (1,) per tensor.
        multipliers: (O, k) whole numbers, or (1, 1).
        top: codes before the multiplier are -top..top.
    """

    scales: _Float32
    multipliers: NDArray[np.int64]
    top: int

    @property
    def steps(self) -> _Float32:
        """What the codes count, broadcastable to (O, k)."""
        return np.asarray(self.scales[:, None] * self.multipliers.astype(np.float32), np.float32)

    def codes(self, rows: np.ndarray) -> NDArray[np.int8]:
        """Nearest codes, multiplied: int8 (O, k)."""
        nearest = np.clip(np.rint(rows / self.steps), -self.top, self.top)
        return np.asarray(nearest * self.multipliers, np.int8)

    def constant(self, codes: np.ndarray, like: Constant, axis: int) -> Constant:
        """The weight of these codes (O, k), in the shape and encoding of `like`."""
        whole = from_channel_rows(codes, like.array, axis)
        return on_grid(whole, self.scales, axis if self.scales.size == whole.shape[axis] else None, like.encoding)


def check_bits(bits: Bits) -> Bits:
    """`bits` itself.

    Raises:
        InvalidInput: neither 2..8 nor "ternary".
    """
    if bits != "ternary" and (isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8):
        raise InvalidInput(f"weights take 2 to 8 bits or 'ternary', not {bits!r}")
    return bits


def choose_grid(rows: _Float32, bits: Bits, options: GridOptions, name: str) -> RowGrid:
    """The grid of `rows` (O, k), the weight called `name`.

    Raises:
        InvalidInput: `bits` outside their range.
        QuantizationError: the group does not divide k, or NaN or infinity in `rows`.
    """
    top = 1 if check_bits(bits) == "ternary" else 2 ** (int(bits) - 1) - 1
    if options.group is None:
        units = rows if options.per == "channel" else rows.reshape(1, -1)
        return RowGrid(_scales(units, bits, options), np.ones((1, 1), np.int64), top)
    if rows.shape[1] % options.group:
        raise QuantizationError(
            f"groups of {options.group} do not divide the {rows.shape[1]} weights of an output channel",
            where=name,
            hint="choose a divisor, or leave this layer to a pass without groups",
        )
    return _grouped(rows.reshape(len(rows), -1, options.group), bits, options, top)


def _grouped(blocks: _Float32, bits: Bits, options: GridOptions, top: int) -> RowGrid:
    """`blocks` (O, groups, weights): the coarsest group of a channel gets the largest multiplier."""
    flat = blocks.reshape(-1, blocks.shape[2])
    wanted = np.where(flat.any(axis=1), _scales(flat, bits, options), np.float32(0)).reshape(blocks.shape[:2])
    coarsest = wanted.max(axis=1) if options.per == "channel" else wanted.max(keepdims=True).reshape(1)
    room = TOP_CODE // top
    scales = np.where(coarsest > 0, np.maximum(coarsest / room, _TINY), 1).astype(np.float32)
    if bits != "ternary" and options.clip == "max":
        factors = np.ceil(wanted / scales[:, None] - 1e-5)  # the step of the coarsest group is `room` but for rounding
    else:
        factors = _least_squares_factors(blocks, scales, top, room)
    multipliers = np.clip(factors, 1, room).astype(np.int64)
    return RowGrid(scales, np.repeat(multipliers, blocks.shape[2], axis=1), top)


def _least_squares_factors(blocks: _Float32, scales: _Float32, top: int, room: int) -> NDArray[np.float64]:
    best = np.ones(blocks.shape[:2])
    least = np.full(blocks.shape[:2], np.inf)
    for factor in range(1, room + 1):
        steps = (scales * np.float32(factor))[:, None, None]
        rounded = np.clip(np.rint(blocks / steps), -top, top) * steps
        error = np.square(rounded - blocks, dtype=np.float64).sum(axis=2)
        best, least = np.where(error < least, factor, best), np.minimum(error, least)
    return best


def _scales(units: _Float32, bits: Bits, options: GridOptions) -> _Float32:
    """One scale for each row of `units`."""
    if bits != "ternary":
        return symmetric_per_channel(units, bits, 0, options.clip)[1]
    magnitudes = -np.sort(-np.abs(units.astype(np.float64)), axis=1)
    sums = np.cumsum(magnitudes, axis=1)
    counts = np.arange(1, units.shape[1] + 1)
    chosen = np.argmax(sums * sums / counts, axis=1)
    scales = sums[np.arange(len(units)), chosen] / counts[chosen]
    return np.where(scales > 0, np.maximum(scales, _TINY), 1).astype(np.float32)
