"""The steps of `penjing build`: everything that can be refused is looked at before the work that takes time."""

from dataclasses import dataclass, replace
from pathlib import Path

from penjing import api
from penjing.bundle.pack import TrayParts, save_tray
from penjing.bundle.tray import open_tray
from penjing.cli.accuracy import Measured, measure
from penjing.cli.calibrating import drawn_samples, quantized
from penjing.cli.output import Phases, note
from penjing.cli.ports import check_labels, described_port, read_labels
from penjing.cli.samples import SOURCES, Samples, labelled_samples
from penjing.cli.sources import ModelSource, load_model, needs_torch, require_torch
from penjing.cli.streams import check_stream, check_time, first_calls, port_of_calls, stream_text, streamed
from penjing.cli.writing import claim
from penjing.compress.quantize.observers import ObserverKind
from penjing.core.errors import InvalidInput, ToolchainError
from penjing.core.targets import HOST, Target, find_target, host_target
from penjing.ir.graph import Graph
from penjing.toolchain.compilers import find_compiler
from penjing.toolchain.environment import is_first_use
from penjing.tune.autotune import TunedLayer, check_tunable
from penjing.vector.tiles import Tile, Tiles

_GOLDEN_SAMPLES = 2


@dataclass(frozen=True)
class Request:
    """What was asked for: the arguments of the command, as its help describes them."""

    model: str
    weights: Path | None
    input_shape: str | None
    fix: tuple[str, ...]
    mean: str | None
    std: str | None
    raw: bool
    calibrate: str | None
    samples: int
    observer: ObserverKind
    keep_float: tuple[str, ...]
    prune: float | None
    evaluate: str | None
    output: Path | None
    name: str | None
    targets: tuple[str, ...]
    labels: Path | None
    standalone: bool
    stream: int | None
    time_axis: int | None
    threads: int
    autotune: bool
    tiles: Path | None
    source: bool
    force: bool


@dataclass(frozen=True)
class Prepared:
    """What is at hand before the work begins.

    Attributes:
        path: where the tray goes.
        model: the source model.
        name: of the tray.
        port: how its input is prepared.
        labels: given or known names of its classes.
        targets: what to compile for.
        tiles: by target, how convolutions are cut in another tray.
    """

    path: Path
    model: ModelSource
    name: str
    port: api.Port
    labels: tuple[str, ...] | None
    targets: tuple[Target, ...]
    tiles: dict[str, Tiles]


@dataclass(frozen=True)
class Built:
    """What came out: file, bytes, parts, the graph it was made from, the program; accuracy and layers if measured."""

    path: Path
    tray: bytes
    parts: TrayParts
    original: Graph
    program: Graph
    measured: Measured | None
    tuned: list[TunedLayer]


def prepare(request: Request) -> Prepared:
    """Check the arguments and load the model.

    Raises:
        PenjingError: what is wrong with them, before anything that takes time.
    """
    if needs_torch(request.model):
        require_torch()
    targets = tuple(_compilable(name) for name in request.targets)
    tiles = _given_tiles(request, targets)
    check_stream(request.stream, request.time_axis, evaluate=request.evaluate is not None)
    if request.calibrate is None and needs_torch(request.model):
        raise _no_calibration()
    given = read_labels(request.labels)
    if request.output is not None:
        claim(request.output, force=request.force)
    model = load_model(request.model, weights=request.weights, input_shape=request.input_shape, fix=request.fix)
    name = request.name or model.name
    path = request.output or Path(f"{name}.tray")
    claim(path, force=request.force)
    if len(model.examples) != 1:
        what = f"the model takes {len(model.examples)} inputs; the command line builds models with one"
        raise InvalidInput(what, where=request.model, hint="in Python: penjing.capture, quantize, lower, build, save")
    if request.calibrate is None and model.needs_calibration:
        raise _no_calibration()
    if request.keep_float and model.is_quantized:
        raise InvalidInput("the graph is quantized already", where="--keep-float", hint="quantize it with --keep-float")
    if request.prune is not None and (model.is_quantized or model.ranges is not None):
        raise InvalidInput("weights that are integers already cannot be pruned", where="--prune")
    if request.stream is not None:
        check_time(request.stream, request.time_axis, model)
    if model.ranges is not None and not model.needs_calibration:
        note(f"{request.model} is quantized: its scales are kept, and no calibration is needed")
    port = described_port(model.port, request.mean, request.std, model.shape)
    if not model.trained:
        note(f"{request.model} has random weights; --weights loads trained ones")
    return Prepared(path, model, name, port, given or model.labels, targets, tiles)


