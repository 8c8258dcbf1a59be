"""What a target makes of a network: which kernels run it, and, where asked for, accuracy and latency as measured."""

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.observe import Batch
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.structure.clean import clean
from penjing.core.errors import PenjingError, ToolchainError
from penjing.core.targets import Target, host_target
from penjing.emit.c.emit import emit_c
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.measure.correct import correct
from penjing.measure.intervals import accuracy_interval
from penjing.measure.timing import time_interleaved
from penjing.ops.embedding import random_inputs
from penjing.ops.evaluate import evaluate
from penjing.program.cost import total_macs
from penjing.program.lower import lower
from penjing.recipe.data import Data, Labelled, Progress
from penjing.recipe.predict import predict
from penjing.recipe.record import Accuracy, Effect, Realised
from penjing.runtime.engines import Engine, InterpreterEngine, LibraryEngine
from penjing.runtime.native import NativeLibrary
from penjing.toolchain.build import compile_library
from penjing.toolchain.compilers import find_compiler
from penjing.vector import vector_operators
from penjing.vector.prepare import Prepared, prepare
from penjing.vector.sparse_operator import SparseOperator
from penjing.vector.specialise import kernel_choices

_MANY_ZEROS = 0.25  # share of a layer's weights: what rounding alone makes zero is not worth a word
_QUICK_MACS = 2 * 10**8  # what the interpreter does sooner than a compiler has made a library
_SAMPLES = 4  # a copy that is quantized to see its kernels needs ranges that are merely plausible


@dataclass(frozen=True)
class Wanted:
    """What to measure: accuracy is, where `data.tested` is there."""

    data: Data
    latency: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """An effect, and which of the tested samples were right: (n,) bool."""

    effect: Effect
    right: NDArray[np.bool_] | None


def see(graph: Graph, wanted: Wanted, progress: Progress) -> Seen:
    """What this form of the network is worth, predicted from its weights and realised on this machine."""
    try:
        program = _program(graph, wanted.data.calibration)
    except PenjingError as error:
        return Seen(Effect(predict(graph), None, error.what), None)
    prepared = prepare(program, host_target())
    sparse, dense = _kernels(program)
    engine = _engine(graph, prepared, program, wanted, progress)
    right = _right(graph, engine, wanted.data.tested, progress) if wanted.data.tested is not None else None
    latency = None
    if wanted.latency and isinstance(engine, LibraryEngine):
        progress("measuring latency", 0, None)
        latency = time_interleaved({"run": engine.bind().run})["run"].median_us
    realised = Realised(host_target().name, prepared.plan.weights_bytes, sparse, dense, _accuracy(right), latency)
    return Seen(Effect(predict(graph), realised, None), right)


def _program(graph: Graph, calibration: Iterable[Batch]) -> Graph:
    """The program of a quantized graph, or of a copy that is quantized for this."""
    if graph.stage == "compressed":
        return lower(graph)
    cleaned = clean(graph)
    ranges = calibrate(cleaned, [_few(cleaned, calibration)], "min-max")
    return lower(run_passes(cleaned, [QuantizeStatic(ranges)])[0])


def _few(graph: Graph, calibration: Iterable[Batch]) -> Batch:
    for batch in calibration:
        arrays = batch if isinstance(batch, tuple) else (batch,)
        return tuple(array[:_SAMPLES] for array in arrays)
    return random_inputs(graph, 1, np.random.default_rng(0))


def _kernels(program: Graph) -> tuple[tuple[str, ...], dict[str, str]]:
    """Layers whose zeros are left out, and those with many zeros that are not, with the reason."""
    known = vector_operators()
    sparse: list[str] = []
    dense: dict[str, str] = {}
    for node, choice in zip(program.nodes, kernel_choices(program, host_target()), strict=True):
        kernel = known.get(choice.kernel)
        if kernel is not None and issubclass(kernel, SparseOperator):
            sparse.append(choice.name)
        elif _zero_share(program, node.inputs) >= _MANY_ZEROS:
            dense[choice.name] = _of_zeros(choice.why) or f"{choice.kernel} has no form that leaves out zeros"
    return tuple(sparse), dense


def _of_zeros(why: str) -> str:
    """Of the reasons against kernels, those that speak of kernels for zeros."""
    reasons = re.split(r"; (?=not v_)", why)
    return "; ".join(reason for reason in reasons if reason.startswith("not v_sparse"))


def _zero_share(program: Graph, inputs: tuple[str, ...]) -> float:
    weights = [program.constants[name].array for name in inputs if name in program.constants]
    largest = max((array for array in weights if array.dtype == np.int8), key=lambda array: array.size, default=None)
    return 0.0 if largest is None else 1 - float(np.count_nonzero(largest)) / largest.size


def _engine(graph: Graph, prepared: Prepared, program: Graph, wanted: Wanted, progress: Progress) -> Engine | None:
    """What runs the program for a measurement: the compiled library for this machine, or the interpreter."""
    tested = wanted.data.tested if graph.stage == "compressed" else None
    if not wanted.latency:
        if tested is None:
            return None
        if total_macs(program) * len(tested.x) < _QUICK_MACS or not _can_compile(prepared.target):
            return InterpreterEngine(program)
    target = prepared.target
    progress("compiling", 0, None)
    emitted = emit_c(
        prepared.program, prepared.plan, prepared.weights.tobytes(), standalone=False, isas=target.isas, threads=1
    )
    library = compile_library(emitted.sources, target, optimize=target.optimize)
    return LibraryEngine(prepared, NativeLibrary(library, program.name), standalone=False)


def _can_compile(target: Target) -> bool:
    try:
        find_compiler(target)
    except ToolchainError:
        return False
    return True


def _right(graph: Graph, engine: Engine | None, tested: Labelled, progress: Progress) -> NDArray[np.bool_]:
    what, total = "measuring accuracy", len(tested.x)
    progress(what, 0, total)
    run = engine.run_reals if engine is not None and graph.stage == "compressed" else _in_floats(graph)
    return correct(run, tested.x, tested.y, progress=lambda done: progress(what, done, total))


def _accuracy(right: NDArray[np.bool_] | None) -> Accuracy | None:
    if right is None:
        return None
    found = accuracy_interval(int(right.sum()), right.size)
    return Accuracy(found.value, found.low, found.high, right.size)


def _in_floats(graph: Graph) -> Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]]:
    """The float graph as a function; by torch where it is installed, which is far faster than numpy."""
    if importlib.util.find_spec("torch") is None or len(graph.outputs) > 1:
        return lambda x: evaluate(graph, x)
    from penjing.train.fit import predict as run
    from penjing.train.module import trainable

    module = trainable(graph)
    return lambda x: run(module, x)
