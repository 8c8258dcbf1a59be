"""One integer operator, compiled, against its definition: every sample, on any target, to the last byte.

A generated C program holds the kernels and one constant struct per sample. It reads the inputs of all samples from
standard input and writes what the kernels computed. Every array lies in a block of exactly its size, so that a
sanitizer sees each access beside it. Each sample runs in up to five ways:

    exact       blocks as malloc returns them, outputs filled with 0xA5
    unaligned   activations one element off, as the caller of a model may place codes; outputs filled with 0x5A
    in place    the output over the first input, for operators that allow it
    2 parts     one part after the other, as threads share the work, for operators that split; each byte of the outputs
    3 parts     must be written by exactly one of them
    in pieces   the output's pixels apart, for operators that can write so: just apart, or so that 8, 16 or 32 bytes
                make a step

Inputs must come out unchanged, except in place, and what lies between pieces too.

    python -m penjing.testing.op_suite q_add --target aarch64-linux --sample 3
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from penjing.core.errors import ToolchainError
from penjing.emit.c.kernels import CLOSING, kernel_file, kernel_text, opening_files
from penjing.emit.c.steps import struct_literal
from penjing.ir.text import print_type
from penjing.ir.types import Type
from penjing.ops import integer_operators
from penjing.ops.operator import IntegerOperator, Pieces, Sample
from penjing.testing.differences import describe_difference
from penjing.testing.isas import run_on_isa, runnable_isas
from penjing.testing.op_suite_main import OPERATORS_MAIN
from penjing.testing.sanitizer_report import SANITIZER_REPORT
from penjing.toolchain import Compiler, Target, compile_executable, find_target
from penjing.vector import vector_operators

SANITIZE = ("-fsanitize=address,undefined,float-divide-by-zero,float-cast-overflow", "-fno-sanitize-recover=all")


_MODES = ("exact", "unaligned", "in place", "2 parts", "3 parts")  # by their numbers in the C program
_STEPS = (8, 16, 32)  # of pieces: at which some kernel may take another way
_FAULTS = {1: "an input was changed", 2: "two parts wrote one byte", 4: "a byte between pieces was written"}
_CRASHES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class OpCase:
    """One sample of an integer operator with the types of its outputs and what its definition makes of the inputs."""

    name: str
    index: int
    sample: Sample
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[Type, ...]
    expected: tuple[np.ndarray, ...]

    @property
    def op(self) -> IntegerOperator:
        """The operator with its attributes."""
        assert isinstance(self.sample.op, IntegerOperator)
        return self.sample.op

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways in which the sample runs."""
        parts = _MODES[:2] + _MODES[2:3] * self.op.in_place + _MODES[3:] * self.op.splits
        return parts + tuple(f"in pieces, {pieces.step} bytes apart" for pieces in self.pieces)

    @property
    def pieces(self) -> tuple[Pieces, ...]:
        """How the output lies, each time that the sample runs with an output in pieces."""
        types, nbytes = (self.sample.types, self.outputs), self.outputs[0].bounds[-1]
        if len(self.outputs) != 1 or not self.op.writes_pieces(*types, nbytes):
            return ()
        steps = [nbytes + 3, *(step for step in _STEPS if step > nbytes)]
        return tuple(Pieces(nbytes, step) for step in steps)

    def __str__(self) -> str:
        types = ", ".join(print_type(t) for t in self.sample.types)
        return f"{self.name} sample {self.index}: {self.op} on {types}"


def runnable_operators() -> dict[str, type[IntegerOperator]]:
    """Every operator that has a kernel: those of programs, and those that take their place where there is SIMD."""
    return {**integer_operators(), **vector_operators()}


@lru_cache(maxsize=256)
def op_cases(name: str) -> tuple[OpCase, ...]:
    """Every sample of the integer operator `name`, with its expected outputs."""
    return tuple(op_case(name, i, sample) for i, sample in enumerate(runnable_operators()[name].samples()))


def op_case(name: str, index: int, sample: Sample) -> OpCase:
    """One sample of an operator with its expected outputs."""
    op = sample.op
    assert isinstance(op, IntegerOperator)
    inputs = tuple(np.ascontiguousarray(x) for x in sample.inputs if x is not None)
    outputs = op.infer(*sample.types)
    expected = op.integer_reference(*inputs)
    for type_, array in zip(outputs, expected, strict=True):
        if (type_.bounds, type_.dtype.numpy) != (array.shape, array.dtype):
            raise AssertionError(f"{name} sample {index}: {op} infers {type_} and computes {array.dtype}{array.shape}")
    return OpCase(name, index, sample, inputs, outputs, expected)


