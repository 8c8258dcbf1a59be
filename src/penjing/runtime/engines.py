"""What computes codes from codes: the compiled library of a tray, or the interpreter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from penjing.core import knobs
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import BundleError, InvalidInput
from penjing.core.targets import Target
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ir.types import DType, Quant, Type, bound, is_length
from penjing.ops.embedding import check_ids, id_rows
from penjing.program.interpret import interpret, interpret_step, rows_at_a_time
from penjing.program.plan import Plan
from penjing.program.states import States
from penjing.program.weights import aligned_buffer
from penjing.runtime.native import NativeLibrary
from penjing.vector.prepare import Prepared


class Engine(Protocol):
    """Codes in, codes out; axis 0 holds any number of samples, which know nothing of each other."""

    name: str
    program: Graph

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        ...

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32; inputs have been checked."""
        ...

    def step(self, states: States, *inputs: np.ndarray) -> tuple[tuple[np.ndarray, ...], States]:
        """One call of one sample that goes on from `states`: codes out, and the states for the next call."""
        ...


class InterpreterEngine:
    """The definition itself, in numpy: slow, and always available."""

    name = "interpreter"

    def __init__(self, program: Graph) -> None:
        self.program = program

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        n, chunk = _samples(self.program, inputs), rows_at_a_time(self.program)
        parts = [interpret(self.program, *(x[i : i + chunk] for x in inputs)) for i in range(0, n, chunk)]
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32."""
        return to_reals(self.program, self.run(*to_codes(self.program, inputs)))

    def step(self, states: States, *inputs: np.ndarray) -> tuple[tuple[np.ndarray, ...], States]:
        """One call of one sample that goes on from `states`."""
        _samples(self.program, inputs)
        return interpret_step(self.program, states, *inputs)


class LibraryEngine:
    """The compiled library: one call per sample on memory that this object owns. Not for several threads at once."""

    def __init__(self, prepared: Prepared, code: NativeLibrary, *, standalone: bool, threads: int = 1) -> None:
        """Check the library, choose its instruction set, make memory.

        Args:
            prepared: the program as it was compiled.
            code: the compiled library.
            standalone: whether the weights are linked into it.
            threads: how many work on one call, at most as many as the program was prepared for.

        Raises:
            BundleError: the library lacks a function, or its self-test says that it rounds wrongly.
            InvalidInput: PENJING_ISA asks for what there is not.
        """
        program, plan = prepared.program, prepared.plan
        if code.call("self_test") != 0:
            raise BundleError(
                "the compiled library rounds differently from the program's definition and must not be used",
                where=program.name,
                hint="build it again without -ffast-math, on a target with IEEE-754 floats",
            )
        self.name = f"library {prepared.target.name}{_choose_isa(code, prepared.target)}"
        self.program = program
        weights = [] if standalone else [prepared.weights]
        codes = aligned_buffer(plan.input_bytes), aligned_buffer(plan.output_bytes)
        reals = aligned_buffer(4 * plan.input_bytes), aligned_buffer(4 * plan.output_bytes)
        arena = aligned_buffer(plan.arena_f32_bytes)
        session = aligned_buffer(plan.session_bytes)
        own = [arena, session] if program.states else [arena]
        longest = length_bound(program)
        if threads == 1:
            run: Callable[[], None] = code.bound("run", *weights, *codes, *own, length=longest)
            run_reals: Callable[[], None] = code.bound("run_f32", *weights, *reals, *own, length=longest)
        else:
            self.name += f", {threads} threads"
            run = code.bound("pool_run", *weights, *codes, *own, pool=code.start_pool(threads))
            quantize_all = code.bound("quantize", reals[0], codes[0])
            dequantize_all = code.bound("dequantize", codes[1], reals[1])
            run_reals = partial(_in_turn, quantize_all, run, dequantize_all)
        self._states = {name: _view(session, program, plan, name, None) for name in program.states}
        reset = code.bound("reset", session) if program.states else None
        float32 = np.dtype(np.float32)

        def at_length(n: int) -> tuple[Bound, Bound]:
            """The same for sequences of `n` steps, in the same memory."""
            now = _of_length(program, n)
            one = code.bound("run", *weights, *codes, *own, length=n)
            other = code.bound("run_f32", *weights, *reals, *own, length=n)
            return _bound(now, plan, codes, one, None, None), _bound(now, plan, reals, other, float32, None)

        self._longest = longest
        self._at_length = cache(at_length)
        self._whole = (
            _bound(program, plan, codes, run, None, reset),
            _bound(program, plan, reals, run_reals, float32, reset),
        )

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array of codes per output."""
        n = _samples(self.program, inputs)
        return _each_sample(self._for(inputs)[0], n, inputs)

    def run_reals(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same from float32 to float32, quantized by the library."""
        return _each_sample(self._for(inputs)[1], len(inputs[0]), inputs)

    def step(self, states: States, *inputs: np.ndarray) -> tuple[tuple[np.ndarray, ...], States]:
        """One call of one sample that goes on from `states`."""
        _samples(self.program, inputs)
        for name, view in self._states.items():
            view[...] = states[name]
        codes, _ = self._whole
        for view, x in zip(codes.inputs, inputs, strict=True):
            view[...] = x
        codes.run()
        left = {name: view.copy() for name, view in self._states.items()}
        return tuple(y.copy() for y in codes.outputs), left

    def bind(self, *, reals: bool = False, length: int | None = None) -> "Bound":
        """The engine's own memory for one sample, to be filled and read in place: the way with the least overhead.

        Args:
            reals: whether the arrays hold float32, or codes.
            length: of the sequence where the program takes any; the longest when None.

        Raises:
            InvalidInput: no such length.
        """
        if length is not None:
            check_length(self.program, length)
        codes, real = self._whole if self._longest is None else self._at_length(length or self._longest)
        return real if reals else codes

    def _for(self, inputs: tuple[np.ndarray, ...]) -> tuple["Bound", "Bound"]:
        """Memory and calls, of codes and of reals, for inputs of their length."""
        n = length_of(self.program, inputs)
        return self._whole if n is None else self._at_length(n)


@dataclass(frozen=True, eq=False)
class Bound:
    """One sample at a time without copies: fill `inputs`, call `run`, read `outputs`. The arrays stay the same.

    Attributes:
        inputs: one array (1, ...) per input, of codes or of float32.
        outputs: one array (1, ...) per output, likewise; the next call overwrites them.
        run: computes outputs from inputs; where the model has states, it goes on from the call before.
        reset: begins a sequence of calls; None where the model has no states.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    run: Callable[[], None]
    reset: Callable[[], None] | None = None


def length_of(program: Graph, inputs: Sequence[np.ndarray]) -> int | None:
    """The steps of sequences that have been checked; None where a program's lengths are fixed."""
    for name, x in zip(program.inputs, inputs, strict=True):
        for extent, n in zip(program.types[name].shape, x.shape, strict=True):
            if is_length(extent):
                return int(n)
    return None


def check_length(program: Graph, length: int) -> None:
    """Raise InvalidInput unless a program takes sequences of `length` steps."""
    longest = length_bound(program)
    if longest is None:
        raise InvalidInput(f"{program.name} takes inputs of one shape, and no length")
    whole = isinstance(length, int | np.integer) and not isinstance(length, bool)
    if not whole or not 1 <= length <= longest:
        raise InvalidInput(f"{program.name} takes sequences of 1 to {longest} steps, not {length!r}")


def check_one_length(program: Graph, inputs: Sequence[np.ndarray]) -> None:
    """Raise InvalidInput where inputs that fit one by one have different lengths."""
    types = [program.types[name] for name in program.inputs]
    pairs = [pair for type_, x in zip(types, inputs, strict=True) for pair in zip(type_.shape, x.shape, strict=True)]
    found = {n for extent, n in pairs if is_length(extent)}
    if len(found) > 1:
        raise InvalidInput(f"inputs of {program.name} have different lengths: {sorted(found)}")


def shape_words(type_: Type) -> str:
    """The shape of one sample: `1 to 128, 384`."""
    return ", ".join(f"1 to {bound(n)}" if is_length(n) else str(bound(n)) for n in type_.shape[1:])


def _of_length(program: Graph, n: int) -> Graph:
    """The program for sequences of at most `n` steps, for its types."""
    short = program.copy()
    short.types = {name: type_.at_length(n) for name, type_ in program.types.items()}
    return short


def _in_turn(*calls: Callable[[], None]) -> None:
    for call in calls:
        call()


def _bound(
    program: Graph,
    plan: Plan,
    blocks: tuple[np.ndarray, np.ndarray],
    run: Callable[[], None],
    dtype: np.dtype[Any] | None,
    reset: Callable[[], None] | None,
) -> Bound:
    """Views of the inputs and outputs in their blocks; of `dtype`, or as the program has them."""
    inputs = tuple(_view(blocks[0], program, plan, name, dtype) for name in program.inputs)
    return Bound(inputs, tuple(_view(blocks[1], program, plan, name, dtype) for name in program.outputs), run, reset)


def _view(block: np.ndarray, program: Graph, plan: Plan, name: str, dtype: np.dtype[Any] | None) -> np.ndarray:
    """Where the codes of a value lie, or as many elements of another type from the same place on."""
    place, type_ = plan.places[name], program.types[name]
    if dtype is not None and type_.dtype is DType.S32:  # ids begin where the floats of their input would
        at = dtype.itemsize * place.offset
        return block[at : at + type_.nbytes].view(type_.dtype.numpy).reshape(type_.bounds)
    offset = place.offset if place.base in ("in", "out", "state") else 0
    chosen = dtype or np.dtype(type_.dtype.numpy)
    size = chosen.itemsize // type_.dtype.itemsize
    return block[size * offset : size * (offset + type_.nbytes)].view(chosen).reshape(type_.bounds)


def _each_sample(bound: Bound, n: int, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    outputs = tuple(np.empty((n, *y.shape[1:]), y.dtype) for y in bound.outputs)
    for i in range(n):
        if bound.reset is not None:
            bound.reset()
        for view, x in zip(bound.inputs, inputs, strict=True):
            view[0] = x[i]
        bound.run()
        for view, y in zip(bound.outputs, outputs, strict=True):
            y[i] = view[0]
    return outputs


def to_codes(program: Graph, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Codes of real inputs that have been checked; ids are their own."""
    quants = [_quant(program, name) if name in program.real_inputs else None for name in program.inputs]
    return tuple(x if q is None else quantize(x, q.scale, q.zero_point) for x, q in zip(inputs, quants, strict=True))


def to_reals(program: Graph, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Reals of output codes."""
    quants = [_quant(program, name) for name in program.outputs]
    return tuple(dequantize(y, q.scale, q.zero_point) for y, q in zip(outputs, quants, strict=True))


def _quant(program: Graph, name: str) -> Quant:
    quant = program.types[name].quant
    assert quant is not None  # checked when the tray was read
    return quant


def _choose_isa(code: NativeLibrary, target: Target) -> str:
    """Let the library use what PENJING_ISA asks for; returns how to name the choice, '' where there is none.

    Raises:
        InvalidInput: the library has no such instruction set, or this processor lacks it.
    """
    if not target.isas:
        return ""
    numbers = {isa: number for number, isa in enumerate(reversed(target.isas))}
    wanted = knobs.ISA.text()
    if wanted:
        if wanted not in numbers:
            raise InvalidInput(
                f"{knobs.ISA.name}={wanted}: there is no such instruction set for {target.name}",
                hint=f"choose one of {', '.join(target.isas)}, or unset {knobs.ISA.name}",
            )
        if code.call("use", numbers[wanted]) != 0:
            raise InvalidInput(
                f"{knobs.ISA.name}={wanted}: this processor lacks it", hint=f"unset {knobs.ISA.name} to use the best"
            )
    chosen = code.call("isa")
    return next(f" ({isa})" for isa, number in numbers.items() if number == chosen)


def _samples(program: Graph, inputs: tuple[np.ndarray, ...]) -> int:
    """The number of samples, after every input has been checked against the program."""
    if len(inputs) != len(program.inputs):
        raise InvalidInput(f"{len(inputs)} inputs were given, {program.name} takes {len(program.inputs)}")
    rows = id_rows(program)
    for name, x in zip(program.inputs, inputs, strict=True):
        type_ = program.types[name]
        if x.dtype != type_.dtype.numpy:
            raise InvalidInput(f"input {name} must hold {type_.dtype} codes, not {x.dtype}")
        if not type_.matches((1, *x.shape[1:])) or x.ndim != type_.rank:
            raise InvalidInput(f"input {name} has shape {x.shape}, expected (n, {shape_words(type_)})")
        if name in rows:
            check_ids(x, rows[name], name)
    check_one_length(program, inputs)
    counts = {len(x) for x in inputs}
    if len(counts) != 1 or 0 in counts:
        raise InvalidInput(f"inputs must hold the same number of samples, at least one, not {sorted(counts)}")
    return counts.pop()
