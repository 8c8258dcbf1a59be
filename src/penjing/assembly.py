"""From an integer program to the parts of a tray: C, compiled libraries, golden vectors, and what the manifest says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from penjing.bundle.coding.generated import generated
from penjing.bundle.golden import Golden
from penjing.bundle.pack import LibraryParts, TrayParts, VariantParts
from penjing.bundle.schema import InputSpec, OutputSpec
from penjing.core.errors import InvalidInput
from penjing.core.port import Port
from penjing.core.targets import find_target
from penjing.emit.c.emit import Emitted, check_threads, emit_c
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_axes, length_bound
from penjing.ir.text import print_graph
from penjing.ir.types import Type
from penjing.ops.embedding import id_rows
from penjing.program.cost import total_macs
from penjing.program.interpret import interpret_samples
from penjing.program.plan import plan
from penjing.program.states import most_calls
from penjing.program.symbols import ABI
from penjing.recipe.record import Record, dump_record
from penjing.runtime.engines import length_of
from penjing.toolchain.build import compile_library
from penjing.toolchain.compilers import find_compiler
from penjing.toolchain.embed import assembly_for_blob
from penjing.vector.prepare import Prepared, prepare
from penjing.vector.tiles import Tiles


@dataclass(frozen=True)
class BuildOptions:
    """What goes into a tray besides the program.

    Attributes:
        targets: names from `penjing build --help`; 'host' is this machine. Empty: no library, the interpreter runs it.
        standalone: link the weights into each library instead of handing them to each call.
        ports: one per input; none means that inputs are taken as they are.
        labels: names of the entries of the first output.
        card: the model card, text to text.
        golden_inputs: real inputs (N, ...) whose codes become golden vectors, beside random codes.
        with_source: keep the generated C in the tray.
        threads: how many threads may work on one call, on targets that have SIMD kernels.
        tiles: by the name of a target, convolutions to be cut in another way than by the rule; see `autotune`.
        record: what a recipe did to the network, for the member `record.json`.
    """

    targets: Sequence[str] = ("host",)
    standalone: bool = False
    ports: Sequence[Port] = ()
    labels: Sequence[str] | None = None
    card: Mapping[str, str] = field(default_factory=dict)
    golden_inputs: Sequence[np.ndarray] = ()
    with_source: bool = True
    threads: int = 1
    tiles: Mapping[str, Tiles] = field(default_factory=dict)
    record: Record | None = None


def assemble(
    program: Graph,
    options: BuildOptions | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> TrayParts:
    """Everything that a tray holds, ready to be packed.

    Args:
        program: from `lower`.
        options: see `BuildOptions`.
        progress: called with one line before each step.

    Raises:
        InvalidInput: an unknown target, ports or tiles that do not fit the program, or several threads for sequences of
            any length.
        InvalidGraph: a kernel cannot run on sequences of any length.
        MissingCompiler: no compiler for a target.
    """
    options = options or BuildOptions()
    say = progress or (lambda _: None)
    targets = [find_target(name) for name in options.targets]
    check_threads(program, options.threads)
    memory = plan(program)
    libraries: dict[str, dict[str, LibraryParts]] = {}
    sources: dict[str, bytes] = {}
    for target in targets:
        say(f"compiling for {target.name}")
        tiles = options.tiles.get(target.name, {})
        prepared = prepare(program, target, options.threads if target.isas else 1, tiles)
        emitted = emit(prepared, standalone=options.standalone)
        libraries[target.name] = {"default": _library(emitted, prepared, options.standalone, tiles)}
        sources |= {f"{target.name}/{name}": text.encode() for name, text in emitted.sources.items()}
    say("computing golden vectors")
    variant = VariantParts(
        program=print_graph(program),
        weights={name: constant.array for name, constant in program.constants.items()},
        golden=_golden(program, options.golden_inputs),
        arena_bytes=memory.arena_bytes,
        session_bytes=memory.session_bytes,
        weights_bytes=memory.weights_bytes,
        macs=total_macs(program),
        n_ops=len(program.nodes),
    )
    return TrayParts(
        name=program.name,
        card=dict(options.card),
        inputs=_input_specs(program, options.ports),
        outputs=_output_specs(program, options.labels),
        variants={"default": variant},
        libraries=libraries,
        sources=sources if options.with_source else {},
        reports={} if options.record is None else {"record.json": dump_record(options.record)},
    )


def emit(prepared: Prepared, *, standalone: bool) -> Emitted:
    """The C sources of a prepared program; a library without its weights can decode those of the tray."""
    return emit_c(
        prepared.program,
        prepared.plan,
        prepared.weights.tobytes(),
        standalone=standalone,
        decoder=not standalone,
        isas=prepared.target.isas,
        threads=prepared.threads,
    )


def library_sources(emitted: Emitted, prepared: Prepared, *, standalone: bool) -> dict[str, str | bytes]:
    """Everything that the compiler needs for a library; with `standalone`, the weights come in by `.incbin`."""
    sources: dict[str, str | bytes] = dict(emitted.sources)
    if standalone:
        blob = f"{emitted.stem}_weights.bin"
        sources[blob] = prepared.weights.tobytes() or b"\0"
        sources[f"{emitted.stem}_weights.S"] = assembly_for_blob(f"{emitted.stem}_weights", blob, prepared.target)
    return sources


def _library(emitted: Emitted, prepared: Prepared, standalone: bool, tiles: Tiles) -> LibraryParts:
    target = prepared.target
    compiler = find_compiler(target)
    sources = library_sources(emitted, prepared, standalone=standalone)
    data = compile_library(sources, target, optimize=target.optimize, compiler=compiler)
    return LibraryParts(
        file_name=f"{emitted.stem}{target.library_suffix}",
        data=data,
        standalone=standalone,
        flash_bytes=len(data),
        compiler=compiler.identity,
        abi=ABI,
        arena_bytes=prepared.plan.arena_bytes,
        packed_bytes=prepared.plan.weights_bytes,
        packed_digest=prepared.digest,
        threads=prepared.threads,
        tiles=dict(tiles),
    )


def _golden(program: Graph, real_inputs: Sequence[np.ndarray]) -> Golden:
    """Codes of a few real inputs, and generated codes that reach the corners real data leaves out.

    Of sequences, the longest, those of one step, and some between.
    """
    longest = length_bound(program)
    if longest is None:
        return _golden_at(program, None, real_inputs)
    given = length_of(program, real_inputs) if real_inputs else None
    lengths = sorted({1, longest // 2, given or longest} - {longest})
    found = {n: _golden_at(program, n, real_inputs if n == given else ()) for n in lengths}
    return replace(_golden_at(program, longest, real_inputs if given == longest else ()), shorter=found)


def _golden_at(
    program: Graph, length: int | None, real_inputs: Sequence[np.ndarray], generated_samples: int = 2
) -> Golden:
    from penjing.core.arithmetic import quantize as to_codes

    columns, rows = [], id_rows(program)
    for i, name in enumerate(program.inputs):
        type_ = program.types[name] if length is None else program.types[name].at_length(length)
        if name in rows:
            some = generated((generated_samples, *type_.bounds[1:]), np.dtype("<u4")) % np.uint32(rows[name])
            given = [np.asarray(real_inputs[i], np.int32)] if real_inputs else []
            columns.append(np.concatenate([*given, some.astype(np.int32)])[: most_calls(program)])
            continue
        assert type_.quant is not None
        parts = [generated((generated_samples, *type_.bounds[1:]), np.dtype(np.uint8))]
        if real_inputs:
            parts.insert(0, to_codes(real_inputs[i], type_.quant.scale, type_.quant.zero_point))
        columns.append(np.concatenate(parts)[: most_calls(program)])
    return Golden(tuple(columns), interpret_samples(program, *columns))


def _input_specs(program: Graph, ports: Sequence[Port]) -> tuple[InputSpec, ...]:
    if ports and len(ports) != len(program.inputs):
        raise InvalidInput(f"{len(ports)} ports were described, the program has {len(program.inputs)} inputs")
    filled = ports or [Port()] * len(program.inputs)
    specs, rows = [], id_rows(program)
    for name, port in zip(program.inputs, filled, strict=True):
        type_ = program.types[name]
        is_id = name in rows
        scale, zero_point = (1.0, 0) if is_id else _codes(type_)
        specs.append(
            InputSpec(
                name=name,
                shape=type_.bounds,
                dtype="s32" if is_id else "f32",
                layout="NCHWDE"[: type_.rank] if type_.rank != 3 else "NCL",
                scale=scale,
                zero_point=zero_point,
                code_dtype=str(type_.dtype),
                mean=port.mean,
                std=port.std,
                value_range=(0.0, rows[name] - 1.0) if is_id else port.value_range,
                color=port.color,
                length_axes=length_axes(type_),
            )
        )
    return tuple(specs)


def _output_specs(program: Graph, labels: Sequence[str] | None) -> tuple[OutputSpec, ...]:
    specs = []
    for i, name in enumerate(program.outputs):
        type_ = program.types[name]
        scale, zero_point = _codes(type_)
        names = tuple(labels) if labels and i == 0 else None
        axes = length_axes(type_)
        specs.append(OutputSpec(name, type_.bounds, "f32", scale, zero_point, str(type_.dtype), names, axes))
    return tuple(specs)


def _codes(type_: Type) -> tuple[float, int]:
    if type_.quant is None:
        raise InvalidInput("a port of the program has no quantization")
    return float(type_.quant.scale), type_.quant.zero_point
