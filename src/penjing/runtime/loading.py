"""From a tray on disk to a model that runs.

Where the tray's library is to run, it decodes the weights too. What the interpreter runs, numpy has decoded: that road
relies on no native code.
"""

import os
import warnings
from typing import Literal

import numpy as np

from penjing.bundle.coding.tensors import PackDecoder
from penjing.bundle.schema import InputSpec, OutputSpec
from penjing.bundle.tray import Tray, open_tray
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput, PenjingError
from penjing.core.targets import host_target
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_axes
from penjing.ir.parse import parse_graph
from penjing.ir.types import DType, Type
from penjing.ops import registry
from penjing.program.plan import plan
from penjing.runtime.decoding import pack_decoder
from penjing.runtime.engines import Engine, InterpreterEngine, LibraryEngine
from penjing.runtime.model import Model
from penjing.runtime.native import NativeLibrary
from penjing.vector.prepare import prepare

EngineChoice = Literal["auto", "library", "interpreter"]


def load(
    path: str | os.PathLike[str], *, variant: str | None = None, engine: EngineChoice = "auto", threads: int = 1
) -> Model:
    """Open a tray and make one of its variants ready to run.

    All digests are checked before anything is parsed or loaded.

    Args:
        path: the `.tray` file.
        variant: which variant; the only one, or the one called 'default', when None.
        engine: 'library' for the compiled library, 'interpreter' for numpy, 'auto' for the library where the tray has
            one for this machine, else the interpreter with a RuntimeWarning.
        threads: how many work on one call, at most as many as the tray was built for. The bytes are the same.

    Raises:
        BundleError: the file cannot be trusted or read, or `engine='library'` and there is none for this machine.
        InvalidInput: no such file or variant.
    """
    if engine not in ("auto", "library", "interpreter"):
        raise InvalidInput(f"engine must be auto, library or interpreter, not {engine!r}")
    return from_tray(open_tray(path), variant=variant, engine=engine, threads=threads)


def from_tray(tray: Tray, *, variant: str | None = None, engine: EngineChoice = "auto", threads: int = 1) -> Model:
    """The same for a tray that is open already."""
    name = variant or default_variant(tray)
    code = None if engine == "interpreter" else _loaded(tray, name)
    program = read_program(tray, name, None if code is None else pack_decoder(code))
    return Model(tray, name, _engine(tray, name, program, code, engine, threads))


def default_variant(tray: Tray) -> str:
    """'default' where there is one, else the first by name."""
    names = sorted(tray.manifest.variants)
    return "default" if "default" in names else names[0]


def read_program(tray: Tray, variant: str, decode: PackDecoder | None = None) -> Graph:
    """The verified integer program of a variant, its weights decoded by `decode` instead of numpy.

    Raises:
        CorruptBundle: the program does not parse, or does not fit the manifest.
        InvalidInput: no such variant.
    """
    where = f"{tray.where}, variant {variant}"
    text, weights = tray.program(variant, decode)
    try:
        program = parse_graph(text, weights, registry())
    except PenjingError as error:
        raise CorruptBundle(f"the program is not valid: {error.what}", where=f"{where}, {error.where or ''}") from error
    if program.stage != "lowered":
        raise CorruptBundle(f"the program is in stage {program.stage}, not lowered", where=where)
    for kind, names, specs in (
        ("input", program.inputs, tray.manifest.inputs),
        ("output", program.outputs, tray.manifest.outputs),
    ):
        if len(names) != len(specs) or not all(map(_fits, specs, (program.types[name] for name in names))):
            raise CorruptBundle(f"the program's {kind}s do not fit the manifest", where=where)
    memory, stated = plan(program), tray.variant(variant)
    needed = (memory.arena_bytes, memory.session_bytes, memory.weights_bytes)
    if needed != (stated.arena_bytes, stated.session_bytes, stated.weights_bytes):
        raise CorruptBundle("the program needs other memory than the manifest says", where=where)
    return program


def _fits(spec: InputSpec | OutputSpec, type_: Type) -> bool:
    """Whether reals become codes, and codes reals, by the manifest as they do by the program."""
    if type_.dtype is DType.S32:
        stated_ids = (spec.shape, spec.length_axes, spec.dtype, spec.code_dtype)
        return stated_ids == (type_.bounds, length_axes(type_), "s32", "s32")
    if type_.quant is None or type_.quant.axis is not None:
        return False
    stated = (spec.shape, spec.length_axes, spec.code_dtype, np.float32(spec.scale), spec.zero_point)
    found = (type_.bounds, length_axes(type_), str(type_.dtype), type_.quant.scale, type_.quant.zero_point)
    return stated == found


def _loaded(tray: Tray, variant: str) -> NativeLibrary | None:
    """The library of this machine, where weights are there to be decoded. What hinders is said when it is to run."""
    try:
        target = host_target().name
        library = tray.library(target, variant)
        if library is None or tray.manifest.targets[target][variant].standalone:
            return None
        return NativeLibrary(library, tray.manifest.name)
    except PenjingError:
        return None


def _engine(
    tray: Tray, variant: str, program: Graph, code: NativeLibrary | None, choice: EngineChoice, threads: int
) -> Engine:
    if choice == "interpreter":
        return InterpreterEngine(program)
    try:
        return _library(tray, variant, program, code, threads)
    except InvalidInput:
        raise  # what the caller asked for does not exist here: another engine would hide it
    except PenjingError as error:
        if choice == "library":
            raise
        warnings.warn(f"running by the interpreter, which is slow: {error.what}", RuntimeWarning, stacklevel=4)
        return InterpreterEngine(program if code is None else read_program(tray, variant))


def _library(tray: Tray, variant: str, program: Graph, code: NativeLibrary | None, threads: int) -> LibraryEngine:
    host = host_target()
    target = host.name
    library = tray.library(target, variant)
    if library is None:
        names = ", ".join(sorted(tray.manifest.targets)) or "none"
        raise BundleError(
            f"the tray has no library for {target} (it has: {names})",
            where=tray.where,
            hint=f"build with --target {target}, or use the interpreter",
        )
    built = tray.manifest.targets[target][variant]
    if not 1 <= threads <= built.threads:
        raise InvalidInput(
            f"{threads} threads were asked for, the library was built for {built.threads}",
            where=tray.where,
            hint=f"build with --threads {threads}" if threads > 1 else "ask for one thread or more",
        )
    prepared = prepare(program, host, built.threads)
    own = (prepared.plan.arena_bytes, prepared.plan.weights_bytes, prepared.digest)
    if own != (built.arena_bytes, built.packed_bytes, built.packed_digest):
        raise BundleError(
            "the library was built by another version of penjing, which packs weights in another way",
            where=tray.where,
            hint="build the tray again, or use the interpreter",
        )
    if code is None or code.name != program.name:
        code = NativeLibrary(library, program.name)
    return LibraryEngine(prepared, code, standalone=built.standalone, threads=threads)