def op_suite_source(
    cases: Sequence[OpCase], kernels: Callable[[str], str] = kernel_text, isa: str | None = None
) -> str:
    """The C program for `cases`; `kernels` gives the text of `pj.h` and of each operator's file.

    With `isa`, operators that have a SIMD kernel use it, over the vocabulary of that instruction set.
    """
    names = sorted({case.name for case in cases})
    most = max(len(case.inputs) + len(case.outputs) for case in cases)
    chosen = [*opening_files(isa=isa), *(kernel_file(name, simd=isa is not None) for name in names)]
    texts = [*map(kernels, chosen), CLOSING]
    tables = "\n".join(["", f"enum {{ SUITE_MAX = {most} }};", *map(_adapter, names), *_table(cases)])
    return "\n".join([*texts, OPERATORS_MAIN.replace("@SANITIZER@", SANITIZER_REPORT).replace("@TABLES@", tables)])


def _adapter(name: str) -> str:
    whole = f"pj_{name}(params, in, out, scratch)"
    some = f"pj_{name}_part(params, in, out, scratch, part)"
    body = f"part.count == 1 ? {whole} : {some}" if runnable_operators()[name].splits else f"(void)part, {whole}"
    return f"""
static void suite_{name}(const void *params, const void *const *in, void *const *out, void *scratch,
                         struct pj_part part)
{{
    {body};
}}"""


def _table(cases: Sequence[OpCase]) -> Iterator[str]:
    rows = []
    for i, case in enumerate(cases):
        types = case.sample.types
        activations = [t.dtype.itemsize * (k not in case.sample.constant) for k, t in enumerate(types)]
        activations += [t.dtype.itemsize for t in case.outputs]
        scratch = case.op.scratch_bytes(types, case.outputs)
        params = struct_literal(case.op.kernel_params(types, case.outputs))
        yield f"static const struct pj_{case.name} suite_params_{i} = {params};"
        yield _sizes(f"suite_bytes_{i}", [t.nbytes for t in (*types, *case.outputs)])
        yield _sizes(f"suite_activation_{i}", activations)
        modes = sum(1 << number for number, mode in enumerate(_MODES) if mode in case.modes)
        counts = f"{len(types)}, {len(case.outputs)}, {modes}, {len(case.pieces)}, {scratch}"
        arrays = f"suite_pieces_{i}, suite_bytes_{i}, suite_activation_{i}"
        rows.append(f"{{suite_{case.name}, &suite_params_{i}, {counts}, {arrays}}}")
        yield from _pieces(i, case)
    yield "static const struct suite_case suite_cases[] = {\n    " + ",\n    ".join(rows) + "\n};"


def _pieces(i: int, case: OpCase) -> Iterator[str]:
    every = range(len(case.sample.types))
    rows = []
    for k, pieces in enumerate(case.pieces):
        params = struct_literal(case.op.placed_params(case.sample.types, case.outputs, pieces, every))
        yield f"static const struct pj_{case.name} suite_params_{i}_{k} = {params};"
        rows.append(f"{{&suite_params_{i}_{k}, {pieces.nbytes}, {pieces.step}}}")
    yield f"static const struct suite_pieces suite_pieces_{i}[] = {{{', '.join(rows) or '{0, 0, 0}'}}};"


def _sizes(name: str, values: Sequence[int]) -> str:
    return f"static const size_t {name}[] = {{{', '.join(map(str, values))}}};"


def run_op_suite(
    name: str,
    target: Target,
    extra_flags: Sequence[str] = (),
    *,
    optimize: str = "-O3",
    kernels: Callable[[str], str] = kernel_text,
    isa: str | None = None,
    compiler: Compiler | None = None,
) -> list[str]:
    """Mismatches of the integer operator `name` on `target`, described; empty when every byte agrees.

    Raises:
        CompileError: the compiler refuses the kernel.
        ToolchainError: nothing here can build for `target` or run its programs.
    """
    return run_op_cases(
        op_cases(name), target, extra_flags, optimize=optimize, kernels=kernels, isa=isa, compiler=compiler
    )


