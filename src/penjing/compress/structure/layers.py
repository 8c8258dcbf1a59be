"""The layers that a pass may work on, by the names of their weights, and how some of them are chosen."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ops.layers import float_weights


def readers_of_weights(graph: Graph) -> dict[str, list[Node]]:
    """Name of a weight -> the layers that have it, in order."""
    users = graph.users()
    return {name: users[name] for name in float_weights(graph)}


def least_harmful(
    harm: Mapping[str, float], layers: Sequence[str] | None, count: int | None, ratio: float | None
) -> tuple[str, ...]:
    """Those of `harm` that are named, or the `count` (or `ratio` of all, rounded down) with the least; in its order.

    Raises:
        InvalidInput: not exactly one of the three is given, a count below 1 or of more than there are, a ratio outside
            (0, 1].
    """
    if sum(option is not None for option in (layers, count, ratio)) != 1:
        raise InvalidInput("give one of the three: layers by name, a count, or a ratio")
    if layers is not None:
        return tuple(name for name in harm if name in layers)
    if ratio is not None:
        if not 0 < ratio <= 1:
            raise InvalidInput(f"a ratio of layers must lie in (0, 1], not {ratio}")
        count = math.floor(Fraction(repr(float(ratio))) * len(harm))
    elif count is None or not 1 <= count <= len(harm):
        raise InvalidInput(f"{count} layers were asked for, {len(harm)} qualify")
    ranked = sorted(harm, key=lambda name: harm[name])  # stable: of equals, the first
    kept = set(ranked[:count])
    return tuple(name for name in harm if name in kept)
