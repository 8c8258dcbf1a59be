"""Several tensors in one member: a table of what they are, the models, and one stream of all symbols.

    "PJP1", lanes u16, models u8
    number of tensors, then for each: dtype + 16 * dimensions, the dimensions, its form
    bytes of the names, the names joined by newlines and deflated
    the models
    the stream: the model of each sequence; taken places of all windows; their ranks; all codes

`docs/spec/bundle.md` has every bit. Nothing here runs code, trusts a size or needs a float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penjing.bundle.coding.choice import best_form
from penjing.bundle.coding.clustering import clustered
from penjing.bundle.coding.deflate import DeflateFault, deflate
from penjing.bundle.coding.dtypes import CODES, DTYPES
from penjing.bundle.coding.forms import FormFault, Layout
from penjing.bundle.coding.head import BYTES_PER_LANE, MAGIC, MAX_DIMS, MAX_LANES, Head, read_head
from penjing.bundle.coding.models import LOWEST, SYMBOLS, Model, ModelFault, fitted
from penjing.bundle.coding.rans import Decoder, Run, StreamFault, Tables, encode, uniform_share
from penjing.bundle.coding.reader import ReaderFault, to_varint
from penjing.bundle.coding.windows import choices, masks_of
from penjing.bundle.names import line_fault
from penjing.core.entropy import COST_UNIT, frequency_costs
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle

# (pack, bytes of all tensors, most bytes of working memory) -> the bytes of all tensors, one after the other in the
# order of the pack, elements little-endian; None where it refuses the pack.
PackDecoder = Callable[[memoryview, int, int], "NDArray[np.uint8] | None"]

_FAMILY = MAGIC[:3]
_STREAM_BYTES_PER_LANE = 768  # a lane costs 5 of them; readers in numpy are the faster, the more there are
_MANY_LANES = 4096
_COUNTS, _DIGITS, _CODES, _SPARSE_CODES = range(4)  # groups of sequences
_MODEL_BYTES = 4096  # of working memory: 256 frequencies, and room to find one by


def pack_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a pack.

    Args:
        tensors: name -> u8, s8, s16, s32 or f32 of any byte order; 0 to 8 dimensions, none of them 0.

    Raises:
        InvalidInput: another dtype, too many dimensions, an empty tensor, or a name that is no line of text.
    """
    arrays = {name: _checked(name, array) for name, array in tensors.items()}
    layouts = [Layout(array.shape, array.dtype, best_form(array)) for array in arrays.values()]
    parts = [_Symbols(layout, array) for layout, array in zip(layouts, arrays.values(), strict=True)]
    sequences = [found for part in parts for found in (*part.counts, *part.rows)]
    counts = np.array([_counted(found) for found in sequences], np.int64).reshape(-1, SYMBOLS)
    groups = np.array([group for part in parts for group in part.groups], np.int64)
    models, numbers = clustered(counts, groups)
    models = [fitted(_counted(numbers), refine=True), *models] if sequences else []
    runs = _runs(parts, models, numbers)
    head = bytearray(to_varint(len(layouts)))
    for layout in layouts:
        head.append(CODES[layout.dtype] + 16 * len(layout.shape))
        head += b"".join(map(to_varint, layout.shape)) + layout.form.to_bytes()
    names = deflate("\n".join(arrays).encode())
    lanes = _lanes(runs, sum(array.nbytes for array in arrays.values()))
    head += to_varint(len(names)) + names + b"".join(model.to_bytes() for model in models)
    return MAGIC + lanes.to_bytes(2, "little") + bytes((len(models),)) + head + encode(runs, lanes)


def read_pack(
    data: bytes | memoryview, *, where: str = "pack", decode: PackDecoder | None = None
) -> dict[str, np.ndarray]:
    """Name -> read-only tensor, in the order in which they were packed.

    Args:
        data: the pack.
        where: what to call it in errors.
        decode: reads the stream instead of numpy. What it refuses is refused.

    Raises:
        UnsupportedBundle: a version that this release does not know.
        CorruptBundle: anything that `pack_tensors` does not write.
    """
    view = memoryview(data).toreadonly().cast("B")
    if bytes(view[:4]) != MAGIC:
        if bytes(view[:3]) == _FAMILY:
            raise UnsupportedBundle("a pack of tensors of an unknown version", where=where, hint="upgrade penjing")
        raise CorruptBundle("this is no pack of tensors", where=where)
    try:
        return _read(view) if decode is None else _read_by(decode, view)
    except (ReaderFault, FormFault, ModelFault, DeflateFault, StreamFault) as fault:
        raise CorruptBundle(f"a pack of tensors is refused: {fault}", where=where) from None


