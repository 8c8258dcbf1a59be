"""Sizes and ratios as people read them."""

from penjing.core.errors import InvalidInput

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def bytes_text(n_bytes: int) -> str:
    """`812 B`, `1.5 KiB`, `96.0 MiB`: powers of 1024, one decimal from KiB on.

    Raises:
        InvalidInput: a negative size.
    """
    if n_bytes < 0:
        raise InvalidInput(f"a size cannot be {n_bytes} bytes")
    if n_bytes < 1024:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in _UNITS:
        size /= 1024
        # 1023.95 would print as 1024.0
        if size < 1023.95:
            return f"{size:.1f} {unit}"
    return f"{size:.1f} {_UNITS[-1]}"


def ratio_text(before: float, after: float, less: str = "smaller", more: str = "larger") -> str:
    """`3.97x smaller`, `1.25x larger`, or `the same` when two decimals show no difference.

    Args:
        before: the original's figure, > 0.
        after: the compressed one's, > 0, in the same unit.
        less: word for a decrease ("faster" for times).
        more: word for an increase ("slower").

    Raises:
        InvalidInput: a figure that is not positive and finite.
    """
    for value in (before, after):
        if not 0 < value < float("inf"):
            raise InvalidInput(f"a ratio needs positive numbers, not {value}")
    factor, word = (before / after, less) if before >= after else (after / before, more)
    # Three digits are what the measurements can carry; 12.3x and 123x, not 123.45x.
    digits = 2 if factor < 10 else 1 if factor < 100 else 0
    text = f"{factor:.{digits}f}x"
    return "the same" if text == "1.00x" else f"{text} {word}"
