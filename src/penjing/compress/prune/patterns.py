"""Patterns of zeros (裁剪) that kernels can use: which weights each keeps, by any importance.

    n of m      of every m weights that lie side by side in a row, at most n stay
    blocks      whole blocks stay or go: height output channels by width neighbours in a row
    anywhere    the least important weights go, wherever they lie

A row holds the weights of one output channel as a kernel reads their inputs: channels innermost, then across the
window; each row of the window begins anew. So where m or the width divides the channels, groups are of input channels
at one tap; where it does not, a group runs on into the next tap, and the last of a row is short: of r < m weights it
keeps ceil(n r / m). Nothing is padded.

(N:M: Mishra et al., "Accelerating sparse deep neural networks", 2021, section 3. Blocks: Narang et al., "Block-sparse
recurrent neural networks", 2017, section 3, with the sum of importances in the place of the largest.)

A mask is a bool array of the weight's shape, True where a weight stays. Weights that are zero already never stay.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.magnitude import Mask, keep_largest, magnitude
from penjing.core.errors import InvalidInput, PruningError

Importance = NDArray[np.float64]

_N_OF_M = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")
_BLOCKS = re.compile(r"([0-9]{1,4})x([0-9]{1,4})")


class Pattern(Protocol):
    """A rule for masks."""

    def mask(self, w: np.ndarray, importance: np.ndarray | None = None, name: str = "weights") -> Mask:
        """Which weights of w (O, ...) stay; `importance`, of the same shape and >= 0, is w^2 when it is None."""


@dataclass(frozen=True)
class NOfM:
    """At most `n` of every `m` weights in a row."""

    n: int
    m: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise PruningError(f"{self.n} of every {self.m} weights cannot stay", hint="n lies in 1..m")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def mask(self, w: np.ndarray, importance: np.ndarray | None = None, name: str = "weights") -> Mask:
        """As `Pattern.mask`."""
        return n_of_m_mask(w, self.n, self.m, importance, name)


@dataclass(frozen=True)
class Blocks:
    """Whole blocks of `height` output channels by `width` neighbours; floor(ratio * blocks) of them go."""

    ratio: float
    height: int = 16
    width: int = 4

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        if self.height < 1 or self.width < 1:
            raise PruningError(f"blocks of {self.height}x{self.width} weights do not exist")

    def __str__(self) -> str:
        return f"blocks {self.height}x{self.width}"

    def mask(self, w: np.ndarray, importance: np.ndarray | None = None, name: str = "weights") -> Mask:
        """As `Pattern.mask`."""
        given = None if importance is None else {name: importance}
        return block_masks({name: w}, (self.height, self.width), self.ratio, given)[name]


@dataclass(frozen=True)
class Anywhere:
    """floor(ratio * weights) of the weights go."""

    ratio: float

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    def __str__(self) -> str:
        return "anywhere"

    def mask(self, w: np.ndarray, importance: np.ndarray | None = None, name: str = "weights") -> Mask:
        """As `Pattern.mask`."""
        values = checked(w, importance, name)
        return np.asarray(keep_largest(values.ravel(), self.ratio).reshape(values.shape) & (np.asarray(w) != 0))


def parse_pattern(text: str, ratio: float | None = None) -> Pattern | None:
    """The pattern that a text names: `4:16`, blocks such as `16x4`, or `unstructured`; None where it names none.

    Args:
        text: without spaces.
        ratio: the share that goes; N:M says itself how many stay.

    Raises:
        InvalidInput: the ratio is missing, or one too many.
        PruningError: a pattern that cannot be.
    """
    n_of_m, blocks = _N_OF_M.fullmatch(text), _BLOCKS.fullmatch(text)
    if n_of_m is not None:
        if ratio is not None:
            raise InvalidInput(f"the pattern {text} says how many weights stay", hint="leave the ratio out")
        return NOfM(int(n_of_m[1]), int(n_of_m[2]))
    if blocks is None and text != "unstructured":
        return None
    if ratio is None:
        raise InvalidInput(f"the pattern {text} needs a ratio: how much goes")
    return Anywhere(ratio) if blocks is None else Blocks(ratio, int(blocks[1]), int(blocks[2]))


def n_of_m_mask(w: np.ndarray, n: int, m: int, importance: np.ndarray | None = None, name: str = "weights") -> Mask:
    """Keep the `n` most important of every `m` weights in a row; of equals, the first.

    Args:
        w: (O, C), (O, C, K) or (O, C, KH, KW).
        n: that stay, 1..m.
        m: weights in a group.
        importance: of the shape of `w`, finite and >= 0; w^2 when None.
        name: for messages.

    Raises:
        InvalidInput: empty, not real numbers, of another rank, or importances that do not fit.
        PruningError: NaN or infinity in `w`, or n outside 1..m.
    """
    pattern = NOfM(n, m)
    rows = as_rows(checked(w, importance, name))
    length = rows.shape[2]
    groups = -(-length // m)
    filled = np.full((*rows.shape[:2], groups * m), -1.0)
    filled[:, :, :length] = rows
    filled = filled.reshape(*rows.shape[:2], groups, m)
    sizes = np.minimum(m, length - m * np.arange(groups))
    kept = -(-pattern.n * sizes // m)
    rank = np.argsort(np.argsort(-filled, axis=3, kind="stable"), axis=3)
    keep = (rank < kept[:, None]).reshape(*rows.shape[:2], -1)[:, :, :length]
    return np.asarray(from_rows(keep, w.shape) & (np.asarray(w) != 0))


def block_masks(
    tensors: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    ratio: float,
    importance: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Mask]:
    """Prune floor(ratio * n) of the n blocks of all tensors together, those with the least importance in sum.

    Args:
        tensors: name -> weight (O, ...).
        shape: output channels and neighbours in a row of a block; blocks at an edge hold fewer.
        ratio: 0 <= ratio < 1.
        importance: name -> array of the weight's shape; w^2 when None.

    Raises:
        InvalidInput: no tensors, or as in `n_of_m_mask`.
        PruningError: NaN or infinity, a ratio outside [0, 1), or a tensor (named) that would lose all its weights.
    """
    check_ratio(ratio)
    if not tensors:
        raise InvalidInput("there are no tensors to prune")
    scores = {
        name: block_sums(checked(w, None if importance is None else importance[name], name), shape)
        for name, w in tensors.items()
    }
    keep = keep_largest(np.concatenate([score.ravel() for score in scores.values()]), ratio)
    masks: dict[str, Mask] = {}
    start = 0
    for name, score in scores.items():
        kept = keep[start : start + score.size].reshape(score.shape)
        start += score.size
        w = np.asarray(tensors[name])
        masks[name] = spread_blocks(kept, shape, w.shape) & (w != 0)
        if w.any() and not masks[name].any():
            raise PruningError(
                f"a ratio of {ratio} over all layers removes every block of this tensor",
                where=name,
                hint="lower the ratio, leave this tensor out, or prune each tensor by its own ratio",
            )
    return masks


def block_sums(values: np.ndarray, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(O, ...) -> (ceil(O / height), rows, ceil(row / width)): sums over blocks."""
    height, width = shape
    rows = as_rows(values)
    down = np.add.reduceat(rows, np.arange(0, rows.shape[0], height), axis=0)
    return np.asarray(np.add.reduceat(down, np.arange(0, rows.shape[2], width), axis=2))