def run_op_cases(
    cases: Sequence[OpCase],
    target: Target,
    extra_flags: Sequence[str] = (),
    *,
    optimize: str = "-O3",
    kernels: Callable[[str], str] = kernel_text,
    isa: str | None = None,
    compiler: Compiler | None = None,
    timeout_s: float = 300,
    locate_crashes: bool = True,
) -> list[str]:
    """As `run_op_suite`, for cases of any operators in one program.

    When the program does not end well, its cases run one at a time to find the guilty ones, with `locate_crashes`.
    """
    if not cases:
        return []
    source = op_suite_source(cases, kernels, isa)
    program = compile_executable(
        {"op_suite.c": source}, target, optimize=optimize, extra=extra_flags, compiler=compiler
    )
    stdin = b"".join(x.tobytes() for case in cases for x in case.inputs)
    try:
        written = run_on_isa(program, target, isa, stdin=stdin, timeout_s=timeout_s)
    except ToolchainError as error:
        located = _crashes(cases, program, target, stdin, timeout_s, isa) if locate_crashes else []
        return located or [str(error)]
    return _Compared(target, isa, written).problems(cases)


def _crashes(
    cases: Sequence[OpCase], program: bytes, target: Target, stdin: bytes, timeout_s: float, isa: str | None
) -> list[str]:
    """Which cases end the program, found by running one at a time."""
    found = []
    for i, case in enumerate(cases):
        try:
            run_on_isa(program, target, isa, stdin=stdin, args=(str(i),), timeout_s=timeout_s)
        except ToolchainError as error:
            found.append(
                "\n".join([str(case), *("  " + line for line in error.what.splitlines()), _repeat(case, target, isa)])
            )
        if len(found) == _CRASHES_SHOWN:
            break
    return found


class _Compared:
    """What the program wrote, read in the order in which it was written."""

    def __init__(self, target: Target, isa: str | None, written: bytes) -> None:
        self._target = target
        self._isa = isa
        self._written = written
        self._at = 0

    def problems(self, cases: Sequence[OpCase]) -> list[str]:
        found = [problem for case in cases for problem in self._of_case(case)]
        if self._at != len(self._written):
            found.append(f"the program wrote {len(self._written)} bytes, {self._at} were expected")
        return found

    def _of_case(self, case: OpCase) -> Iterator[str]:
        for mode in case.modes:
            flags = int.from_bytes(self._take(1) or b"\0")
            lines = [fault for bit, fault in _FAULTS.items() if flags & bit]
            for k, want in enumerate(case.expected):
                got = np.frombuffer(self._take(want.nbytes).ljust(want.nbytes, b"\0"), want.dtype).reshape(want.shape)
                difference = describe_difference(got, want)
                lines += [f"output {k} {difference}"] if difference else []
            if lines:
                text = "\n".join(f"  {mode}: {line}" for line in lines)
                yield f"{case}\n{text}\n{_repeat(case, self._target, self._isa)}"

    def _take(self, n: int) -> bytes:
        part = self._written[self._at : self._at + n]
        self._at += n
        return part


def _repeat(case: OpCase, target: Target, isa: str | None) -> str:
    command = f"python -m penjing.testing.op_suite {case.name} --target {target.name} --sample {case.index}"
    command += f" --isa {isa}" if isa else ""
    return f"  repeat: {command}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when every byte agrees."""
    parser = argparse.ArgumentParser(
        prog="python -m penjing.testing.op_suite", description="One integer operator, compiled, against its definition."
    )
    parser.add_argument("name", choices=sorted(runnable_operators()))
    parser.add_argument("--target", default="host")
    parser.add_argument("--isa", help="use the SIMD kernels, over this instruction set's vocabulary")
    parser.add_argument("--sample", type=int, help="number of the only sample to run")
    parser.add_argument("--optimize", default="-O3")
    parser.add_argument("--sanitize", action="store_true", help="with the compiler's address and undefined sanitizers")
    chosen = parser.parse_args(arguments)
    target = find_target(chosen.target)
    if chosen.isa is not None and chosen.isa not in runnable_isas(target):
        parser.error(f"{chosen.isa} cannot be run here; these can: {', '.join(runnable_isas(target)) or 'none'}")
    cases = [case for case in op_cases(chosen.name) if chosen.sample in (None, case.index)]
    flags = SANITIZE if chosen.sanitize else ()
    problems = run_op_cases(cases, target, flags, optimize=chosen.optimize, isa=chosen.isa)
    sys.stdout.write("\n".join([*problems, f"{len(cases)} samples, {len(problems)} problems", ""]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
