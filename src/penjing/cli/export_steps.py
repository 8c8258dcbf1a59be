"""The steps of `penjing export`, and how it tells what it made; checks come before all work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penjing import api
from penjing.cli.calibrating import drawn_samples, quantized
from penjing.cli.output import Phases, note, say, show_facts
from penjing.cli.ports import described_port
from penjing.cli.sources import ModelSource, load_model, needs_torch, require_torch
from penjing.cli.writing import claim
from penjing.compress.quantize.observers import ObserverKind
from penjing.core.errors import InvalidInput
from penjing.core.onnx_package import import_onnx
from penjing.emit.onnx.options import OnnxOptions, onnx_options
from penjing.ir.graph import Graph
from penjing.ir.types import Dim
from penjing.measure.sizes import bytes_text


@dataclass(frozen=True)
class Request:
    """What was asked for: the arguments of the command, as its help describes them."""

    model: str
    weights: Path | None
    input_shape: str | None
    mean: str | None
    std: str | None
    raw: bool
    calibrate: str | None
    samples: int
    observer: ObserverKind
    output: Path | None
    opset: int | None
    int4: bool
    tensorrt: bool
    force: bool


@dataclass(frozen=True)
class Exported:
    """The file, its size, how it was written, and the graph that it was made from."""

    path: Path
    size: int
    options: OnnxOptions
    graph: Graph


def make(request: Request, shown: Phases) -> Exported:
    """Check, load, quantize where samples are given, and write.

    Raises:
        PenjingError: of any stage; nothing has been written then.
    """
    shown.start("loading the model")
    import_onnx()
    if needs_torch(request.model):
        require_torch()
    options = onnx_options(request.opset, int4=request.int4, tensorrt=request.tensorrt)
    if request.output is not None:
        claim(request.output, force=request.force)
    model = load_model(request.model, weights=request.weights, input_shape=request.input_shape)
    path = request.output or Path(f"{model.name}.onnx")
    claim(path, force=request.force)
    if not model.trained:
        note(f"{request.model} has random weights; --weights loads trained ones")
    graph = _graph(request, model, shown)
    shown.start("writing")
    data = api.export_onnx(
        graph, path, opset=request.opset, int4=request.int4, tensorrt=request.tensorrt, force=request.force
    )
    return Exported(path, len(data), options, graph)


def as_dict(exported: Exported) -> dict[str, Any]:
    """For JSON; a symbolic extent has a name."""
    graph = exported.graph
    return {
        "file": str(exported.path),
        "bytes": exported.size,
        "opset": exported.options.opset,
        "quantized": graph.stage == "compressed",
        "inputs": {name: _shape(graph, name) for name in graph.inputs},
        "outputs": {name: _shape(graph, name) for name in graph.outputs},
    }


def show_exported(exported: Exported) -> None:
    """The file, its form, and what goes in and out."""
    found = as_dict(exported)
    say(f"{exported.path}  {bytes_text(exported.size)}", style="bold")
    rows = [("form", f"{'QDQ' if found['quantized'] else 'floats'}, opset {found['opset']}")]
    for kind in ("input", "output"):
        shapes = found[f"{kind}s"].items()
        rows += [(kind, f"{name}, float32 {' x '.join(map(str, shape))}") for name, shape in shapes]
    show_facts(rows)


def _shape(graph: Graph, name: str) -> list[int | str]:
    return [extent.name if isinstance(extent, Dim) else extent for extent in graph.types[name].shape]


def _graph(request: Request, model: ModelSource, shown: Phases) -> Graph:
    if request.calibrate is None:
        return _as_it_is(request, model, shown)
    if model.is_quantized:
        raise InvalidInput("the graph is quantized already", where="--calibrate", hint="leave it out")
    if len(model.examples) != 1:
        what = f"the model takes {len(model.examples)} inputs; the command line quantizes models with one"
        raise InvalidInput(what, where="--calibrate", hint="in Python: penjing.quantize, then penjing.export_onnx")
    shown.start("reading samples")
    port = described_port(model.port, request.mean, request.std, model.shape)
    drawn = drawn_samples(request.calibrate, model, port, request.samples, raw=request.raw)
    shown.start("importing the model")
    graph = model.graph(model.name)
    return quantized(graph, model, drawn, request.observer, shown, symmetric=request.tensorrt)


def _as_it_is(request: Request, model: ModelSource, shown: Phases) -> Graph:
    """Without samples: a quantized network stays quantized, and floats stay floats."""
    shown.start("importing the model")
    graph = model.graph(model.name)
    if model.is_quantized:
        return graph
    if model.ranges is None:
        return api.clean(graph)
    if model.needs_calibration:
        raise InvalidInput(
            "the model is quantized, but leaves some activations in floats",
            where=request.model,
            hint="pass --calibrate",
        )
    return quantized(graph, model, None, request.observer, shown, symmetric=request.tensorrt)
