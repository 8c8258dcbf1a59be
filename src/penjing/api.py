"""The stages wired together; every algorithm lives in its own package.

graph = capture(module, example)            torch module -> Graph, checked against its source
    or graph = capture_onnx(path).graph     ONNX file -> Graph, and its ranges where it is quantized
graph = prune(graph, ratio=0.5)             optional
graph = quantize(graph, batches)            w8a8 by calibration
    or graph = apply(recipe, graph, data).graph    all of it by a recipe
program = lower(graph)                      integer program: the definition of what devices compute
save(build(program, ...), "model.tray")     C, libraries, golden vectors, one file
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penjing.assembly import BuildOptions, assemble
from penjing.bundle.pack import TrayParts, pack_tray, save_tray
from penjing.bundle.schema import Accuracy
from penjing.compress.observe import Batch
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.quantize.calibrate import Ranges, calibrate, observed_values
from penjing.compress.quantize.calibrate import symmetric as around_zero
from penjing.compress.quantize.carry_states import CarryStates, shared_ranges
from penjing.compress.quantize.keep_float import kept_layers
from penjing.compress.quantize.observers import ObserverKind
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.stream_steps import StreamSteps
from penjing.compress.structure.clean import clean
from penjing.core.files import refuse_to_overwrite, write_atomically
from penjing.core.length import Length
from penjing.core.port import Port
from penjing.core.targets import HOST, find_target
from penjing.emit.onnx.emit import emit_onnx
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.program.lower import lower
from penjing.recipe.apply import Applied, apply_recipe
from penjing.recipe.data import Data, Progress
from penjing.recipe.graph_file import SavedGraph, load_graph, save_graph
from penjing.recipe.recipe import Recipe
from penjing.runtime.loading import load
from penjing.tune.autotune import TunedLayer
from penjing.tune.autotune import autotune as tune_layers

if TYPE_CHECKING:
    import torch

    from penjing.frontends.onnx.capture import Captured
    from penjing.train.module import TrainableGraph

__all__ = [
    "Applied",
    "BuildOptions",
    "Data",
    "Length",
    "Port",
    "Recipe",
    "SavedGraph",
    "apply",
    "assemble",
    "autotune",
    "build",
    "capture",
    "capture_onnx",
    "clean",
    "export_onnx",
    "load",
    "load_graph",
    "lower",
    "pack",
    "prune",
    "quantize",
    "save",
    "save_graph",
    "stream",
    "trainable",
]


def capture(module: "torch.nn.Module", example: Any, *, name: str | None = None, length: Length | None = None) -> Graph:
    """Import a torch module. See `penjing.frontends.torch_export.capture`."""
    from penjing.frontends.torch_export import capture as capture_torch

    return capture_torch(module, example, name=name, length=length)


def capture_onnx(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    length: Length | None = None,
    fixed: Mapping[str, float] | None = None,
) -> "Captured":
    """Import an ONNX file. See `penjing.frontends.onnx.capture.capture`."""
    from penjing.frontends.onnx.capture import capture as capture_file

    return capture_file(Path(path), name=name, shapes=shapes, length=length, fixed=fixed)


def trainable(graph: Graph, *, keep_zeros: bool = True) -> "TrainableGraph":
    """The graph as a torch module for fine-tuning; `.to_graph()` on it leads back. Zeros stay zero by default."""
    from penjing.train.module import trainable as make_trainable

    return make_trainable(graph, keep_zeros=keep_zeros)


def prune(
    graph: Graph,
    *,
    ratio: float | None = None,
    threshold: float | None = None,
    scope: Literal["layer", "global"] = "layer",
) -> Graph:
    """Zero the smallest weights (裁剪), after cleaning. Fine-tune afterwards with `trainable`."""
    return run_passes(clean(graph), [PruneMagnitude(ratio, threshold, scope)])[0]


def quantize(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    observer: ObserverKind = "mse",
    symmetric: bool = False,
    carry: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
    known: Mapping[str, tuple[float, float]] | None = None,
    keep_float: Sequence[str] = (),
) -> Graph:
    """Static 8-bit quantization of weights and activations (量化), after cleaning.

    Args:
        graph: a float graph.
        batches: calibration inputs, float32 (N, ...), normalised as in training.
        observer: how ranges are chosen: 'min-max', 'mse', 'percentile' or 'entropy'.
        symmetric: ranges around zero, as TensorRT needs them; they are coarser wherever values are not.
        carry: input -> the output that the next call reads in its place: a state of the model, which stays inside.
        progress: called with the number of calibration samples seen so far.
        known: activation -> (low, high), such as `Captured.ranges` of a quantized ONNX model. The graph is not cleaned
            then, and where all ranges are known no batch is looked at.
        keep_float: weights, or patterns such as 'head.*', whose layers the library computes in float32.

    Raises:
        CalibrationError, QuantizationError: no samples or no numbers in them, or a bias beyond int32.
        InvalidInput, UnsupportedOp: a layer to keep that there is not, or that has no form in float32.
    """
    graph = graph if known is not None else clean(graph)
    kept_layers(graph, keep_float)  # before the work that takes time
    ranges = Ranges(dict(known or {}), 0)
    if not set(observed_values(graph)) <= ranges.ranges.keys():
        seen = calibrate(graph, batches, observer, progress)
        ranges = Ranges({**seen.ranges, **ranges.ranges}, seen.samples)
    ranges = around_zero(ranges) if symmetric else ranges
    if not carry:
        return run_passes(graph, [QuantizeStatic(ranges, tuple(keep_float))])[0]
    ranges = shared_ranges(graph, ranges, carry)
    return run_passes(graph, [QuantizeStatic(ranges, tuple(keep_float)), CarryStates(carry)])[0]


def stream(graph: Graph, *, steps: int = 1, axis: int | Mapping[str, int] = 1) -> Graph:
    """A quantized network for sequences as one that reads `steps` of them at a time and remembers what it has to.

    Joined along time, the outputs of a session's calls are those of the whole sequence, byte for byte.

    Args:
        graph: from `quantize`, over whole sequences.
        steps: of a call.
        axis: of time in every input, or input -> axis; inputs that are not named have no time and come with every call.

    Raises:
        InvalidInput, InvalidGraph: no such axis or input; not quantized, or with states already.
        UnsupportedOp: a node needs steps that come later, or all of them at once.
    """
    axes = axis if isinstance(axis, Mapping) else dict.fromkeys(graph.inputs, axis)
    return run_passes(graph, [StreamSteps(axes, steps)])[0]


def apply(
    recipe: Recipe,
    graph: Graph,
    data: Data | None = None,
    *,
    latency: bool = False,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Applied:
    """Take a graph through a recipe: passes, trainings and quantization in order, with a record of what each was worth.

    Args:
        recipe: from `penjing.recipe.recipe.load_recipe`, or made of steps: `Recipe([PruneMagnitude(0.5), ...])`.
        graph: a float graph.
        data: calibration batches, training and test samples, as far as the steps need them.
        latency: compile every form of the network for this machine and time it, some seconds a step.
        progress: called with what is being done, how much of it is done, and of how much (or None).
        checkpoint: folder for the states of unfinished trainings, which the same call later takes up.

    Returns:
        `.graph`, in stage `compressed` when the recipe quantizes, and `.record`.

    Raises:
        InvalidInput, CalibrationError: steps in an impossible order, or that lack their data; before any work.
    """
    return apply_recipe(recipe, graph, data or Data(), latency=latency, progress=progress, checkpoint=checkpoint)


def build(
    program: Graph,
    options: BuildOptions | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> bytes:
    """Plan, emit, compile for every target, compute golden vectors, and pack: the bytes of a tray.

    Args and errors as in `assemble`.
    """
    return pack(assemble(program, options, progress=progress))


def pack(parts: TrayParts, *, accuracy: Accuracy | None = None) -> bytes:
    """The bytes of a tray; `accuracy`, measured on the assembled parts, goes into the manifest."""
    if accuracy is not None:
        measured = {name: replace(variant, accuracy=accuracy) for name, variant in parts.variants.items()}
        parts = replace(parts, variants=measured)
    return pack_tray(parts)


def autotune(program: Graph, *, progress: Callable[[int, int], None] | None = None) -> list[TunedLayer]:
    """Measure how each convolution of a lowered program is best cut on this machine. See `penjing.tune.autotune`.

    `BuildOptions.tiles` takes the `tile` of each layer whose `tile` is not the rule's.
    """
    return tune_layers(program, find_target(HOST), progress or (lambda done, total: None))


def save(tray: bytes, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a tray whole or not at all; an existing file is replaced only with `force`."""
    save_tray(tray, path, force=force)


