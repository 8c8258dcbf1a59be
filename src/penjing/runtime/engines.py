"""What computes codes from codes: the compiled library of a tray, or the interpreter."""

import ctypes
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from penjing.core import knobs
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import BundleError, InvalidInput
from penjing.core.targets import Target
from penjing.ir.graph import Graph
from penjing.ir.types import Quant
from penjing.program.interpret import interpret, rows_at_a_time
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.symbols import POOL_BYTES, c_stem
from penjing.vector.prepare import Prepared


class Engine(Protocol):
    """Codes in, codes out; axis 0 holds any number of samples."""

    name: str

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        ...

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32; inputs have been checked."""
        ...


class InterpreterEngine:
    """The definition itself, in numpy: slow, and always available."""

    name = "interpreter"

    def __init__(self, program: Graph) -> None:
        self._program = program

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        n, chunk = _samples(self._program, inputs), rows_at_a_time(self._program)
        parts = [interpret(self._program, *(x[i : i + chunk] for x in inputs)) for i in range(0, n, chunk)]
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32."""
        quants = [_quant(self._program, name) for name in self._program.inputs]
        codes = self.run(*(quantize(x, q.scale, q.zero_point) for x, q in zip(inputs, quants, strict=True)))
        quants = [_quant(self._program, name) for name in self._program.outputs]
        return tuple(dequantize(y, q.scale, q.zero_point) for y, q in zip(codes, quants, strict=True))


class LibraryEngine:
    """The compiled library: one call per sample on memory that this object owns. Not for several threads at once."""

    def __init__(self, prepared: Prepared, library: bytes, *, standalone: bool, threads: int = 1) -> None:
        """Load native code.

        Args:
            prepared: the program as it was compiled.
            library: the compiled library.
            standalone: whether the weights are linked into it.
            threads: how many work on one call, at most as many as the program was prepared for.

        Raises:
            BundleError: the operating system refuses the library, or its self-test says that it rounds wrongly.
        """
        program, plan = prepared.program, prepared.plan
        self.name = f"library {prepared.target.name}"
        self._program = program
        self._plan = plan
        self._threads = threads
        self._code = _load(library, program.name)
        stem = c_stem(program.name)
        _require_functions(self._code, stem, prepared, threads)
        self._run = self._code[f"{stem}_run"]
        self._run.argtypes = [ctypes.c_void_p] * (3 if standalone else 4)
        if self._code[f"{stem}_self_test"]() != 0:
            raise BundleError(
                "the compiled library rounds differently from the program's definition and must not be used",
                where=program.name,
                hint="build it again without -ffast-math, on a target with IEEE-754 floats",
            )
        self.name += _choose_isa(self._code, program.name, prepared.target)
        self._arena = aligned_buffer(plan.arena_f32_bytes)
        self._weights = None if standalone else aligned_buffer(plan.weights_bytes)
        if self._weights is not None:
            self._weights[:] = prepared.weights
        self._reals = _Reals(self._code, stem, program, plan)
        self._in = aligned_buffer(plan.input_bytes)
        self._out = aligned_buffer(plan.output_bytes)
        pointers = ([] if self._weights is None else [self._weights]) + [self._in, self._out, self._arena]
        self._arguments = [array.ctypes.data for array in pointers]
        self._arguments_f32 = self._reals.around([self._weights], [self._arena])
        if threads > 1:
            self._start_pool(stem, threads)
        self._in_views = [_view(self._in, program, plan, name) for name in program.inputs]
        self._out_views = [_view(self._out, program, plan, name) for name in program.outputs]

    def _start_pool(self, stem: str, threads: int) -> None:
        """Let a pool of threads run each call; it ends with this object."""
        self._pool = aligned_buffer(POOL_BYTES)
        start, stop = self._code[f"{stem}_pool_start"], self._code[f"{stem}_pool_stop"]
        start.argtypes, stop.argtypes, stop.restype = [ctypes.c_void_p, ctypes.c_int], [ctypes.c_void_p], None
        address = self._pool.ctypes.data
        status = start(address, threads)
        if status != 0:
            raise BundleError(f"no {threads} threads could be started: status {status}", where=self._program.name)
        weakref.finalize(self, _stop_pool, stop, self._pool)
        self._arguments = [address, *self._arguments]
        self._run = self._code[f"{stem}_pool_run"]
        self._run.restype, self._run.argtypes = ctypes.c_int, [ctypes.c_void_p] * len(self._arguments)
        self.name += f", {threads} threads"

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        return _each_sample(self.bind(), _samples(self._program, inputs), inputs)

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32, quantized by the library."""
        return _each_sample(self.bind(reals=True), len(inputs[0]), inputs)

    def bind(self, *, reals: bool = False) -> "Bound":
        """The engine's own memory for one sample, to be filled and read in place: the way with the least overhead."""
        run, arguments = self._run, tuple(self._arguments)
        before = self._reals.quantize_into(self._in)
        after = self._reals.dequantize_from(self._out)
        run_f32, arguments_f32 = self._reals.run, self._arguments_f32

        def call() -> None:
            status = run(*arguments)
            if status != 0:
                # naming self here also keeps the memory that `arguments` point to
                raise BundleError(f"the compiled library returned status {status}", where=self._program.name)

        def call_reals() -> None:
            status = run_f32(*arguments_f32)
            if status != 0:
                raise BundleError(f"the compiled library returned status {status}", where=self._program.name)

        def call_reals_in_pool() -> None:
            before()
            call()
            after()

        if reals:
            chosen = call_reals_in_pool if self._threads > 1 else call_reals
            return Bound(self._reals.inputs, self._reals.outputs, chosen)
        return Bound(tuple(self._in_views), tuple(self._out_views), call)