class _Symbols:
    """The sequences of one tensor."""

    def __init__(self, layout: Layout, array: np.ndarray) -> None:
        codes = layout.codes(array)
        self.counts: list[np.ndarray] = []
        self.rows: list[np.ndarray] = list(codes)
        self.choices = self.ranks = np.zeros(0, np.int64)
        group = _DIGITS if layout.dtype.itemsize > 1 else _CODES
        if layout.form.units:
            present = layout.present(codes)
            taken, ranks = layout.windows(present)
            places = layout.places(present)
            self.counts = list(taken)
            self.rows = [row[kept] for row, kept in zip(codes, places, strict=True)]
            self.choices, self.ranks = choices()[layout.window_lengths, taken].reshape(-1), ranks.reshape(-1)
            group = _SPARSE_CODES if layout.form.units == 1 else _CODES
        self.groups = [_COUNTS] * len(self.counts) + [group] * len(self.rows)


def _runs(parts: Sequence[_Symbols], models: Sequence[Model], numbers: NDArray[np.int64]) -> list[Run]:
    if not models:
        return []
    frequencies = np.stack([model.frequencies() for model in models])
    before = np.cumsum(frequencies, axis=1) - frequencies

    def run(sequences: Sequence[np.ndarray], of: NDArray[np.int64]) -> Run:
        symbols = np.concatenate([np.zeros(0, np.int64), *sequences]).astype(np.int64) - LOWEST
        model = np.repeat(of, [len(found) for found in sequences])
        return frequencies[model, symbols], before[model, symbols]

    # numbers count models after the first, which is that of the numbers themselves
    order = np.array([is_count for part in parts for is_count in [True] * len(part.counts) + [False] * len(part.rows)])
    ranks = np.concatenate([part.ranks for part in parts])
    amounts = np.concatenate([part.choices for part in parts])
    chosen = amounts > 1
    return [
        run([numbers], np.zeros(1, np.int64)),
        run([found for part in parts for found in part.counts], numbers[order] + 1),
        uniform_share(ranks[chosen], amounts[chosen]),
        run([found for part in parts for found in part.rows], numbers[~order] + 1),
    ]


