"""The steps of `penjing apply` and of the verbs that are recipes of one step; checks come before all work."""

from dataclasses import dataclass
from pathlib import Path

from penjing import api
from penjing.bundle.pack import save_tray
from penjing.cli.calibrating import drawn_samples
from penjing.cli.output import Phases, note
from penjing.cli.ports import check_labels, described_port
from penjing.cli.recipe_request import Request
from penjing.cli.samples import (
    SOURCES,
    Samples,
    TrainingSamples,
    labelled_samples,
    training_samples,
)
from penjing.cli.sources import ModelSource, load_model, needs_torch, require_torch
from penjing.cli.writing import claim
from penjing.core.errors import InvalidInput, WriteFailed
from penjing.core.targets import host_target
from penjing.ir.graph import Graph
from penjing.recipe.apply import Applied, apply_recipe, check, checkpoint_files
from penjing.recipe.data import Data, Labelled, Progress
from penjing.recipe.graph_file import SUFFIX, SavedGraph, save_graph
from penjing.recipe.order import check_order
from penjing.recipe.recipe import Recipe
from penjing.recipe.step import Phase
from penjing.toolchain.compilers import find_compiler

TRAY = ".tray"


@dataclass(frozen=True)
class Made:
    """Where the network is, and what was done to it; `first` is how many steps an earlier command had done."""

    path: Path
    applied: Applied
    first: int
    is_quantized: bool


def make(request: Request, recipe: Recipe, shown: Phases) -> Made:
    """Check, load, apply and write.

    Raises:
        PenjingError: of any stage; nothing has been written then but states of trainings.
    """
    shown.start("loading the model")
    path = _checked(request, recipe)
    model = load_model(request.model, weights=request.weights, input_shape=request.input_shape)
    path = path or Path(f"{model.name}-{recipe.name}{SUFFIX}")
    claim(path, force=request.force)
    if model.is_quantized:
        raise InvalidInput("the graph holds integers already; recipes begin with floats", where=request.model)
    if len(model.examples) != 1:
        what = f"the model takes {len(model.examples)} inputs; the command line works on models with one"
        raise InvalidInput(what, where=request.model, hint="in Python: penjing.apply")
    if not model.trained:
        note(f"{request.model} has random weights; --weights loads trained ones")
    port = described_port(model.port, request.mean, request.std, model.shape)
    shown.start("reading samples")
    data = _data(request, model, port)
    shown.start("importing the model")
    graph = model.graph(model.name)
    check_labels(model.labels, graph)
    check(recipe, graph, data)
    before = model.saved.record if model.saved is not None else None
    try:
        applied = apply_recipe(
            recipe,
            graph,
            data,
            before=before,
            latency=request.latency,
            progress=_follow(shown),
            checkpoint=request.checkpoint,
        )
    except KeyboardInterrupt:
        _tell_how_to_go_on(request, recipe)
        raise
    _write(path, applied, model, port, data, request, shown)
    for file in checkpoint_files(request.checkpoint) if request.checkpoint else []:
        file.unlink()  # all trainings have ended, and what they gave is written
    return Made(path, applied, len(before.steps) if before else 0, applied.graph.stage == "compressed")


def _tell_how_to_go_on(request: Request, recipe: Recipe) -> None:
    if request.checkpoint is not None and checkpoint_files(request.checkpoint):
        note(f"the same command goes on where it was, from the state in {request.checkpoint}")
    elif request.checkpoint is None and any(one.needs_torch for one in recipe.steps):
        note("with --checkpoint FOLDER, the same command would go on where it was")


