"""Where two arrays of codes or floats differ, in words."""

import numpy as np


def describe_difference(got: np.ndarray, want: np.ndarray) -> str:
    """How many bytes or elements of `got` differ from `want`, and the first of them; '' when they are equal.

    Both arrays have one shape and dtype.
    """
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"is {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    bits = f"u{got.itemsize}"  # 0 and -0 are equal, and differ
    wrong = np.argwhere(got.view(bits) != want.view(bits))
    if not len(wrong):
        return ""
    first = tuple(int(i) for i in wrong[0])
    place = list(first)
    return f"differs in {len(wrong)} of {want.size}, first at {place}: got {got[first]}, want {want[first]}"