@dataclass(frozen=True, eq=False)
class Bound:
    """One sample at a time without copies: fill `inputs`, call `run`, read `outputs`. The arrays stay the same.

    Attributes:
        inputs: one array (1, ...) per input, of codes or of float32.
        outputs: one array (1, ...) per output, likewise; the next call overwrites them.
        run: computes outputs from inputs.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    run: Callable[[], None]


class _Reals:
    """Floats for one sample, and the library's functions between them and codes."""

    def __init__(self, code: ctypes.CDLL, stem: str, program: Graph, plan: Plan) -> None:
        self._in = aligned_buffer(4 * plan.input_bytes)
        self._out = aligned_buffer(4 * plan.output_bytes)
        self.inputs = tuple(_real_view(self._in, program, plan, name) for name in program.inputs)
        self.outputs = tuple(_real_view(self._out, program, plan, name) for name in program.outputs)
        self._quantize, self._dequantize = code[f"{stem}_quantize"], code[f"{stem}_dequantize"]
        for function in (self._quantize, self._dequantize):
            function.restype, function.argtypes = ctypes.c_int, [ctypes.c_void_p] * 2
        self.run = code[f"{stem}_run_f32"]

    def around(self, before: list[np.ndarray | None], after: list[np.ndarray]) -> tuple[int, ...]:
        """Addresses that `run` takes: of the weights where it takes them, reals in and out, and the arena."""
        arrays = [*(array for array in before if array is not None), self._in, self._out, *after]
        self.run.restype, self.run.argtypes = ctypes.c_int, [ctypes.c_void_p] * len(arrays)
        return tuple(array.ctypes.data for array in arrays)

    def quantize_into(self, codes: np.ndarray) -> Callable[[], int]:
        """A call that turns `inputs` into codes."""
        return partial(self._quantize, self._in.ctypes.data, codes.ctypes.data)

    def dequantize_from(self, codes: np.ndarray) -> Callable[[], int]:
        """A call that turns codes into `outputs`."""
        return partial(self._dequantize, codes.ctypes.data, self._out.ctypes.data)


