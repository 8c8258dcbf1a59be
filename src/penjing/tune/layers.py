"""The convolution kernel alone, compiled for this machine, so that cuts of a layer can be timed side by side."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from penjing.core import knobs
from penjing.core.errors import InvalidInput
from penjing.core.targets import Target
from penjing.emit.c.kernels import CLOSING, SIMD_HEADERS, kernel_file, kernel_text
from penjing.ir.graph import Graph, Node
from penjing.ops.operator import Param
from penjing.program.symbols import c_stem
from penjing.program.weights import aligned_buffer
from penjing.runtime.native import NativeLibrary
from penjing.toolchain.build import compile_library
from penjing.vector.conv2d import VConv2d
from penjing.vector.tiles import Tile, with_tile

_NAME = "tune"
_ROUND_US = 150.0
_MOST_REPEATS = 10_000
_AHEAD_BYTES = 4096  # kernels ask early for weights that lie ahead
_MEMORY = "const void *p, const void *const *in, void *const *out, void *scratch"


def kernel_sources(target: Target) -> dict[str, str]:
    """The C of a library that calls the kernel of one layer again and again, in any form that this machine has."""
    parts = [kernel_text(name) for name in (*SIMD_HEADERS, kernel_file(VConv2d.name, simd=True))]
    forms = {f"{isa}.c": "\n".join(_form_lines(isa, parts)) for isa in target.isas}
    return {**forms, "tune.c": "\n".join(_choice_lines(target.isas))}


def _form_lines(isa: str, parts: Sequence[str]) -> Iterator[str]:
    yield from (kernel_text("pj.h"), kernel_text(f"isa/{isa}.h"), *parts)
    yield f"void tune_{isa}({_MEMORY}, int32_t repeats);"
    yield f"void tune_{isa}({_MEMORY}, int32_t repeats)"
    yield "{"
    yield "    for (; repeats > 0; repeats--)"
    yield f"        pj_{VConv2d.name}(p, in, out, scratch);"
    yield "}"
    yield f"int tune_vectors_{isa}(void);"
    yield f"int tune_vectors_{isa}(void) {{ return PJ_VECTORS; }}"
    yield CLOSING + "\n"


def _choice_lines(isas: Sequence[str]) -> Iterator[str]:
    """`best`, `vectors` and `run`; forms are counted from the last, `how` is the number of repeats and of the form."""
    yield "#include <stdint.h>"
    yield kernel_text("isa/x86_detect.h")
    for isa in isas:
        yield f"void tune_{isa}({_MEMORY}, int32_t repeats);"
        yield f"int tune_vectors_{isa}(void);"
    forms = list(enumerate(reversed(isas)))
    yield from _exported("best(void)", ["return pj_detect();"])
    yield from _exported("vectors(int form)", [f"if (form == {n}) return tune_vectors_{isa}();" for n, isa in forms])
    runs = [f"if (how[1] == {n}) tune_{isa}(p, in, out, scratch, *how);" for n, isa in forms]
    yield from _exported(f"run({_MEMORY}, const int32_t *how)", runs)


def _exported(signature: str, body: Sequence[str]) -> Iterator[str]:
    function = f"int {c_stem(_NAME)}_{signature}"
    yield f'__attribute__((visibility("default"))) {function};'
    yield f"{function}\n{{"
    yield from (f"    {line}" for line in body)
    if not body[-1].startswith("return"):
        yield "    return 0;"
    yield "}\n"


class LayerTimer:
    """Times cuts of layers on this machine, with its best instruction set or the one that PENJING_ISA names.

    Attributes:
        vectors: most in a tile. Where it is 1, registers are few, and all sizes of tiles are the same small one.
    """

    vectors: int

    def __init__(self, target: Target) -> None:
        """Compile the kernel.

        Raises:
            ToolchainError: there is no compiler, or it refuses.
            BundleError: this machine refuses the library.
            InvalidInput: PENJING_ISA names what there is not.
        """
        data = compile_library(kernel_sources(target), target, optimize=target.optimize)
        self._library = NativeLibrary(data, _NAME)
        self._form = _form_number(target, self._library.call("best"))
        self.vectors = self._library.call("vectors", self._form)

    def best_us(self, program: Graph, node: Node, tiles: Sequence[Tile], rounds: int) -> list[float]:
        """Time of one call for each cut: the least over `rounds` short rounds, in which the cuts take turns."""
        assert isinstance(node.op, VConv2d)
        types = program.input_types(node), program.output_types(node)
        memory = _Memory(program, node)
        how = np.array([1, self._form], np.int32)
        runs = [
            self._library.bound("run", _packed(with_tile(node.op, tile).kernel_params(*types)), *memory.arrays, how)
            for tile in tiles
        ]
        for run in runs:
            run()
        how[0] = max(1, min(_MOST_REPEATS, int(_ROUND_US / max(_us(runs[0]), 0.1))))
        best = [float("inf")] * len(runs)
        for first in range(rounds):
            for turn in range(len(runs)):
                i = (first + turn) % len(runs)
                best[i] = min(best[i], _us(runs[i]) / int(how[0]))
        return best


def wanted_isa(target: Target) -> str:
    """What PENJING_ISA asks for, '' for the best.

    Raises:
        InvalidInput: the target has no such instruction set.
    """
    wanted = knobs.ISA.text()
    if wanted and wanted not in target.isas:
        raise InvalidInput(
            f"{knobs.ISA.name}={wanted}: there is no such instruction set for {target.name}",
            hint=f"choose one of {', '.join(target.isas)}, or unset {knobs.ISA.name}",
        )
    return wanted


def _form_number(target: Target, best: int) -> int:
    wanted = wanted_isa(target)
    number = target.isas[::-1].index(wanted) if wanted else best
    if number > best:
        raise InvalidInput(
            f"{knobs.ISA.name}={wanted}: this processor lacks it", hint=f"unset {knobs.ISA.name} to use the best"
        )
    return number


class _Memory:
    """Inputs, output and scratch of one layer. Codes are random, weights are its own; `arrays` are what `run` takes."""

    def __init__(self, program: Graph, node: Node) -> None:
        assert isinstance(node.op, VConv2d)
        rng = np.random.default_rng(0)
        inputs = []
        for name in node.inputs:
            nbytes = program.types[name].nbytes
            block = aligned_buffer(nbytes + _AHEAD_BYTES)
            if name in program.constants:
                block[:nbytes] = np.ascontiguousarray(program.constants[name].array).reshape(-1).view(np.uint8)
            else:
                block[:nbytes] = rng.integers(0, 256, nbytes, np.uint8)
            inputs.append(block)
        types = program.input_types(node), program.output_types(node)
        out = aligned_buffer(types[1][0].nbytes)
        self._kept = [*inputs, out]
        self.arrays = _addresses(inputs), _addresses([out]), aligned_buffer(node.op.scratch_bytes(*types))


def _addresses(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([array.ctypes.data for array in arrays], np.uintp)


def _packed(params: Mapping[str, Param]) -> np.ndarray:
    """A kernel's struct, all of whose fields have 32 bits."""
    parts = [np.float32(value) if isinstance(value, float) else np.array(value, np.int32) for value in params.values()]
    return np.concatenate([np.atleast_1d(part).view(np.int32) for part in parts])


def _us(call: Callable[[], None]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1000
