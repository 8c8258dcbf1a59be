"""Text to deflate (RFC 1951), the same bytes on every machine; `zlib` reads it.

zlib itself is no help in writing: its forks (zlib-ng and others, which some systems install in its place) find other
matches, and the same parts must give the same tray. One block holds everything, with the fixed code or with its own,
whichever is shorter.
"""

import zlib
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

_WINDOW = 32768
_LONGEST = 258
_CHAIN = 64  # earlier places that are tried for a match
_END = 256
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

Token = tuple[int, int]  # (byte, 0) or (length, distance)


class DeflateFault(ValueError):
    """Bytes that are no deflate stream, or a longer text than allowed."""


def inflate(data: bytes | memoryview, limit: int) -> bytes:
    """The text of at most `limit` bytes that `data` holds, and nothing after it.

    Raises:
        DeflateFault: it is damaged, longer, or followed by something.
    """
    reader = zlib.decompressobj(-15)
    try:
        text = reader.decompress(data, limit + 1)
    except zlib.error:
        raise DeflateFault("its compressed text is damaged") from None
    if len(text) > limit:
        raise DeflateFault(f"its text has more than {limit} bytes")
    if not reader.eof or reader.unused_data:
        raise DeflateFault("its compressed text does not end where its bytes do")
    return text


def deflate(text: bytes) -> bytes:
    """The deflate stream of `text`."""
    tokens = list(_tokens(text))
    uses = [0] * 286, [0] * 30
    for first, distance in tokens:
        if distance:
            uses[0][_length_code(first)[0]] += 1
            uses[1][_distance_code(distance)[0]] += 1
        else:
            uses[0][first] += 1
    uses[0][_END] = 1
    own = _code_lengths(uses[0], 15), _code_lengths(uses[1], 15)
    fixed = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30
    writers = []
    for kind, (literals, distances) in ((1, fixed), (2, own)):
        bits = _Bits()
        bits.put(1, 1)
        bits.put(kind, 2)
        if kind == 2:
            _put_code_lengths(bits, literals, distances)
        _put_tokens(bits, tokens, _codes(literals), _codes(distances))
        writers.append(bits.done())
    return min(writers, key=len)


def _tokens(text: bytes) -> Iterator[Token]:
    """Bytes, and matches: the longest at each place, unless the next place has a longer one."""
    places: dict[bytes, list[int]] = {}

    def remember(at: int) -> None:
        places.setdefault(text[at : at + 3], []).append(at)

    def longest(at: int) -> Token:
        best, end = (0, 0), min(_LONGEST, len(text) - at)
        for before in reversed(places.get(text[at : at + 3], [])[-_CHAIN:]):
            if end < 3 or at - before > _WINDOW:
                break
            if best[0] and (best[0] == end or text[before + best[0]] != text[at + best[0]]):
                continue
            n = 3
            while n < end and text[before + n] == text[at + n]:
                n += 1
            if n > best[0]:
                best = (n, at - before)
        return best

    at = 0
    found = longest(0)
    while at < len(text):
        remember(at)
        following = longest(at + 1)
        if found[0] < 3 or following[0] > found[0]:
            yield text[at], 0
            at, found = at + 1, following
            continue
        yield found
        for skipped in range(at + 1, at + found[0]):
            remember(skipped)
        at += found[0]
        found = longest(at)


def _length_code(length: int) -> tuple[int, int, int]:
    """(symbol, extra bits, their value) of a match's length, 3..258."""
    if length == _LONGEST:
        return 285, 0, 0
    n = length - 3
    extra = max(n.bit_length() - 3, 0)
    return 257 + 4 * extra + (n >> extra), extra, n & (1 << extra) - 1


def _distance_code(distance: int) -> tuple[int, int, int]:
    """(symbol, extra bits, their value) of a match's distance, 1..32768."""
    n = distance - 1
    extra = max(n.bit_length() - 2, 0)
    return 2 * extra + (n >> extra), extra, n & (1 << extra) - 1