def _each_sample(bound: Bound, n: int, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    outputs = tuple(np.empty((n, *y.shape[1:]), y.dtype) for y in bound.outputs)
    for i in range(n):
        for view, x in zip(bound.inputs, inputs, strict=True):
            view[0] = x[i]
        bound.run()
        for view, y in zip(bound.outputs, outputs, strict=True):
            y[i] = view[0]
    return outputs


def _real_view(block: np.ndarray, program: Graph, plan: Plan, name: str) -> np.ndarray:
    place, type_ = plan.places[name], program.types[name]
    offset = place.offset if place.base in ("in", "out") else 0
    return block[4 * offset : 4 * (offset + type_.nbytes)].view(np.float32).reshape(type_.bounds)


def _quant(program: Graph, name: str) -> Quant:
    quant = program.types[name].quant
    assert quant is not None  # checked when the tray was read
    return quant


def _stop_pool(stop: Callable[[int], None], pool: np.ndarray) -> None:
    stop(pool.ctypes.data)


def _require_functions(code: ctypes.CDLL, stem: str, prepared: Prepared, threads: int) -> None:
    """Raise BundleError unless the library has every function that is going to be called."""
    wanted = ["run", "run_f32", "self_test", "quantize", "dequantize"]
    wanted += ["isa", "use"] if prepared.target.isas else []
    wanted += ["pool_start", "pool_run", "pool_stop"] if threads > 1 else []
    for name in wanted:
        try:
            code[f"{stem}_{name}"]
        except AttributeError as error:
            raise BundleError(f"the library lacks a function: {error}", where=prepared.program.name) from error


def _choose_isa(code: ctypes.CDLL, name: str, target: Target) -> str:
    """Let the library use what PENJING_ISA asks for; returns how to name the choice, '' where there is none.

    Raises:
        InvalidInput: the library has no such instruction set, or this processor lacks it.
    """
    if not target.isas:
        return ""
    numbers = {isa: number for number, isa in enumerate(reversed(target.isas))}
    wanted, stem = knobs.ISA.text(), c_stem(name)
    if wanted:
        if wanted not in numbers:
            raise InvalidInput(
                f"{knobs.ISA.name}={wanted}: there is no such instruction set for {target.name}",
                hint=f"choose one of {', '.join(target.isas)}, or unset {knobs.ISA.name}",
            )
        if code[f"{stem}_use"](numbers[wanted]) != 0:
            raise InvalidInput(
                f"{knobs.ISA.name}={wanted}: this processor lacks it", hint=f"unset {knobs.ISA.name} to use the best"
            )
    chosen = code[f"{stem}_isa"]()
    return next(f" ({isa})" for isa, number in numbers.items() if number == chosen)


def aligned_buffer(nbytes: int) -> np.ndarray:
    """u8[nbytes] at an address that is a multiple of 64."""
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def _view(block: np.ndarray, program: Graph, plan: Plan, name: str) -> np.ndarray:
    place, type_ = plan.places[name], program.types[name]
    offset = place.offset if place.base in ("in", "out") else 0
    return block[offset : offset + type_.nbytes].view(type_.dtype.numpy).reshape(type_.bounds)


def _samples(program: Graph, inputs: tuple[np.ndarray, ...]) -> int:
    """The number of samples, after every input has been checked against the program."""
    if len(inputs) != len(program.inputs):
        raise InvalidInput(f"{len(inputs)} inputs were given, {program.name} takes {len(program.inputs)}")
    for name, x in zip(program.inputs, inputs, strict=True):
        type_ = program.types[name]
        if x.dtype != type_.dtype.numpy:
            raise InvalidInput(f"input {name} must hold {type_.dtype} codes, not {x.dtype}")
        if x.ndim != type_.rank or x.shape[1:] != type_.bounds[1:]:
            raise InvalidInput(f"input {name} has shape {x.shape}, expected (n, {str(type_.bounds[1:])[1:]}")
    counts = {len(x) for x in inputs}
    if len(counts) != 1 or 0 in counts:
        raise InvalidInput(f"inputs must hold the same number of samples, at least one, not {sorted(counts)}")
    return counts.pop()


def _load(library: bytes, name: str) -> ctypes.CDLL:
    # a name of its own for each load: the loader takes two files of one name for the same library
    with tempfile.TemporaryDirectory(prefix="penjing-") as folder:
        path = Path(folder) / f"{c_stem(name)}.so"
        path.write_bytes(library)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise BundleError(
                f"this machine refuses the compiled library: {error}",
                where=name,
                hint="set TMPDIR to a folder that allows execution, or use engine='interpreter'",
            ) from error
