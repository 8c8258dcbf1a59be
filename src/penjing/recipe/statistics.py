"""What passes take besides plain options: statistics of the graph at hand, made from calibration data.

A pass says by the type of a field what it needs (`ranges: Ranges`), and here is found who makes it: `_COMMON`, by type;
a function `collect_...(graph, batches, progress)` in the pass's own file that returns this type; or `_NAMED`, where
neither is enough. A field that has a default is filled in where there is calibration data; one in `CHOSEN` only where
the recipe names what by (`importance: taylor`).
"""

import collections.abc
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.observe import Batch
from penjing.compress.prune.hessian_importance import hessian_importance
from penjing.compress.quantize.bias_drift import measured_drift
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.structure.remove_layers import removal_effects
from penjing.compress.structure.residual_blocks import block_effects
from penjing.ir.graph import Graph
from penjing.recipe.data import Data, Progress


@dataclass(frozen=True, eq=False)
class Seen:
    """What statistics are made of.

    Attributes:
        graph: as the pass will meet it.
        batches: typical inputs.
        data: all that there is.
        original: the network before codes of weights were chosen.
        tell: to be called with the number of samples seen so far.
    """

    graph: Graph
    batches: Sequence[Batch]
    data: Data
    original: Graph
    tell: Callable[[int], None]


@dataclass(frozen=True)
class Statistics:
    """One kind.

    Attributes:
        what: the phase that makes it, for a progress bar.
        make: from what is there.
        unless: an option of the pass with which this is not needed.
    """

    what: str
    make: Callable[[Seen], Any]
    unless: str = ""

    def of(self, graph: Graph, original: Graph, data: Data, progress: Progress) -> Any:
        """The statistics of `graph`."""
        total = data.calibration_samples
        progress(self.what, 0, total)
        return self.make(Seen(graph, data.calibration, data, original, lambda done: progress(self.what, done, total)))


def _inputs(seen: Seen) -> dict[str, LayerInputs]:
    return collect_layer_inputs(seen.graph, seen.batches, seen.tell)


_TAYLOR_BATCHES = 64  # of 64 samples: what ranks weights needs no whole data set
_COMMON: tuple[tuple[Any, Statistics], ...] = (
    (Ranges, Statistics("calibrating activations", lambda s: calibrate(s.graph, s.batches, progress=s.tell))),
    (dict[str, LayerInputs], Statistics("collecting what layers read", _inputs)),
)
_NAMED = {
    ("remove-layers", "effects"): Statistics(
        "measuring layers", lambda s: removal_effects(s.graph, s.batches, _inputs(s)), unless="layers"
    ),
    ("remove-blocks", "effects"): Statistics("measuring blocks", lambda s: block_effects(s.graph, s.batches, s.tell)),
    ("correct-bias", "drift"): Statistics(
        "measuring shifted means", lambda s: measured_drift(s.original, s.graph, s.batches)
    ),
}


def _taylor(seen: Seen) -> dict[str, Any]:
    from penjing.train.importance import taylor_importance

    assert seen.data.training is not None
    return taylor_importance(seen.graph, seen.data.training, batches=_TAYLOR_BATCHES)


# field -> what can be chosen for it by name; None keeps the pass's own way
CHOSEN = {
    "importance": {
        "hessian": Statistics("weighing weights", lambda s: hessian_importance(s.graph, _inputs(s))),
        "taylor": Statistics("weighing weights by gradients", _taylor),
    }
}
FROM_TRAINING_DATA = ("taylor",)


def statistics_for(name: str, field: str, kind: Any, module: ModuleType) -> Statistics | None:
    """Who makes what the field of a pass holds.

    Args:
        name: of the pass.
        field: name of the field.
        kind: its type.
        module: of the pass.
    """
    named = _NAMED.get((name, field))
    if named is not None:
        return named
    wanted = _normal(kind)
    return next((one for of, one in (*_own(module), *_COMMON) if _normal(of) == wanted), None)


def _own(module: ModuleType) -> Iterator[tuple[Any, Statistics]]:
    for name, function in vars(module).items():
        if name.startswith("collect_") and getattr(function, "__module__", "") == module.__name__:
            made = typing.get_type_hints(function)["return"]
            yield made, Statistics(name.replace("_", " "), _collecting(function))


def _collecting(function: Callable[..., Any]) -> Callable[[Seen], Any]:
    return lambda seen: function(seen.graph, seen.batches, seen.tell)


def _normal(kind: Any) -> Any:
    """The same for `dict[str, X]`, `Mapping[str, X]` and `Mapping[str, X] | None`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return _normal(rest[0]) if len(rest) == 1 else kind
    if origin in (dict, collections.abc.Mapping):
        return "mapping", arguments
    return kind
