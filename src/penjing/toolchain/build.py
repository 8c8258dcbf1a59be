"""From C sources in memory to a library or an executable in memory.

The compiler works in a private folder that vanishes afterwards, on relative names and without debug information, so the
result holds no path of this machine, and two builds give the same bytes. Nothing is written elsewhere, except by
`PENJING_KEEP`, and by zig, which keeps the C libraries it has built in `PENJING_CACHE`.
"""

import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penjing.core import knobs
from penjing.core.digests import digest_bytes
from penjing.core.errors import CompileError, InvalidInput, WriteFailed
from penjing.core.files import folder_atomically
from penjing.core.targets import Target
from penjing.toolchain.compilers import Compiler, Product, find_compiler
from penjing.toolchain.environment import environment_words, note_build
from penjing.toolchain.flags import compile_flags, libraries, link_flags
from penjing.toolchain.processes import Outcome, run_all
from penjing.toolchain.source_names import check_source_name

_COMPILED = (".c", ".S")
_COMPLAINT = re.compile(r"\berror\b|\bundefined\b|cannot find|multiple definition|No space left", re.IGNORECASE)
_COMPLAINT_LINES = 5


@dataclass(frozen=True)
class _Workshop:
    """The private folder of one build: sources, objects, logs and the compiler's own temporary files."""

    root: Path

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def output(self) -> Path:
        return self.root / "objects" / "output"


def compile_library(
    sources: Mapping[str, bytes | str],
    target: Target,
    *,
    optimize: str = "-O3",
    extra: Sequence[str] = (),
    jobs: int = 1,
    compiler: Compiler | None = None,
) -> bytes:
    """Build a shared library that shows only the functions marked with default visibility.

    For `wasm32` it is a module that exports these functions, its memory, `_initialize`, and `__heap_base`, where free
    memory begins.

    Args:
        sources: file name to content. `.c` and `.S` files are compiled; all others (headers, binary files for
            `.incbin`) lie beside them. Names are relative, with `/` between folders; `#include` and `.incbin` find them
            from the top.
        target: what to build for.
        optimize: the optimisation option.
        extra: more options, for compiling and for linking, after all others.
        jobs: files compiled at the same time.
        compiler: which compiler; by default the one that `find_compiler` finds.

    Raises:
        InvalidInput: no source, or a name that is not a plain relative path.
        MissingCompiler: nothing here builds for `target`.
        CompileError: the compiler refused.
        WriteFailed: the disk is full or read-only.
    """
    return _build(sources, compiler or find_compiler(target), "library", optimize, extra, jobs)


def compile_executable(
    sources: Mapping[str, bytes | str],
    target: Target,
    *,
    optimize: str = "-O3",
    extra: Sequence[str] = (),
    jobs: int = 1,
    compiler: Compiler | None = None,
) -> bytes:
    """Build a program from sources with a `main`; arguments and errors as in `compile_library`.

    It is linked statically for every machine but this one, so that an emulator can run it on its own.
    """
    return _build(sources, compiler or find_compiler(target), "executable", optimize, extra, jobs)


def _build(
    sources: Mapping[str, bytes | str],
    compiler: Compiler,
    product: Product,
    optimize: str,
    extra: Sequence[str],
    jobs: int,
) -> bytes:
    contents = _checked(sources)
    if jobs < 1:
        raise InvalidInput(f"jobs must be at least 1, not {jobs}")
    try:
        with tempfile.TemporaryDirectory(prefix="penjing-") as folder:
            workshop = _Workshop(Path(folder).resolve())
            _lay_out(workshop, contents)
            commands = _commands(workshop, compiler, product, tuple(contents), optimize, tuple(extra))
            outcomes = run_all(commands[:-1], folder=workshop.sources, log_folder=workshop.logs, jobs=jobs)
            if all(outcome.code == 0 for outcome in outcomes):
                outcomes += run_all(commands[-1:], folder=workshop.sources, log_folder=workshop.root)
            _keep(contents, compiler.target, product, outcomes)
            if outcomes[-1].code != 0:
                raise _refusal(compiler, outcomes[-1])
            data = workshop.output.read_bytes()
    except OSError as error:
        raise WriteFailed(
            f"the build could not use its temporary folder: {error.strerror or error}",
            where="the temporary folder",
            hint="free some space there, or set TMPDIR to a folder that has it",
        ) from error
    note_build(compiler, product)
    return data


