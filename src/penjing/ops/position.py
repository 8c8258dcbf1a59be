"""Positions: how many steps a stream has had, a state that operators with a memory of all steps read.

One number for each sample, s32 (N, 1). What would lie behind the last place or before the first is held there, so that
no number makes an operator leave its memory; that a memory is full is found out before (`program/states.py`).
"""

from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.operator import expect


def is_position(type_: Type | None) -> bool:
    """Whether an input is a position, which needs no quantization: it is an integer anyway."""
    return type_ is not None and type_.dtype is DType.S32


def check_position(type_: Type) -> None:
    """InvalidGraph unless a value can be the position of one sample."""
    expect(is_position(type_) and type_.bounds == (1, 1), f"a position of {type_.dtype} {type_.bounds}")


def first_steps(position: Any, last: int) -> np.ndarray:
    """(N,): where the steps of each sample begin, 0 to `last`."""
    held: np.ndarray = np.clip(np.asarray(position, np.int64).reshape(-1), 0, last)
    return held
