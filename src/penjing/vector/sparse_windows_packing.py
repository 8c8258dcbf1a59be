"""Lists of windows, for blocks of 16 output channels, as one array of int32.

    first[blocks + 1], step[blocks + 1], window[windows][2],
    then from the next multiple of 64 bytes on steps [steps][128]: u8 [16][4] which codes, s8 [16][4] weights

A window is 64 codes that lie side by side, from any distance on; each of its steps lets each channel pick 4 of them.
There are two ways to fill windows:

    anywhere    a step picks from the whole window. Channels with many weights need not hold up the others: a window may
                leave some of its weights to the next one, which then starts earlier.
    near        each half of a step, 2 picks for each channel, stays within 16 codes at a multiple of 16 from the
                window's start: what byte shuffles of 16 can do. Weights in the pattern 4:16 or 2:16 lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from penjing.vector.packing import LANES, QUAD, blocks, round_up
from penjing.vector.sparse_staging import WINDOW, Staging

_NEAR = 16  # codes that half a step may pick from
_HALF = QUAD // 2
_INTS = 16  # int32 in 64 bytes
_HEADER = 2  # int32 that describe a window
_STEP_BYTES = 2 * LANES * QUAD
_WORTH = (0.0, 0.5)  # share of useful picks from which on a window goes on, to be tried
_BETTER = 1.1  # how much shorter the lists must be for windows that some processors can only unpack
_WINDOW_STEPS = 0.25  # what a window costs, in steps
_NOWHERE = 2**40


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows in the order of their blocks: block, distance of the first code, and steps of each.

    `picks` u8 and `weights` s8 (steps, 16, 4) are those of one window after the other.
    """

    block: np.ndarray
    start: np.ndarray
    steps: np.ndarray
    picks: np.ndarray
    weights: np.ndarray

    @property
    def cost(self) -> float:
        """In steps."""
        return len(self.picks) + _WINDOW_STEPS * len(self.start)


def _of_blocks(w: np.ndarray) -> np.ndarray:
    """s8 (O, taps) -> (blocks, 16, taps + 1): the last tap, and channels that do not exist, are zero."""
    filled = np.zeros((blocks(len(w)) * LANES, w.shape[1] + 1), np.int8)
    filled[: len(w), :-1] = w
    return filled.reshape(-1, LANES, w.shape[1] + 1)


def _moved(start: np.ndarray, staging: Staging) -> np.ndarray:
    """Starts of windows, moved so that the windows end where the input ends, unless staged codes go on there."""
    return start if staging.fill else np.minimum(start, staging.end - WINDOW)


def windows_anywhere(w: np.ndarray, staging: Staging, worth: float) -> Windows:
    """Windows of w s8 (O, taps), each of which goes on while the share of useful picks in a step is at least `worth`.

    All blocks at once: each time around, every block that has weights left gets a window.
    """
    filled = _of_blocks(w)
    count = np.count_nonzero(filled, axis=2)
    order = np.argsort(filled == 0, axis=2, kind="stable")[:, :, : count.max(initial=0) + 1]
    weights = np.take_along_axis(filled, order, 2)
    places = np.where(weights != 0, np.append(staging.distances, 0)[order], _NOWHERE)
    taken = np.zeros_like(count)
    found: list[Windows] = []
    while (count > taken).any():
        place = np.take_along_axis(places, taken[:, :, None], 2)[:, :, 0].min(1)
        start = _moved(place, staging)
        waiting = (places < (place + WINDOW)[:, None, None]).sum(2) * (place < _NOWHERE)[:, None]
        waiting = np.maximum(waiting - taken, 0)
        most = -(-waiting.max(1) // QUAD)
        at = np.arange(most.max())
        useful = np.clip(waiting[:, :, None] - QUAD * at, 0, QUAD).mean(1) / QUAD
        steps = np.minimum(most, np.maximum(1, ((useful >= worth) & (at < most[:, None])).sum(1)))
        found.append(_taken(places, weights, taken, np.minimum(waiting, QUAD * steps[:, None]), (place, start, steps)))
        taken = taken + np.minimum(waiting, QUAD * steps[:, None])
    return _in_order(found)


def _taken(
    places: np.ndarray,
    weights: np.ndarray,
    taken: np.ndarray,
    counts: np.ndarray,
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Windows:
    """One window for each block, with the next counts[block, channel] weights."""
    place, start, steps = windows
    at = np.arange(QUAD * int(steps.max()))
    chosen = at < counts[:, :, None]
    column = np.where(chosen, taken[:, :, None] + at, 0)
    # a pick too many is one that the window has in any case
    from_start = np.where(chosen, np.take_along_axis(places, column, 2), place[:, None, None]) - start[:, None, None]
    values = np.where(chosen, np.take_along_axis(weights, column, 2), 0)
    which = np.arange(int(steps.max())) < steps[:, None]
    picks, values = (
        v.reshape(len(v), LANES, -1, QUAD).transpose(0, 2, 1, 3)[which] for v in (from_start % WINDOW, values)
    )
    some = np.flatnonzero(steps)
    return Windows(some, start[some], steps[some], picks.astype(np.uint8), values.astype(np.int8))


def _in_order(found: list[Windows]) -> Windows:
    """Windows of rounds over all blocks, in the order of blocks."""
    block, start, steps = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in found)])
        for name in ("block", "start", "steps")
    )
    by_block = np.argsort(block, kind="stable")
    of_steps = np.argsort(np.repeat(block, steps), kind="stable")
    none = np.zeros((0, LANES, QUAD), np.uint8)
    picks = np.concatenate([none, *(part.picks for part in found)])[of_steps]
    weights = np.concatenate([none.view(np.int8), *(part.weights for part in found)])[of_steps]
    return Windows(block[by_block], start[by_block], steps[by_block], picks, weights)


