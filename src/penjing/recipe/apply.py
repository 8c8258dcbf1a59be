"""Takes a network through a recipe, and writes down what every step was worth."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penjing.compress.structure.clean import CLEANING
from penjing.core.errors import CalibrationError, InvalidInput, PenjingError
from penjing.ir.graph import Graph
from penjing.ir.passes import Remark
from penjing.measure.intervals import paired_drop
from penjing.recipe.data import Data, Progress
from penjing.recipe.gains import gains_and_losses
from penjing.recipe.order import check_order
from penjing.recipe.realise import Seen, Wanted, see
from penjing.recipe.recipe import Recipe
from penjing.recipe.record import FORMAT, MAX_REMARKS, Drop, Effect, Record, StepRecord
from penjing.recipe.step import PassStep, Phase, Ran, Step, Work

_MAX_LINE = 300
_IMPLIED = "before "


@dataclass(frozen=True, eq=False)
class Applied:
    """The network that came out, and what was done to it.

    Attributes:
        graph: in stage `compressed` where the recipe quantizes.
        record: all steps, those of earlier recipes too.
        before: the network that was given, measured as after every step.
    """

    graph: Graph
    record: Record
    before: Effect


def apply_recipe(
    recipe: Recipe,
    graph: Graph,
    data: Data,
    *,
    before: Record | None = None,
    latency: bool = False,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Applied:
    """Take every step, in order; batch norms are folded first where the graph still has them.

    Args:
        recipe: the steps.
        graph: of network operators, in floats.
        data: what the steps need.
        before: what was done to the graph already; the new record goes on from there.
        latency: compile every form of the network for this machine and time it, which takes seconds a step.
        progress: told what is being done.
        checkpoint: folder for the states of unfinished trainings; those in it are taken up.

    Raises:
        InvalidInput, CalibrationError: a step that cannot follow the others, or that lacks its data; before any work.
        PenjingError: of any step; its place says which.
    """
    say = progress or (lambda what, done, total: None)
    check(recipe, graph, data)
    _rehearse(recipe, graph)
    wanted = Wanted(data, latency)
    seen = given = see(graph, wanted, say)
    record = before or Record(FORMAT, given.effect, ())
    first, whole = graph, True
    original, ranges = graph, None
    for place, one in _with_cleaning(recipe, graph):
        file = checkpoint / f"{_file_name(place, one)}.checkpoint" if checkpoint and one.needs_torch else None
        ran = _run(one, place, graph, Work(data, say, file, first, original, ranges))
        graph, implied = ran.graph, place.startswith(_IMPLIED)
        whole = whole and one.phase in (Phase.CLEAN, Phase.RECOVER)
        first = graph if whole else first
        original = graph if one.phase < Phase.CODES else original
        ranges = ran.ranges or (None if ran.log.changed else ranges)
        if ran.log.changed or not implied:
            after = see(graph, wanted, say) if ran.log.changed else seen
            record = record.then((_step_record(one, ran, seen, after),))
            seen = after
    return Applied(graph, record, given.effect)


def check(recipe: Recipe, graph: Graph, data: Data) -> None:
    """Refuse what cannot end well, and warn of an order that is doubtful.

    Raises:
        InvalidInput, CalibrationError: see `apply_recipe`.
    """
    for doubt in check_order(recipe):
        warnings.warn(doubt, RuntimeWarning, stacklevel=3)
    if graph.stage not in ("imported", "cleaned"):
        raise InvalidInput(
            f"a graph in stage {graph.stage} holds integers, and recipes begin with floats",
            where=f"graph {graph.name}",
            hint="apply one recipe with all steps, quantize last",
        )
    if data.tested is not None and len(graph.inputs) != 1:
        raise InvalidInput(f"accuracy is measured on networks with one input, not {len(graph.inputs)}")
    if data.tested is not None and not np.isfinite(data.tested.x).all():
        raise InvalidInput("samples to measure accuracy on hold NaN or infinity", where="tested")
    for place, one in zip(recipe.places, recipe.steps, strict=True):
        if one.needs_training and data.training is None:
            raise InvalidInput("this step needs samples to train on", where=place, hint="give training data")
        if one.needs_calibration and not data.calibration_samples:
            hint = "give calibration batches; 100 to 500 samples do"
            raise CalibrationError("this step needs typical inputs", where=place, hint=hint)


def checkpoint_files(folder: Path) -> list[Path]:
    """What `apply_recipe` has left in a folder of checkpoints."""
    return sorted(folder.glob("step-*.checkpoint"))


def _with_cleaning(recipe: Recipe, graph: Graph) -> list[tuple[str, Step]]:
    steps = list(zip(recipe.places, recipe.steps, strict=True))
    if graph.stage == "imported" and recipe.steps[0].phase is not Phase.CLEAN:
        implied = (PassStep(kind) for kind in CLEANING)
        steps = [*((_IMPLIED + recipe.places[0], one) for one in implied), *steps]
    return steps


def _rehearse(recipe: Recipe, graph: Graph) -> None:
    """Run the passes that need no data, before what takes long: options out of range are told at once."""
    long = [one.needs_training or one.needs_calibration for one in recipe.steps]
    if True not in long:
        return
    for place, one in _with_cleaning(recipe, graph):
        if isinstance(one, PassStep) and not (one.needs_calibration or one.needs_training):
            graph = _run(one, place, graph, Work(Data(), lambda what, done, total: None)).graph


def _run(one: Step, place: str, graph: Graph, work: Work) -> Ran:
    try:
        return one.run(graph, work)
    except PenjingError as error:
        error.where = f"{place}, {error.where}" if error.where else place
        raise


def _file_name(place: str, one: Step) -> str:
    number = "".join(c for c in place.rpartition("step ")[2] if c.isdigit())
    return f"step-{number}-{one.name}"


def _step_record(one: Step, ran: Ran, before: Seen, after: Seen) -> StepRecord:
    drop = None
    if before.right is not None and after.right is not None:
        found = paired_drop(before.right, after.right)
        drop = Drop(found.drop, found.low, found.high, found.p_value)
    must_gain = one.phase not in (Phase.CLEAN, Phase.RECOVER)
    gains, losses = gains_and_losses(before.effect, after.effect, drop, must_gain=must_gain)
    options = {key: str(value) for key, value in one.options().items()}
    changed, declined = _lines(ran.log.changed), _lines(ran.log.declined)
    return StepRecord(one.name, options, changed, declined, after.effect, drop, tuple(gains), tuple(losses))


def _lines(remarks: tuple[Remark, ...]) -> tuple[str, ...]:
    lines = [" ".join(f"{remark.where}: {remark.text}".split())[:_MAX_LINE] for remark in remarks[:MAX_REMARKS]]
    if len(remarks) > MAX_REMARKS:
        lines.append(f"and {len(remarks) - MAX_REMARKS} more")
    return tuple(lines)
