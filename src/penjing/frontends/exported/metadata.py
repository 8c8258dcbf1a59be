"""What the exporter recorded about a node, read from its fake tensors."""

from typing import Any

from penjing.frontends.exported.places import target_of
from penjing.ir.types import Dim, Extent, Shape

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


def extent_of(extent: Any, batch: str | None) -> Extent | None:
    """A torch extent as ours; `batch` is torch's symbol. None when it is computed from the batch or the data."""
    if isinstance(extent, int):
        return extent
    expression = getattr(getattr(extent, "node", None), "expr", None)
    if expression is None:
        return None
    if expression.is_Integer:
        return int(expression)
    return BATCH if str(expression) == batch else None


def shape_of(tensor: Any, batch: str | None) -> Shape | None:
    """A fake tensor's shape; None when the batch is part of another extent.

    In an export for a batch of one (`batch` None) torch says 1, and a leading 1 is taken for the batch. The parity
    check, which always runs then, compares several samples at once with the same samples alone.
    """
    extents = tuple(extent_of(extent, batch) for extent in tensor.shape)
    known = tuple(extent for extent in extents if extent is not None)
    if len(known) < len(extents):
        return None
    return (BATCH, *known[1:]) if batch is None and known and known[0] == 1 else known
