"""One step of a recipe: a pass of `compress/` with its options, a training, or quantization.

Passes are found by scanning `compress/`: a new one is a step by itself. Its plain fields are the step's options; fields
that hold statistics (`penjing.recipe.statistics`) are filled in when the step runs.
"""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import penjing.compress
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.keep_float import kept_layers
from penjing.compress.quantize.observers import ObserverKind
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassLog, run_passes
from penjing.recipe.data import Data, Progress
from penjing.recipe.options import Option, fields_of, is_plain, plain_value
from penjing.recipe.statistics import CHOSEN, FROM_TRAINING_DATA, Statistics, statistics_for


class Phase(IntEnum):
    """Where a step belongs on the road, in order."""

    CLEAN = 0
    STRUCTURE = 1
    PRUNE = 2
    RECOVER = 3
    SCALE = 4
    CODES = 5
    QUANTIZE = 6


@dataclass(frozen=True)
class Ran:
    """What a step made of a graph, what it says of it, and ranges of activations where it has learned them."""

    graph: Graph
    log: PassLog
    ranges: Ranges | None = None


@dataclass(frozen=True)
class Work:
    """What a step is run with.

    Attributes:
        data: what there is.
        progress: whom to tell.
        checkpoint: the file for an unfinished training's state.
        first: the network before the first step that takes something away; a teacher.
        original: the network before codes of weights were chosen.
        ranges: of activations, where a step before has learned them.
    """

    data: Data
    progress: Progress
    checkpoint: Path | None = None
    first: Graph | None = None
    original: Graph | None = None
    ranges: Ranges | None = None


class Step:
    """Base of all steps. `name` is how a recipe calls it."""

    name: str
    phase: Phase
    needs_training: ClassVar[bool] = False

    @property
    def needs_calibration(self) -> bool:
        """Whether it cannot run without calibration data."""
        return False

    @property
    def needs_torch(self) -> bool:
        """Whether it trains, with labels or without."""
        return self.needs_training

    def options(self) -> dict[str, Any]:
        """The options that are not at their defaults, as plain values."""
        raise NotImplementedError

    def run(self, graph: Graph, work: Work) -> Ran:
        """Take the step."""
        raise NotImplementedError


