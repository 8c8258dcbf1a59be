"""What the exporter recorded about a node, read from its fake tensors."""

from collections.abc import Mapping
from typing import Any

from penjing.frontends.exported.places import target_of
from penjing.ir.types import Dim, Extent, Shape, is_length

BATCH = Dim("batch", 1)


def tensors_in(val: Any) -> list[Any]:
    """The tensors of a value: itself, or those in its tuple; none for numbers."""
    parts = list(val) if isinstance(val, tuple | list) else [val]
    return [part for part in parts if hasattr(part, "dtype")]


def is_plain_number(val: Any) -> bool:
    """Whether a value is known now: no tensor, and no number that follows the batch or the data."""
    return isinstance(val, bool | int | float)


def is_random(node: Any) -> bool:
    """Whether the operator of a node draws random numbers."""
    return any(str(tag).endswith("nondeterministic_seeded") for tag in node.target.tags)


def wrong_kinds(node: Any, live: set[Any]) -> str:
    """Element types, other than floats, of the outputs that are read: `int64, bool`."""
    val = node.meta["val"]
    if not isinstance(val, tuple | list):
        parts = [val]
    else:
        used = outputs_read(node, live)
        parts = [part for i, part in enumerate(val) if i in used and hasattr(part, "dtype")]
    return ", ".join(str(part.dtype).removeprefix("torch.") for part in parts if not part.is_floating_point())


def outputs_read(node: Any, live: set[Any]) -> set[int]:
    """Positions in the tuple that a node makes of what others read."""
    return {user.args[1] for user in node.users if user in live and target_of(user) == "getitem"}


def extent_of(extent: Any, dims: Mapping[str, Dim]) -> Extent | None:
    """A torch extent as ours; `dims` by torch's symbols. None when it is computed from one of them or the data."""
    if isinstance(extent, int):
        return extent
    expression = getattr(getattr(extent, "node", None), "expr", None)
    if expression is None:
        return None
    if expression.is_Integer:
        return int(expression)
    return dims.get(str(expression))


def longest(extent: Any, dims: Mapping[str, Dim]) -> int | None:
    """A torch number at the longest sequence; None where it follows the batch or the data as well."""
    expression = getattr(getattr(extent, "node", None), "expr", None)
    if expression is None:
        return extent if isinstance(extent, int) else None
    known = {symbol: dims.get(str(symbol)) for symbol in expression.free_symbols}
    if not all(dim is not None and is_length(dim) for dim in known.values()):
        return None
    value = expression.subs({symbol: dim.max for symbol, dim in known.items() if dim is not None})
    return int(value) if value.is_Integer else None


def shape_of(tensor: Any, dims: Mapping[str, Dim]) -> Shape | None:
    """A fake tensor's shape; None when the batch or the length is part of another extent.

    In an export for a batch of one (`dims` empty) torch says 1, and a leading 1 is taken for the batch. The parity
    check, which always runs then, compares several samples at once with the same samples alone.
    """
    extents = tuple(extent_of(extent, dims) for extent in tensor.shape)
    known = tuple(extent for extent in extents if extent is not None)
    if len(known) < len(extents):
        return None
    return (BATCH, *known[1:]) if not dims and known and known[0] == 1 else known