def _lanes(runs: Sequence[Run], n_bytes: int) -> int:
    bits = sum(int(frequency_costs()[frequencies].sum()) for frequencies, _ in runs) // COST_UNIT
    lanes = max(min(_MANY_LANES, 1 + bits // 8 // _STREAM_BYTES_PER_LANE), -(-n_bytes // BYTES_PER_LANE))
    if lanes > MAX_LANES:
        raise InvalidInput(
            f"{n_bytes} bytes of tensors are more than the {MAX_LANES * BYTES_PER_LANE} of a pack",
            hint="this is no model for a small device",
        )
    return lanes


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    dtype = DTYPES.get(CODES.get(array.dtype.newbyteorder("<"), 0))
    if dtype is None:
        raise InvalidInput(
            f"a tray cannot hold a tensor of dtype {array.dtype}", where=name, hint="use u8, s8, s16, s32 or f32"
        )
    if array.ndim > MAX_DIMS or array.size == 0 or array.nbytes >= 1 << 32:
        raise InvalidInput(f"a tray cannot hold a tensor of shape {array.shape}", where=name)
    fault = line_fault(name)
    if fault is not None:
        raise InvalidInput(f"a tensor cannot be named {name[:80]!a}: {fault}")
    return np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(array.shape)


def _counted(symbols: np.ndarray) -> NDArray[np.int64]:
    return np.bincount(symbols.astype(np.int64) - LOWEST, minlength=SYMBOLS)


# --- reading: every number is checked before it is used ---


def _read(view: memoryview) -> dict[str, np.ndarray]:
    head = read_head(view)
    decoder = Decoder(view[head.end :], head.lanes)
    codes = _read_codes(head, decoder) if head.models else []
    decoder.finish()
    arrays = (layout.array(symbols) for layout, symbols in zip(head.layouts, codes, strict=True))
    # bytes cannot be written, not even by who asks for it
    return {
        name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
        for name, array in zip(head.names, arrays, strict=True)
    }


def _read_by(decode: PackDecoder, view: memoryview) -> dict[str, np.ndarray]:
    head = read_head(view)
    n_bytes = sum(layout.nbytes for layout in head.layouts)
    out = decode(view, n_bytes, _most_scratch(head))
    if out is None:
        _read(view)  # says what is wrong
        raise StreamFault("two decoders disagree on it")
    found, at = {}, 0
    for name, layout in zip(head.names, head.layouts, strict=True):
        data = out[at : at + layout.nbytes].tobytes()
        found[name] = np.frombuffer(data, layout.dtype).reshape(layout.shape)
        at += layout.nbytes
    return found


def _most_scratch(head: Head) -> int:
    """Bytes of working memory that no decoder needs more of: for its lanes, its models, and the model of each row."""
    rows = sum(layout.rows + layout.unit_rows for layout in head.layouts)
    return 8 * head.lanes + _MODEL_BYTES * len(head.models) + rows


def _read_codes(head: Head, decoder: Decoder) -> list[NDArray[np.int8]]:
    """(rows, columns) of each tensor."""
    tables = Tables(np.stack([model.frequencies() for model in head.models]))
    layouts = head.layouts
    kinds = np.concatenate([[True] * layout.unit_rows + [False] * layout.rows for layout in layouts]).astype(np.bool_)
    numbers = decoder.symbols(tables, np.zeros(len(kinds), np.int64)).astype(np.int64) + 1
    if ((numbers < 1) | (numbers >= len(head.models))).any():
        raise ModelFault("a sequence has a model that does not exist")
    # taken places
    lengths = [layout.window_lengths for layout in layouts for _ in range(layout.unit_rows)]
    per_row = np.array([len(found) for found in lengths], np.int64)
    taken = decoder.symbols(tables, np.repeat(numbers[kinds], per_row)).astype(np.int64)
    windows = np.concatenate([np.zeros(0, np.int64), *lengths])
    if ((taken < 0) | (taken > windows)).any():
        raise StreamFault("more places of a window are taken than it has")
    # which places
    amounts = choices()[windows, taken]
    ranks = np.zeros_like(taken)
    chosen = amounts > 1
    ranks[chosen] = decoder.uniform(amounts[chosen])
    masks = masks_of(taken, ranks)
    # codes
    places: list[NDArray[np.bool_] | None] = []
    per_code_row: list[np.ndarray] = []
    at = 0
    for layout in layouts:
        if layout.form.units:
            end = at + layout.unit_rows * len(layout.window_lengths)
            taken_places = layout.places(layout.units_of(masks[at:end].reshape(layout.unit_rows, -1)))
            places.append(taken_places)
            per_code_row.append(np.count_nonzero(taken_places, axis=1))
            at = end
        else:
            places.append(None)
            per_code_row.append(np.full(layout.rows, layout.columns))
    symbols = decoder.symbols(tables, np.repeat(numbers[~kinds], np.concatenate(per_code_row)))
    return _placed(symbols, layouts, places)


def _placed(
    symbols: NDArray[np.int8], layouts: Sequence[Layout], places: Sequence[NDArray[np.bool_] | None]
) -> list[NDArray[np.int8]]:
    found, at = [], 0
    for layout, kept in zip(layouts, places, strict=True):
        shape = (layout.rows, layout.columns)
        end = at + (math.prod(shape) if kept is None else int(np.count_nonzero(kept)))
        if kept is None:
            found.append(symbols[at:end].reshape(shape))
        else:
            codes = np.zeros(shape, np.int8)
            codes[kept] = symbols[at:end]
            found.append(codes)
        at = end
    return found
