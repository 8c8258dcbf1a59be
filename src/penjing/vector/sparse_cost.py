"""Whether lists of weights are faster than all weights, by a table of measured costs.

Costs count dense products: one of 4 codes by 4 weights for each of 16 channels, as v_conv2d makes KH * KW * ceil(C / 4)
of them for a block of 16 channels in each output pixel. One library serves several instruction sets, so one table does.
Fitted to layers of ResNet-20 (3 x 3) and MobileNetV2 (1 x 1) on Emerald Rapids; storing results costs the same in all:

                        AVX-512 VNNI, VBMI     AVX2
    entry of blocks     1.1 - 1.35             1.1 - 1.2       one vector of channels at a time, a distance to read
    step of a window    2                      1.9             a shuffle beside each product
    window              0.4 - 0.7              (in its steps)  its codes are read anew
    block               1                      1               v_conv2d stores two blocks at once
    block, one pixel    30                     not fitted      lists to open, nothing to share that among

Gains predicted and measured with AVX-512 on 3 x 3 x 64 (8 x 8 pixels): 4:16 1.86 and 1.7 to 1.75; zeros anywhere, 60 %
0.97 and 1.0, 70 % 1.2 and 1.2, 80 % 1.6 and 1.55 to 1.7. Where windows have few codes, storing results hides gains:
1 x 1 x 32 gains 1.1 to 1.35 by 4:16, not 1.5.

AVX2 cannot pick from 64 codes: it runs weights that are zero anywhere as blocks, 2 to 14 % slower than v_conv2d, layer
by layer. So these must gain more elsewhere, and stay dense where a layer has few pixels: there AVX2 takes up to twice
the time of v_linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penjing.vector.packing import QUAD, blocks
from penjing.vector.sparse_packing import by_distance, quad_starts
from penjing.vector.sparse_staging import Staging
from penjing.vector.sparse_windows_packing import best_windows, least_steps

_ENTRY, _STEP, _WINDOW = 1.25, 2.0, 0.5
_BLOCK, _ALONE = 1.0, 30.0
_GAIN = 1.05  # what makes another kernel worth its lists
_GAIN_ANYWHERE = 1.2
_FEW_PIXELS = 4
_HOPELESS = 0.4  # share of zeros below which nothing is tried


@dataclass(frozen=True)
class Estimate:
    """Of a form of weights: products, entries or steps in all blocks, and their cost in dense products."""

    count: int
    cost: float


def dense(outputs: int, staging: Staging) -> Estimate:
    """All weights."""
    count = blocks(outputs) * staging.kernel[0] * staging.kernel[1] * -(-staging.channels // QUAD)
    return Estimate(count, count)


def of_blocks(w: np.ndarray, staging: Staging) -> Estimate:
    """Blocks of w s8 (O, KH * KW * C)."""
    count = sum(len(quad_starts(block.any(0))) for block in by_distance(w, staging))
    return Estimate(count, _ENTRY * count + _of_each_block(w, staging))


def of_windows(w: np.ndarray, staging: Staging) -> tuple[Estimate, bool]:
    """Windows of w s8 (O, KH * KW * C), and whether they are filled from near."""
    near, windows = best_windows(w, staging)
    steps = len(windows.picks)
    return Estimate(steps, _STEP * steps + _WINDOW * len(windows.start) + _of_each_block(w, staging)), near


def _of_each_block(w: np.ndarray, staging: Staging) -> float:
    return (_ALONE if _pixels(staging) == 1 else _BLOCK) * blocks(len(w))


def _pixels(staging: Staging) -> int:
    return staging.n * staging.output[0] * staging.output[1]


def too_dense(w: np.ndarray) -> str | None:
    """Why no form of w (O, ...) with lists can be faster; None when one could."""
    zeros = 1.0 - np.count_nonzero(w) / w.size
    return f"{zeros:.0%} of its weights are zero" if zeros < _HOPELESS else None


def blocks_problem(w: np.ndarray, staging: Staging) -> str | None:
    """Why w s8 (O, KH * KW * C) is slower in blocks than in another form; None when blocks are fastest."""
    have, want = of_blocks(w, staging), dense(len(w), staging)
    if have.cost * _GAIN > want.cost:
        return _slower(w, f"{have.count} blocks of 16 x 4", have, want)
    if _STEP * least_steps(w) < have.cost:
        windows, near = of_windows(w, staging)
        if windows.cost < have.cost and _windows_problem(w, staging, windows, near) is None:
            return f"windows are faster: {windows.count} steps of windows, not {have.count} blocks"
    return None


def windows_problem(w: np.ndarray, staging: Staging) -> str | None:
    """Why w s8 (O, KH * KW * C) is slower in windows than dense; None when windows are faster."""
    least, want = least_steps(w), dense(len(w), staging)
    if _STEP * least * _GAIN > want.cost:  # without a look at where the zeros are
        return _slower(w, f"at least {least} steps of windows", Estimate(least, _STEP * least), want)
    return _windows_problem(w, staging, *of_windows(w, staging))


def _windows_problem(w: np.ndarray, staging: Staging, have: Estimate, near: bool) -> str | None:
    want = dense(len(w), staging)
    if not near and _pixels(staging) < _FEW_PIXELS:
        return "its zeros are in no pattern, and its output has too few pixels"
    if have.cost * (_GAIN if near else _GAIN_ANYWHERE) > want.cost:
        return _slower(w, f"{have.count} steps of windows", have, want)
    return None


def _slower(w: np.ndarray, what: str, have: Estimate, want: Estimate) -> str:
    zeros = 1.0 - np.count_nonzero(w) / w.size
    return f"{zeros:.0%} zeros leave {what}, no faster than {have.cost:.0f} products; dense, it needs {want.count}"