def _checked(request: Request, recipe: Recipe) -> Path | None:
    """What needs no model: order, data, output, compiler, folder of checkpoints."""
    check_order(recipe)
    if needs_torch(request.model) or any(one.needs_torch for one in recipe.steps):
        require_torch()
    for place, one in zip(recipe.places, recipe.steps, strict=True):
        if one.needs_training and request.train is None:
            raise InvalidInput(
                f"{one.name} needs samples to train on",
                where=place,
                hint="add --train with a data set, or an .npz with arrays x and y",
            )
        if one.needs_calibration and request.calibrate is None and request.train is None:
            raise InvalidInput(f"{one.name} needs typical inputs", where=place, hint=f"add --calibrate with {SOURCES}")
    if request.output is not None:
        _check_output(request.output, recipe)
        claim(request.output, force=request.force)
    if request.latency or (request.output is not None and request.output.suffix == TRAY):
        find_compiler(host_target())
    if request.checkpoint is not None:
        _make_folder(request.checkpoint)
    return request.output


def _check_output(path: Path, recipe: Recipe) -> None:
    if path.suffix not in (SUFFIX, TRAY):
        raise InvalidInput(
            f"{path.name} is neither a graph nor a tray", where="-o", hint=f"end its name in {SUFFIX} or {TRAY}"
        )
    if path.suffix == TRAY and recipe.steps[-1].phase is not Phase.QUANTIZE:
        raise InvalidInput(
            "a tray holds integers, and the recipe does not end with quantize",
            where="-o",
            hint=f"add the step, or write a {SUFFIX} file and build it with `penjing build`",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"cannot make the folder {folder}: {error.strerror}", where="--checkpoint") from error


def _data(request: Request, model: ModelSource, port: api.Port) -> Data:
    trained = tested = None
    if request.train is not None:
        trained = training_samples(request.train, model.shape, port, raw=request.raw)
    if request.evaluate is not None:
        found = labelled_samples(request.evaluate, model.shape, port, raw=request.raw, lengths=model.length_axes)
        assert found.y is not None
        tested = Labelled(found.x, found.y)
    drawn = _calibration(request, model, port, trained)
    teacher = _teacher(request, model) if request.teacher is not None else None
    return Data(tuple(drawn.batches()) if drawn else (), trained, tested, teacher)


def _teacher(request: Request, model: ModelSource) -> Graph:
    """The network that --teacher names, of the same input; factories take the input's shape from the model."""
    assert request.teacher is not None
    shape = request.input_shape or "x".join(map(str, model.shape))
    found = load_model(request.teacher, weights=request.teacher_weights, input_shape=shape)
    if found.is_quantized or found.shape != model.shape:
        what = "holds integers" if found.is_quantized else f"takes {found.shape}, the model {model.shape}"
        raise InvalidInput(f"the teacher {what}", where=request.teacher, hint="give the network as it was before")
    return api.clean(found.graph(found.name))


def _calibration(
    request: Request, model: ModelSource, port: api.Port, trained: TrainingSamples | None
) -> Samples | None:
    """Of --calibrate, else drawn from --train."""
    source = request.calibrate or request.train
    if source is None:
        return None
    raw = request.raw if trained is None or request.calibrate else trained.raw
    return drawn_samples(source, model, port, request.samples, raw=raw)


def _follow(shown: Phases) -> Progress:
    """Phases of a recipe as phases of the command."""
    at = ""

    def progress(what: str, done: int, total: int | None) -> None:
        nonlocal at
        if what != at or not done:
            shown.start(what, total=total)
            at = what
        if done:
            shown.reached(done, total)

    return progress


def _write(
    path: Path, applied: Applied, model: ModelSource, port: api.Port, data: Data, request: Request, shown: Phases
) -> None:
    if path.suffix != TRAY:
        shown.start("writing")
        saved = SavedGraph(applied.graph, port, model.labels, model.origin, applied.record)
        save_graph(saved, path, force=request.force)
        return
    options = api.BuildOptions(
        ports=[port],
        labels=model.labels,
        card={
            "source": model.origin,
            "recipe": "w8a8",
            "compression": ", ".join(step.step for step in applied.record.steps),
        },
        golden_inputs=[next(iter(data.calibration))[:2]] if data.calibration else [],  # type: ignore[list-item]
        record=applied.record,
    )
    tray = api.build(api.lower(applied.graph), options, progress=shown.start)
    save_tray(tray, path, force=request.force)
