"""What passes take besides plain options: statistics of the graph at hand, made from calibration data, by field type.

A pass says by the type of a field what it needs (`ranges: Ranges`), and here is found who makes it: those below, or a
function `collect_...(graph, batches, progress)` in the pass's own file that returns this type. A field that has a
default is filled in where there is calibration data.
"""

import collections.abc
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.ir.graph import Graph
from penjing.recipe.data import Data, Progress


@dataclass(frozen=True)
class Statistics:
    """One kind.

    Attributes:
        kind: type of the fields that hold it.
        what: the phase that makes it, for a progress bar.
        make: from a float graph and data with calibration batches.
    """

    kind: Any
    what: str
    make: Callable[[Graph, Data, Callable[[int], None]], Any]

    def of(self, graph: Graph, data: Data, progress: Progress) -> Any:
        """The statistics of `graph`."""
        total = data.calibration_samples
        progress(self.what, 0, total)
        return self.make(graph, data, lambda done: progress(self.what, done, total))


_COMMON = (
    Statistics(
        Ranges, "calibrating activations", lambda graph, data, seen: calibrate(graph, data.calibration, progress=seen)
    ),
    Statistics(
        dict[str, LayerInputs],
        "collecting what layers read",
        lambda graph, data, seen: collect_layer_inputs(graph, data.calibration, seen),
    ),
)


def statistics_for(kind: Any, module: ModuleType) -> Statistics | None:
    """Who makes what a field of this type holds, in a pass of `module`."""
    wanted = _normal(kind)
    return next((one for one in (*_own(module), *_COMMON) if _normal(one.kind) == wanted), None)


def _own(module: ModuleType) -> Iterator[Statistics]:
    for name, function in vars(module).items():
        if not name.startswith("collect_") or getattr(function, "__module__", "") != module.__name__:
            continue
        yield Statistics(typing.get_type_hints(function)["return"], name.replace("_", " "), _collecting(function))


def _collecting(function: Callable[..., Any]) -> Callable[[Graph, Data, Callable[[int], None]], Any]:
    return lambda graph, data, seen: function(graph, data.calibration, seen)


def _normal(kind: Any) -> Any:
    """The same for `dict[str, X]`, `Mapping[str, X]` and `Mapping[str, X] | None`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return _normal(rest[0]) if len(rest) == 1 else kind
    if origin in (dict, collections.abc.Mapping):
        return "mapping", arguments
    return kind