def _code_lengths(uses: list[int], limit: int) -> list[int]:
    """Bits of each symbol's Huffman code, none above `limit`; always two symbols at least, as readers expect."""
    weights = list(uses)
    for symbol in range(len(weights)):
        if sum(weight > 0 for weight in weights) >= 2:
            break
        weights[symbol] = max(weights[symbol], 1)
    while True:
        lengths = [0] * len(weights)
        heap = [(weight, symbol, [symbol]) for symbol, weight in enumerate(weights) if weight]
        heapify(heap)
        while len(heap) > 1:
            a, b = heappop(heap), heappop(heap)
            for symbol in (*a[2], *b[2]):
                lengths[symbol] += 1
            heappush(heap, (a[0] + b[0], min(a[1], b[1]), a[2] + b[2]))
        if max(lengths) <= limit:
            return lengths
        weights = [(weight + 1) // 2 for weight in weights]  # flatter, until the deepest code fits


def _codes(lengths: list[int]) -> list[tuple[int, int]]:
    """(bits as they are written, their number) of each symbol: the canonical code, most significant bit first."""
    codes, code = [(0, 0)] * len(lengths), 0
    for n in range(1, 16):
        code <<= 1
        for symbol, length in enumerate(lengths):
            if length == n:
                codes[symbol] = int(f"{code:0{n}b}"[::-1], 2), n
                code += 1
    return codes


def _put_code_lengths(bits: "_Bits", literals: list[int], distances: list[int]) -> None:
    n_literals = max(257, 1 + max(i for i, length in enumerate(literals) if length))
    n_distances = 1 + max(i for i, length in enumerate(distances) if length)
    packed = list(_run_lengths(literals[:n_literals] + distances[:n_distances]))
    uses = [0] * 19
    for symbol, _, _ in packed:
        uses[symbol] += 1
    lengths = _code_lengths(uses, 7)
    n_lengths = max(4, 1 + max(i for i, symbol in enumerate(_ORDER) if lengths[symbol]))
    bits.put(n_literals - 257, 5)
    bits.put(n_distances - 1, 5)
    bits.put(n_lengths - 4, 4)
    for symbol in _ORDER[:n_lengths]:
        bits.put(lengths[symbol], 3)
    codes = _codes(lengths)
    for symbol, extra, n_extra in packed:
        bits.put(*codes[symbol])
        bits.put(extra, n_extra)


def _run_lengths(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """(symbol, extra, bits of it): 16 repeats the last length 3 to 6 times, 17 and 18 are runs of zeros."""
    at = 0
    while at < len(lengths):
        value, n = lengths[at], 1
        while at + n < len(lengths) and lengths[at + n] == value:
            n += 1
        at += n
        if value:
            yield value, 0, 0
            n -= 1
        while n >= 3:
            if value:
                part = min(n, 6)
                yield 16, part - 3, 2
            else:
                part = min(n, 138)
                yield (18, part - 11, 7) if part >= 11 else (17, part - 3, 3)
            n -= part
        yield from [(value, 0, 0)] * n


def _put_tokens(
    bits: "_Bits", tokens: list[Token], literals: list[tuple[int, int]], distances: list[tuple[int, int]]
) -> None:
    for first, distance in tokens:
        if not distance:
            bits.put(*literals[first])
            continue
        for codes, (symbol, n_extra, extra) in (
            (literals, _length_code(first)),
            (distances, _distance_code(distance)),
        ):
            bits.put(*codes[symbol])
            bits.put(extra, n_extra)
    bits.put(*literals[_END])


class _Bits:
    """Bits into bytes, least significant first."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._held, self._n_held = 0, 0

    def put(self, value: int, n: int) -> None:
        self._held |= value << self._n_held
        self._n_held += n
        while self._n_held >= 8:
            self._bytes.append(self._held & 255)
            self._held >>= 8
            self._n_held -= 8

    def done(self) -> bytes:
        return bytes(self._bytes) + (bytes([self._held]) if self._n_held else b"")