def _grid(staging: Staging) -> tuple[np.ndarray, np.ndarray]:
    """Starts of windows (n) that cover the rows of the input one after the other, and their taps (n, 64); else -1."""
    rows = np.arange(staging.kernel[0]) * staging.dilation[0] * staging.pitch
    planned = (rows[:, None] + np.arange(0, staging.length, WINDOW)).reshape(-1)
    end = np.repeat(rows + staging.length, len(planned) // len(rows))
    tap = np.full(staging.end + WINDOW, -1)
    tap[staging.distances] = np.arange(len(staging.distances))
    start = _moved(planned, staging)
    at = start[:, None] + np.arange(WINDOW)
    inside = (at >= planned[:, None]) & (at < np.minimum(planned + WINDOW, end)[:, None])
    return start, np.where(inside, tap[at], -1)


def windows_near(w: np.ndarray, staging: Staging) -> Windows:
    """Windows of w s8 (O, taps), each half of a step within 16 codes."""
    start, taps = _grid(staging)
    parts = _of_blocks(w)[:, :, taps].reshape(-1, LANES, len(start), WINDOW // _NEAR, _NEAR)
    order = np.argsort(parts == 0, axis=4, kind="stable").reshape(*parts.shape[:4], -1, _HALF)
    values = np.take_along_axis(parts, order.reshape(parts.shape), 4).reshape(order.shape)
    most = np.count_nonzero(parts, axis=4).max(1)  # of 16 channels: (blocks, windows, parts)
    halves = -(-most // _HALF)
    of_window = halves.sum(2)
    steps = -(-of_window // 2)

    block, window, part, half = np.nonzero(np.arange(_NEAR // _HALF) < halves[..., None])
    picks = order[block, :, window, part, half] + _NEAR * part[:, None, None]
    chosen = values[block, :, window, part, half]
    picks = np.where(chosen != 0, picks, _NEAR * part[:, None, None])
    # the last half of an odd number goes with one that picks from the same codes and has no weights
    twice = np.ones(len(block), np.int64)
    last = np.cumsum(of_window.reshape(-1))[(of_window % 2 == 1).reshape(-1)] - 1
    twice[last] = 2
    picks, chosen = np.repeat(picks, twice, 0), np.repeat(chosen, twice, 0)
    chosen[(np.cumsum(twice) - 1)[last]] = 0
    pairs = [v.reshape(-1, 2, LANES, _HALF).transpose(0, 2, 1, 3).reshape(-1, LANES, QUAD) for v in (picks, chosen)]
    some = np.nonzero(steps)
    return Windows(some[0], start[some[1]], steps[some], pairs[0].astype(np.uint8), pairs[1].astype(np.int8))


def least_steps(w: np.ndarray) -> int:
    """Steps that w (O, ...) needs at least: in each, every channel picks 4 weights."""
    each = _of_blocks(w.reshape(len(w), -1))
    return int((-(-np.count_nonzero(each, axis=2).max(1) // QUAD)).sum())


def best_windows(w: np.ndarray, staging: Staging) -> tuple[bool, Windows]:
    """Whether windows are filled from near, as that costs hardly more, and those of w s8 (O, KH * KW * C)."""
    return _best_windows(w.tobytes(), len(w), staging)


@lru_cache(maxsize=2)  # the cost of windows is asked for before they are
def _best_windows(raw: bytes, outputs: int, staging: Staging) -> tuple[bool, Windows]:
    w = np.frombuffer(raw, np.int8).reshape(outputs, -1)
    near = windows_near(w, staging)
    if near.cost <= _BETTER * least_steps(w):
        return True, near
    anywhere = min((windows_anywhere(w, staging, worth) for worth in _WORTH), key=lambda found: found.cost)
    is_near = near.cost <= _BETTER * anywhere.cost
    return is_near, near if is_near else anywhere


def pack_windows(windows: Windows, outputs: int) -> np.ndarray:
    """The lists, s32."""
    ends = np.arange(blocks(outputs) + 1)
    first = np.searchsorted(windows.block, ends)
    step = np.append(0, np.cumsum(windows.steps))[first]
    head = np.concatenate([first, step, np.stack([windows.start, windows.steps], 1).reshape(-1)])
    filled = np.zeros(round_up(len(head), _INTS), "<i4")
    filled[: len(head)] = head
    body = np.stack([windows.picks, windows.weights.view(np.uint8)], 1)
    return np.concatenate([filled, body.reshape(-1).view("<i4")])


def unpack_windows(lists: np.ndarray, outputs: int, staging: Staging) -> np.ndarray:
    """The inverse of `pack_windows`: s8 (O, KH * KW * C)."""
    ends = blocks(outputs) + 1
    first, step = lists[:ends], lists[ends : 2 * ends]
    windows = lists[2 * ends : 2 * ends + _HEADER * int(first[-1])].reshape(-1, _HEADER)
    body = round_up(2 * ends + windows.size, _INTS)
    raw = lists[body : body + int(step[-1]) * _STEP_BYTES // 4].astype("<i4").view(np.uint8)
    picks, weights = np.moveaxis(raw.reshape(-1, 2, LANES, QUAD), 1, 0)
    spread = np.zeros((blocks(outputs) * LANES, staging.end + WINDOW), np.int8)
    block = np.repeat(np.arange(blocks(outputs)), np.diff(step))
    start = np.repeat(windows[:, 0], windows[:, 1])
    at = np.nonzero(weights)
    spread[block[at[0]] * LANES + at[1], start[at[0]] + picks[at]] = weights.view(np.int8)[at]
    return np.ascontiguousarray(spread[:outputs, staging.distances])