def export_onnx(
    graph: Graph,
    path: str | os.PathLike[str] | None = None,
    *,
    opset: int | None = None,
    int4: bool = False,
    tensorrt: bool = False,
    force: bool = False,
) -> bytes:
    """The bytes of an ONNX model of a graph that is not lowered; written to `path` too where one is given.

    A float graph is written as it is; in a quantized one, QuantizeLinear and DequantizeLinear stand where the program
    rounds.

    Args:
        graph: from `capture`, `clean`, `quantize` or `apply`.
        path: the file, written whole or not at all; an existing one is replaced only with `force`.
        opset: 17 to 21; 17 where nothing asks for more.
        int4: store weights whose codes are -7..7 in four bits.
        tensorrt: codes as TensorRT wants them; the graph needs symmetric ranges.
        force: replace an existing file.

    Raises:
        InvalidInput, InvalidGraph, UnsupportedOp, QuantizationError: what cannot be written so, and why.
        MissingDependency: onnx is not installed.
        OutputExists, WriteFailed: of the file.
    """
    if path is not None:
        refuse_to_overwrite(Path(path), force=force)
    data = emit_onnx(graph, opset=opset, int4=int4, tensorrt=tensorrt)
    if path is not None:
        write_atomically(Path(path), data, force=force)
    return data