def _checked(sources: Mapping[str, bytes | str]) -> dict[str, bytes]:
    """The sources as bytes, in the order of their names."""
    for name in sources:
        check_source_name(name)
    if not any(name.endswith(_COMPILED) for name in sources):
        raise InvalidInput("there is nothing to compile", hint="pass at least one .c or .S file")
    texts = sorted(sources.items())
    return {name: text.encode() if isinstance(text, str) else bytes(text) for name, text in texts}


def _lay_out(workshop: _Workshop, contents: Mapping[str, bytes]) -> None:
    for name in ("objects", "logs", "tmp", "zig"):
        (workshop.root / name).mkdir()
    _write_sources(workshop.sources, contents)


def _write_sources(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Plain writes: the folder is private until it is complete, so there is nothing to make atomic."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _commands(
    workshop: _Workshop,
    compiler: Compiler,
    product: Product,
    names: Sequence[str],
    optimize: str,
    extra: tuple[str, ...],
) -> list[tuple[str, ...]]:
    """One command for each source, and last the one that links; their folder is that of the sources."""
    start = (*environment_words(compiler, workshop.root), *compiler.command)
    flags = compile_flags(compiler, product, optimize)
    paths = ("-I.", f"-ffile-prefix-map={workshop.sources}=.")  # for `extra` that brings debug information back
    compiled = [name for name in names if name.endswith(_COMPILED)]
    objects = [f"../objects/{number:04}.o" for number in range(len(compiled))]
    commands = [
        (*start, *flags, *paths, *extra, "-c", name, "-o", made) for name, made in zip(compiled, objects, strict=True)
    ]
    link = (
        *start,
        *link_flags(compiler, product),
        optimize,
        *extra,
        *objects,
        *libraries(compiler),
        "-o",
        "../objects/output",
    )
    return [*commands, link]


def _refusal(compiler: Compiler, outcome: Outcome) -> CompileError:
    lines = [line.strip() for line in outcome.log.splitlines() if line.strip()]
    complaints = [line for line in lines if _COMPLAINT.search(line)] or lines or [f"exit status {outcome.code}"]
    return CompileError(
        "\n".join(
            [f"{compiler.version()} refused the code for {compiler.target.name}:", *complaints[:_COMPLAINT_LINES]]
        ),
        where=shlex.join(outcome.command),
        hint=f"set {knobs.KEEP.name}=folder to keep the sources, the commands and the whole log, and report them",
    )


def _keep(contents: Mapping[str, bytes], target: Target, product: Product, outcomes: Sequence[Outcome]) -> None:
    """Leave sources, commands and log in `PENJING_KEEP`, in a folder named after target, product and contents.

    There, `cd sources && sh ../commands.sh` builds again.
    """
    top = knobs.KEEP.path()
    if top is None:
        return
    mark = digest_bytes("".join(f"{name} {digest_bytes(data)}\n" for name, data in contents.items()).encode())
    try:
        top.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"cannot make {top}: {error.strerror}", where=f"{knobs.KEEP.name}={top}") from error
    with folder_atomically(top / f"{target.name}-{product}-{mark[:12]}", force=True) as folder:
        (folder / "objects").mkdir()
        _write_sources(folder / "sources", contents)
        (folder / "commands.sh").write_text("".join(f"{shlex.join(one.command)}\n" for one in outcomes))
        (folder / "log.txt").write_text("".join(f"$ {shlex.join(one.command)}\n{one.log}" for one in outcomes))
