"""Which layers stay in float32: by name, as somebody gives them, or by what their codes cost.

gain of a layer = loss of the quantized network - loss of the same with this layer alone in float32
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import isfinite

from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.ir.graph import Graph
from penjing.ops import operators
from penjing.ops.floats import float_rule
from penjing.ops.layers import weight_nodes
from penjing.ops.operator import FloatRule

_NEAR = 5
_ALL_SHOWN = 12


def kept_layers(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """The weights that `names` mean, in the order of the graph; `*`, `?` and `[...]` stand for parts of names.

    A name stands for all that begin with it and a dot too: `conv1` and `conv1.weight` are `conv1.weight.folded`.

    Raises:
        InvalidInput: a name or pattern that no weight has.
        UnsupportedOp: a layer that has no form in float32.
    """
    found = {weight.weight: weight.node for weight in weight_nodes(graph)}
    kept = {weight for name in names for weight in _meant(name, list(found))}
    for weight in weight_nodes(graph):
        if weight.weight in kept and float_rule(weight.node) is not FloatRule.KEPT:
            able = sorted(name for name, cls in operators().items() if cls.float_rule is FloatRule.KEPT)
            raise UnsupportedOp(
                f"{weight.op.name} of {weight.weight} has no form in float32",
                where=str(weight.node),
                hint=f"leave it out of keep_float; these can be kept: {', '.join(able)}",
            )
    return tuple(weight for weight in found if weight in kept)


def float_gains(
    graph: Graph, quantized: Callable[[tuple[str, ...]], Graph], loss: Callable[[Graph], float]
) -> dict[str, float]:
    """Name of a weight -> its layer's gain, of every layer that can be kept; the largest first.

    Gains are measured one layer at a time, and need not add up.

    Args:
        graph: cleaned, in floats.
        quantized: the quantized network for a `keep_float`.
        loss: of a quantized network, the lower the better; it runs once for each layer, and once more.

    Raises:
        InvalidInput: a loss that is not finite.
    """
    before = _finite(loss(quantized(())))
    able = dict.fromkeys(weight.weight for weight in weight_nodes(graph) if float_rule(weight.node) is FloatRule.KEPT)
    gains = {name: before - _finite(loss(quantized((name,)))) for name in able}
    return dict(sorted(gains.items(), key=lambda gain: -gain[1]))


def _finite(loss: float) -> float:
    if not isfinite(loss):
        raise InvalidInput(f"a loss must be finite, not {loss}")
    return float(loss)


def _meant(name: str, weights: list[str]) -> list[str]:
    meant = [weight for weight in weights if weight == name] or [
        weight for weight in weights if fnmatchcase(weight, name) or fnmatchcase(weight, f"{name}.*")
    ]
    if not meant:
        near = get_close_matches(name, weights, _NEAR, cutoff=0.4)
        few = weights if len(weights) <= _ALL_SHOWN else [*weights[:_ALL_SHOWN], "..."]
        hint = f"near it: {', '.join(near)}" if near else f"its layers: {', '.join(few) or 'none'}"
        raise InvalidInput(f"no layer has a weight called {name!r}", where="keep_float", hint=hint)
    return meant
