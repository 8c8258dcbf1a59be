"""Range asymmetric numeral systems: symbols to bits at their entropy, many states side by side.

(Duda, "Asymmetric numeral systems", 2013, section 2; several states over one stream: Giesen, "Interleaved entropy
coders", 2014.) A state x lies in [2^32, 2^48). A symbol has frequency f, and those before it have c, out of 2^16:

    out of x     s = x mod 2^16;  the symbol is the one with c <= s < c + f;  x = f floor(x / 2^16) + s - c
                 where x < 2^32 then: x = 2^16 x + the next word
    into x       where x >= 2^32 f: x mod 2^16 goes to the stream, x = floor(x / 2^16)
                 x = 2^16 floor(x / f) + (x mod f) + c

There are L states ("lanes"). Symbols come in runs: the i-th symbol of a run belongs to lane i mod L. Lanes that need a
word take it in the order of their symbols. The coder works from the last symbol to the first, from x = 2^32 in every
lane: a reader that does not end there, with all words taken, was given something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penjing.core.entropy import PRECISION_BITS, TOTAL

STATE_BYTES = 6
_WORD = np.uint64(16)
_MASK = np.uint64(TOTAL - 1)
_LOW = np.uint64(1 << 32)
_STATE_WORDS = STATE_BYTES // 2

Run = tuple[np.ndarray, np.ndarray]  # frequency and what lies before, of each symbol


class StreamFault(ValueError):
    """A stream that no coder wrote."""


def encode(runs: Sequence[Run], lanes: int) -> bytes:
    """The stream of all runs: 6 bytes for each lane's state, lane 0 first, then the words; all little-endian."""
    states = np.full(lanes, _LOW, np.uint64)
    written: list[np.ndarray] = []
    for frequencies, before in reversed(runs):
        f, c = frequencies.astype(np.uint64), before.astype(np.uint64)
        starts = reversed(range(0, len(f), lanes))
        written += [_push(states, f[start : start + lanes], c[start : start + lanes]) for start in starts]
    heads = np.stack([states >> np.uint64(16 * i) & _MASK for i in range(_STATE_WORDS)], axis=1)
    return np.concatenate([heads.reshape(-1), *reversed(written)]).astype("<u2").tobytes()


def _push(states: NDArray[np.uint64], f: NDArray[np.uint64], c: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = states[: len(f)]
    full = x >= f << np.uint64(32)
    words: NDArray[np.uint64] = x[full] & _MASK
    x = np.where(full, x >> _WORD, x)
    states[: len(f)] = (x // f << _WORD) + x % f + c
    return words


class Decoder:
    """Reads runs in the order in which they were written."""

    def __init__(self, stream: memoryview, lanes: int) -> None:
        """Raise StreamFault where `stream` has no whole number of words, or fewer than the states of `lanes`."""
        if len(stream) % 2 or len(stream) < STATE_BYTES * lanes:
            raise StreamFault("the stream is cut short")
        words = np.frombuffer(stream, "<u2").astype(np.uint64)
        heads = words[: _STATE_WORDS * lanes].reshape(lanes, _STATE_WORDS)
        self._states = heads[:, 0] | heads[:, 1] << _WORD | heads[:, 2] << np.uint64(32)
        if (self._states < _LOW).any():
            raise StreamFault("a state is below 2^32")
        # Lanes beyond the end read zeros; `finish` finds out.
        self._words = np.concatenate([words[_STATE_WORDS * lanes :], np.zeros(lanes, np.uint64)])
        self._n_words = len(self._words) - lanes
        self._at = 0

    def symbols(self, tables: Tables, models: NDArray[np.int64]) -> NDArray[np.int8]:
        """(n,) one symbol of each model in `models` (n,)."""
        found = np.empty(len(models), np.uint16)
        base = models << PRECISION_BITS
        lanes = len(self._states)
        for start in range(0, len(models), lanes):
            x = self._states[: len(models) - start]
            slot = x & _MASK
            index = tables.of_slot[base[start : start + lanes] + slot.view(np.int64)]
            found[start : start + lanes] = index
            x >>= _WORD
            x *= tables.frequency[index]
            x += slot
            x -= tables.before[index]
            self._refill(x)
        return tables.symbol[found]

    def uniform(self, choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) numbers, each below its entry of `choices` (n,) in 1..2^16, all alike likely.

        Number k of m has the slots from ceil(k 2^16 / m) on.
        """
        found = np.empty(len(choices), np.int64)
        lanes = len(self._states)
        for start in range(0, len(choices), lanes):
            m = choices[start : start + lanes]
            x = self._states[: len(m)]
            slot = x & _MASK
            number = slot.view(np.int64) * m >> PRECISION_BITS
            found[start : start + lanes] = number
            frequency, before = uniform_share(number, m)
            x >>= _WORD
            x *= frequency.view(np.uint64)
            x += slot
            x -= before.view(np.uint64)
            self._refill(x)
        return found

    def finish(self) -> None:
        """Raise StreamFault unless everything was read and every lane is where the coder began."""
        if self._at != self._n_words or (self._states != _LOW).any():
            raise StreamFault("the stream does not end where its contents do")

    def _refill(self, x: NDArray[np.uint64]) -> None:
        (empty,) = (x < _LOW).nonzero()
        end = self._at + len(empty)
        if end > self._n_words:
            raise StreamFault("the stream is cut short")
        x[empty] = x[empty] << _WORD | self._words[self._at : end]
        self._at = end


def uniform_share(number: NDArray[np.int64], choices: NDArray[np.int64]) -> Run:
    """Frequency of, and before, each `number` (n,) out of `choices` (n,)."""
    before = -(-number * TOTAL // choices)
    return -(-(number + 1) * TOTAL // choices) - before, before


class Tables:
    """What a decoder looks up, for several models at once.

    Attributes:
        of_slot: (models * 2^16,) u16 which entry of the others a slot of a model is.
        symbol, frequency, before: of each entry.
    """

    def __init__(self, frequencies: np.ndarray) -> None:
        """`frequencies` (models, 256), as `Model.frequencies` gives them."""
        model, place = np.nonzero(frequencies)
        found = frequencies[model, place]
        before = np.cumsum(frequencies, axis=1)[model, place] - found
        self.of_slot = np.repeat(np.arange(len(found), dtype=np.uint16), found)
        self.symbol = (place - 128).astype(np.int8)
        self.frequency = found.astype(np.uint64)
        self.before = before.astype(np.uint64)