def spread_blocks(kept: np.ndarray, shape: tuple[int, int], to: tuple[int, ...]) -> Mask:
    """The inverse: one value for each block -> (O, ...)."""
    outputs, _, length = as_rows(np.empty(to, np.bool_)).shape
    whole = kept.repeat(shape[0], 0)[:outputs].repeat(shape[1], 2)[:, :, :length]
    return from_rows(whole, to)


def as_rows(values: np.ndarray) -> np.ndarray:
    """(O, C), (O, C, K) or (O, C, KH, KW) -> (O, window rows, columns * C), as a kernel reads the inputs."""
    if values.ndim not in (2, 3, 4):
        raise InvalidInput(f"a weight has 2, 3 or 4 axes, not {values.ndim}")
    last = np.moveaxis(values, 1, -1)
    rows = last.shape[1] if values.ndim == 4 else 1
    return last.reshape(len(values), rows, -1)


def from_rows(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `as_rows`, to a weight of `shape`."""
    last = rows.reshape(shape[0], *shape[2:], shape[1])
    return np.ascontiguousarray(np.moveaxis(last, -1, 1))


def checked(w: np.ndarray, importance: np.ndarray | None, name: str) -> Importance:
    """The importance of each weight, w^2 by default; 0 where the weight is zero."""
    size = magnitude(w, name)
    if importance is None:
        return np.square(size)
    values = np.asarray(importance, np.float64)
    if values.shape != size.shape:
        raise InvalidInput(f"importances of shape {values.shape} for weights of shape {size.shape}", where=name)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidInput("an importance is negative, NaN or infinite", where=name)
    return np.where(size > 0, values, 0.0)


def check_ratio(ratio: float) -> None:
    """PruningError unless 0 <= ratio < 1."""
    if not 0 <= ratio < 1:
        raise PruningError(f"a pruning ratio must lie in [0, 1), not {ratio}", hint="0.5 removes half of the weights")


def kept_energy(before: np.ndarray, mask: Mask) -> float:
    """The share of sum w^2 that a mask leaves, 0..1."""
    square = np.square(before.astype(np.float64))
    total = float(square.sum())
    return float(square[mask].sum()) / total if total else 1.0