@dataclass(frozen=True)
class PassStep(Step):
    """A pass and its plain options."""

    kind: type[Pass]
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the pass."""
        return self.kind.name

    @property
    def phase(self) -> Phase:  # type: ignore[override]
        """By the folder of the pass."""
        return phase_of(self.kind)

    @property
    def needs_calibration(self) -> bool:
        """Whether a field that has no default holds statistics, or one was chosen that needs them."""
        needed = any(needed and name not in self.given for name, (_, needed) in statistics_of(self.kind).items())
        return needed or any(value not in FROM_TRAINING_DATA for value in self._chosen().values())

    @property
    def needs_training(self) -> bool:  # type: ignore[override]
        """Whether a field was chosen to be made by gradients."""
        return any(value in FROM_TRAINING_DATA for value in self._chosen().values())

    def _chosen(self) -> dict[str, str]:
        return {name: value for name, value in self.given.items() if name in CHOSEN and isinstance(value, str)}

    def options(self) -> dict[str, Any]:
        """Those given, where they differ from the defaults."""
        defaults = {option.name: option.default for option in plain_options(self.kind)}
        return {key: plain_value(value) for key, value in self.given.items() if value != defaults[key]}

    def run(self, graph: Graph, work: Work) -> Ran:
        """Make the statistics that it needs from the graph as it is now, then run it."""
        chosen = {name: CHOSEN[name][value] for name, value in self._chosen().items()}
        made = {
            name: one.of(graph, work.original or graph, work.data, work.progress) for name, one in chosen.items()
        } | {
            name: one.of(graph, work.original or graph, work.data, work.progress)
            for name, (one, _) in statistics_of(self.kind).items()
            if name not in self.given and one.unless not in self.given and work.data.calibration_samples
        }
        work.progress(self.name, 0, None)
        graph, (log,) = run_passes(graph, [self.kind(**({**self.given, **made}))])
        return Ran(graph, log)


class PlainStep(Step):
    """Base of the steps that are dataclasses of their own: every field is an option."""

    def options(self) -> dict[str, Any]:
        """The fields that are not at their defaults."""
        return {
            option.name: plain_value(getattr(self, option.name))
            for option in fields_of(type(self))
            if getattr(self, option.name) != option.default
        }


@dataclass(frozen=True)
class Quantize(PlainStep):
    """Weights, biases and activations become integers: the last step.

    Attributes:
        observer: how ranges of activations are chosen.
        keep_float: weights, or patterns such as 'head.*', whose layers are computed in float32.
    """

    name = "quantize"
    phase = Phase.QUANTIZE

    observer: ObserverKind = "mse"
    keep_float: tuple[str, ...] = ()

    @property
    def needs_calibration(self) -> bool:
        """Ranges of activations come from data."""
        return True

    def run(self, graph: Graph, work: Work) -> Ran:
        """Calibrate the graph as it is now, unless its ranges were learned, then quantize it."""
        if work.ranges is not None:
            graph, (log,) = run_passes(graph, [QuantizeStatic(work.ranges, self.keep_float)])
            return Ran(graph, log)
        kept_layers(graph, self.keep_float)  # before the work that takes time
        what, total = "calibrating activations", work.data.calibration_samples
        work.progress(what, 0, total)
        ranges = calibrate(graph, work.data.calibration, self.observer, lambda done: work.progress(what, done, total))
        graph, (log,) = run_passes(graph, [QuantizeStatic(ranges, self.keep_float)])
        return Ran(graph, log)


_FAMILIES = {"structure": Phase.STRUCTURE, "prune": Phase.PRUNE}
_PHASES = {
    "fold-batch-norm": Phase.CLEAN,
    "fold-rotary": Phase.CLEAN,
    "equalize-layers": Phase.SCALE,
    "smooth-activations": Phase.SCALE,
    "tie-filters": Phase.STRUCTURE,
    "tie-layers": Phase.STRUCTURE,
    "quantize-static": Phase.QUANTIZE,
}
AUTO = "filled in where there is calibration data"
_OWN_STEP = {"quantize-static": Quantize.name}


def phase_of(kind: type[Pass]) -> Phase:
    """By its folder: what changes shapes, what prunes; all other families choose codes."""
    family = kind.__module__.removeprefix("penjing.compress.").partition(".")[0]
    return _PHASES.get(kind.name, _FAMILIES.get(family, Phase.CODES))


def plain_options(kind: type[Pass]) -> tuple[Option, ...]:
    """The fields of a pass that a recipe can write down; statistics that can be left out, to say that they are."""
    filled = statistics_of(kind)
    options = []
    for option in fields_of(kind):
        if option.name in CHOSEN and not is_plain(option.kind):
            named: Any = Literal[tuple(CHOSEN[option.name])]
            options.append(Option(option.name, named | None, option.default, option.help))
        elif option.name not in filled:
            options += [option] if is_plain(option.kind) else []
        elif is_plain(option.kind):
            options.append(Option(option.name, option.kind, AUTO, option.help))
        elif option.default is None:
            told = f"null leaves it out. {option.help}".strip()
            options.append(Option(option.name, type(None), AUTO, told))
    return tuple(options)


def statistics_of(kind: type[Pass]) -> dict[str, tuple[Statistics, bool]]:
    """The fields of a pass that are filled in when it runs, and whether it cannot run without."""
    module = sys.modules[kind.__module__]
    found = {
        option.name: (statistics_for(kind.name, option.name, option.kind, module), option.is_needed)
        for option in fields_of(kind)
    }
    return {name: (one, needed) for name, (one, needed) in found.items() if one is not None}


@cache
def pass_kinds() -> dict[str, type[Pass]]:
    """Name -> every pass of `compress/` that can be a step: one whose other fields are plain, or can be left out."""
    package = penjing.compress
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found = sorted(
        (cls for cls in _subclasses(Pass) if cls.__module__.startswith(f"{package.__name__}.")),
        key=lambda cls: cls.__name__,
    )
    return {cls.name: cls for cls in found if cls.name not in _OWN_STEP and not _out_of_reach(cls)}


def own_step_of(name: str) -> str | None:
    """The step to write for a pass that has one of its own."""
    return _OWN_STEP.get(name)


def step_of_pass(instance: Pass) -> PassStep:
    """A pass made in Python as a step.

    Raises:
        InvalidInput: it holds statistics, which belong to one graph at one moment.
    """
    kind = type(instance)
    held = [option.name for option in fields_of(kind) if not is_plain(option.kind)]
    if any(getattr(instance, name) is not None for name in held):
        raise InvalidInput(
            f"a {kind.name} made beforehand holds statistics of another graph than the one it will meet",
            hint=f"write it as a step: penjing.recipe.step('{_OWN_STEP.get(kind.name, kind.name)}', ...)",
        )
    fields = [option for option in fields_of(kind) if is_plain(option.kind)]
    values = {option.name: (getattr(instance, option.name), option.default) for option in fields}
    given = {name: value for name, (value, default) in values.items() if value != default}
    return PassStep(kind, given)


def _out_of_reach(kind: type[Pass]) -> bool:
    """Whether a field can neither be written down nor filled in nor left out."""
    filled = statistics_of(kind)
    return any(
        option.is_needed and not is_plain(option.kind) and option.name not in filled for option in fields_of(kind)
    )


def _subclasses(cls: type) -> list[Any]:
    """All below `cls`, of any depth, that are dataclasses with a name of their own."""
    found: list[Any] = []
    sub: Any
    for sub in cls.__subclasses__():
        if dataclasses.is_dataclass(sub) and "name" in vars(sub):
            found.append(sub)
        found += _subclasses(sub)
    return found
