"""Which form of a tensor is the shortest, judged by entropy before anything is coded."""

import numpy as np
from numpy.typing import NDArray

from penjing.bundle.coding.forms import UNITS, Form, FormFault, Layout
from penjing.bundle.coding.generated import generated_tail
from penjing.bundle.coding.models import LOWEST, SYMBOLS
from penjing.bundle.coding.windows import choices
from penjing.core.entropy import COST_UNIT, TOTAL, counts_cost, frequency_costs

_FEWEST_ZEROS = 8  # one code in so many must be zero before windows are tried
_WINDOWS = (16, 8, 4)
_WORTH = 100  # windows take time to read: they must save one bit in so many
_WINDOW_BYTES = 8  # what a model of the windows may cost
_MANY = 64  # codes that a row should have, so that a model of its own can pay


def best_form(array: np.ndarray) -> Form:
    """The form in which `array` takes the fewest bits."""
    dtype = array.dtype
    tail = generated_tail(array)
    if tail and tail == len(array):
        return Form(generated=tail)
    plain = Form(generated=tail)
    forms = [plain]
    if dtype.kind != "f":
        forms.append(Form(delta=True, generated=tail))
    if dtype.itemsize == 1:
        split = array.ndim > 1 and array.size // len(array) >= _MANY
        forms[0] = Form(split=split, generated=tail)
        if array.size - np.count_nonzero(array) > array.size // _FEWEST_ZEROS:
            forms += [Form(split, False, units, across, window, tail)
                      for units in range(1, len(UNITS)) for across in (False, True) for window in _WINDOWS]  # fmt: skip
    costs = [_cost(Layout(array.shape, dtype, form), array) for form in forms]
    return forms[min(range(len(forms)), key=lambda i: costs[i])]


def _cost(layout: Layout, array: np.ndarray) -> int:
    """Bits * COST_UNIT."""
    try:
        layout.check()
    except FormFault:
        return 1 << 60
    codes = layout.codes(array)
    if not layout.form.units:
        return sum(counts_cost(histogram(row)) for row in (codes if layout.dtype.itemsize > 1 else [codes]))
    present = layout.present(codes)
    taken, _ = layout.windows(present)
    lengths = np.broadcast_to(layout.window_lengths, taken.shape)
    ranks = frequency_costs()[np.maximum(TOTAL // choices()[lengths, taken], 1)].sum()
    values = codes[layout.places(present)]
    found = counts_cost(np.bincount(taken.reshape(-1))) + int(ranks) + counts_cost(histogram(values))
    return found + found // _WORTH + _WINDOW_BYTES * 8 * COST_UNIT


def histogram(codes: NDArray[np.int8]) -> NDArray[np.int64]:
    """(256,) how often each symbol occurs, -128 first."""
    return np.bincount(codes.reshape(-1).astype(np.int64) - LOWEST, minlength=SYMBOLS)