def make(request: Request, prepared: Prepared, shown: Phases) -> Built:
    """Import, calibrate, quantize, compile, measure, pack and write.

    Raises:
        PenjingError: of any stage; nothing has been written then.
    """
    model, port = prepared.model, prepared.port
    shown.start("reading samples")
    drawn = _drawn(request, model, port)
    tested = None
    if request.evaluate:
        axes = model.length_axes
        tested = labelled_samples(request.evaluate, model.shape, port, raw=request.raw, lengths=axes)
    shown.start("importing the model")
    original = model.graph(prepared.name)
    check_labels(prepared.labels, original)
    integers = original if model.is_quantized else _quantized(original, model, drawn, request, shown)
    golden = [drawn.x[:_GOLDEN_SAMPLES]] if drawn else []
    if request.stream is not None:
        shown.start("cutting the time")
        integers = streamed(integers, request.stream, request.time_axis)
        port = port_of_calls(port, request.stream, request.time_axis)
        golden = [first_calls(x[0], integers, _GOLDEN_SAMPLES) for x in golden]
    program = api.lower(integers)
    tuned = _tuned(program, shown) if request.autotune else []
    tiles = {host_target().name: chosen_tiles(tuned)} if tuned else prepared.tiles
    options = api.BuildOptions(
        targets=_with_host(prepared.targets) if tested else [target.name for target in prepared.targets],
        standalone=request.standalone,
        threads=request.threads,
        tiles=tiles,
        ports=[port],
        labels=prepared.labels,
        card=_card(model, drawn, request),
        golden_inputs=golden,
        with_source=request.source,
        record=model.saved.record if model.saved else None,
    )
    parts = api.assemble(program, options, progress=shown.start)
    measured = measure(original, parts, tested, shown) if tested else None
    wanted = {target.name for target in prepared.targets}
    parts = replace(parts, libraries={name: made for name, made in parts.libraries.items() if name in wanted})
    shown.start("packing")
    tray = api.pack(parts, accuracy=measured.accuracy if measured else None)
    save_tray(tray, prepared.path, force=request.force)
    return Built(prepared.path, tray, parts, original, program, measured, tuned)


def _no_calibration() -> InvalidInput:
    return InvalidInput(
        "quantization needs typical inputs, to see which ranges occur",
        where="--calibrate",
        hint=f"add --calibrate with {SOURCES} (enough if only speed matters)",
    )


def _drawn(request: Request, model: ModelSource, port: api.Port) -> Samples | None:
    if request.calibrate is None:
        return None
    return drawn_samples(request.calibrate, model, port, request.samples, raw=request.raw)


def chosen_tiles(tuned: list[TunedLayer]) -> Tiles:
    """The cuts that are not the rule's."""
    return {layer.name: layer.tile for layer in tuned if layer.tile != layer.rule}


def _tuned(program: Graph, shown: Phases) -> list[TunedLayer]:
    shown.start("measuring layers", total=1)
    return api.autotune(program, progress=shown.reached)


def _given_tiles(request: Request, targets: tuple[Target, ...]) -> dict[str, Tiles]:
    """What --tiles gives; refuses what --autotune cannot do."""
    if request.autotune:
        if request.tiles is not None:
            raise InvalidInput("--tiles and --autotune both choose how convolutions are cut", hint="give one of them")
        for target in targets:
            check_tunable(target)
    if request.tiles is None:
        return {}
    found = open_tray(request.tiles).manifest.targets
    tiles = {target.name: found[target.name] for target in targets if target.name in found}
    if not tiles:
        names = ", ".join(sorted(found)) or "none"
        raise InvalidInput(
            f"the tray has no library for {', '.join(target.name for target in targets)} (it has: {names})",
            where=f"--tiles {request.tiles}",
        )
    return {
        name: {layer: Tile(*tile) for build in builds.values() for layer, tile in build.tiles.items()}
        for name, builds in tiles.items()
    }


def _compilable(name: str) -> Target:
    """The target, for which a compiler is there."""
    target = find_target(name)
    compiler = find_compiler(target)
    if is_first_use(target, compiler=compiler):
        note(f"the first build for {target.name} by zig builds its C library as well: 30 to 100 s, once")
    return target


def _with_host(targets: tuple[Target, ...]) -> list[str]:
    """The targets and this machine, where it can be compiled for: accuracy is measured far faster by a library."""
    names = [target.name for target in targets]
    try:
        find_compiler(host_target())
    except ToolchainError:
        return names
    return names if host_target().name in names else [*names, HOST]


def _quantized(original: Graph, model: ModelSource, drawn: Samples | None, request: Request, shown: Phases) -> Graph:
    graph = original
    if request.prune is not None:
        shown.start("pruning")
        graph = api.prune(original, ratio=request.prune)
    return quantized(graph, model, drawn, request.observer, shown, keep_float=request.keep_float)


def _card(model: ModelSource, drawn: Samples | None, request: Request) -> dict[str, str]:
    card = {"source": model.origin, "recipe": "w8a8, some layers in float32" if request.keep_float else "w8a8"}
    if model.saved is not None and model.saved.record is not None:
        card["compression"] = ", ".join(step.step for step in model.saved.record.steps)
    if drawn is not None and model.needs_calibration:
        card["calibration"] = f"{len(drawn.x)} samples of {drawn.name}, {request.observer} ranges"
    if request.stream is not None:
        card["stream"] = stream_text(request.stream, request.time_axis)
    if request.prune is not None:
        card["pruning"] = f"{100 * request.prune:g} % of each layer's weights by magnitude, without fine-tuning"
    return card
