"""What computes codes from codes: the compiled library of a tray, or the interpreter."""

import ctypes
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from penjing.core.errors import BundleError, InvalidInput
from penjing.ir.graph import Graph
from penjing.program.interpret import interpret, rows_at_a_time
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.symbols import c_stem
from penjing.program.weights import pack_weights


class Engine(Protocol):
    """Codes in, codes out; axis 0 holds any number of samples."""

    name: str

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
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


class LibraryEngine:
    """The compiled library: one call per sample on memory that this object owns. Not for several threads at once."""

    def __init__(self, program: Graph, plan: Plan, library: bytes, *, standalone: bool, target: str) -> None:
        """Load native code.

        Raises:
            BundleError: the operating system refuses the library, or its self-test says that it rounds wrongly.
        """
        self.name = f"library {target}"
        self._program = program
        self._plan = plan
        self._code = _load(library, program.name)
        stem = c_stem(program.name)
        try:
            self._run, self_test = self._code[f"{stem}_run"], self._code[f"{stem}_self_test"]
        except AttributeError as error:
            raise BundleError(f"the library lacks a function: {error}", where=program.name) from error
        self._run.restype = self_test.restype = ctypes.c_int
        self._run.argtypes = [ctypes.c_void_p] * (3 if standalone else 4)
        if self_test() != 0:
            raise BundleError(
                "the compiled library rounds differently from the program's definition and must not be used",
                where=program.name,
                hint="build it again without -ffast-math, on a target with IEEE-754 floats",
            )
        self._arena = aligned_buffer(plan.arena_bytes)
        self._weights = None if standalone else aligned_buffer(plan.weights_bytes)
        if self._weights is not None:
            self._weights[:] = pack_weights(program, plan)
        self._in = aligned_buffer(plan.input_bytes)
        self._out = aligned_buffer(plan.output_bytes)
        pointers = ([] if self._weights is None else [self._weights]) + [self._in, self._out, self._arena]
        self._arguments = [array.ctypes.data for array in pointers]
        self._in_views = [_view(self._in, program, plan, name) for name in program.inputs]
        self._out_views = [_view(self._out, program, plan, name) for name in program.outputs]

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        n = _samples(self._program, inputs)
        outputs = tuple(np.empty((n, *view.shape[1:]), view.dtype) for view in self._out_views)
        for i in range(n):
            for view, x in zip(self._in_views, inputs, strict=True):
                view[0] = x[i]
            status = self._run(*self._arguments)
            if status != 0:
                raise BundleError(f"the compiled library returned status {status}", where=self._program.name)
            for view, y in zip(self._out_views, outputs, strict=True):
                y[i] = view[0]
        return outputs


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
