"""Generated C is plain C99: no warning at the pedantic level, from two compilers; its header serves C and C++."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from penjing.assembly import emit
from penjing.emit.c.emit import Emitted, emit_c
from penjing.emit.c.kernels import CLOSING, kernel_file, kernel_text, opening_files
from penjing.ops import integer_operators
from penjing.program.plan import plan
from penjing.program.weights import pack_weights
from penjing.testing.op_suite import runnable_operators
from penjing.toolchain import TARGETS, Target, find_target, host_target
from penjing.vector.prepare import prepare

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
C99 = ("-std=c99", *STRICT, "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla", "-Wcast-qual")
PLAIN = find_target("wasm32")
CHOOSING = [target for target in TARGETS if target.isas and set(target.machines) & set(host_target().machines)]
LANGUAGES = {
    "c99": ("-x", "c", "-std=c99", *STRICT),
    "c11": ("-x", "c", "-std=c11", *STRICT),
    "c++98": ("-x", "c++", "-std=c++98", *STRICT, "-Wno-c++11-long-long"),
    "c++11": ("-x", "c++", "-std=c++11", *STRICT),
    "c++17": ("-x", "c++", "-std=c++17", *STRICT),
}


@pytest.fixture(params=["edge_program", "every_operator_program"])
def program(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["gcc", "zig"])
def command(request, require, zig) -> tuple[str, ...]:
    """The words that start a compiler."""
    return (str(require("gcc")),) if request.param == "gcc" else zig.command


@pytest.fixture
def command_for(command, zig) -> Callable[[Target], tuple[str, ...]]:
    """The words that start it for the baseline CPU of a target: what goes beyond must ask for it itself."""

    def words(target: Target) -> tuple[str, ...]:
        if command == zig.command:
            return (*command, "-target", target.triple, *target.zig_cflags)
        return (*command, *target.cflags)

    return words


def emitted_into(folder: Path, program, *, standalone: bool, target: Target = PLAIN, threads: int = 1) -> Emitted:
    emitted = emit(prepare(program, target, threads), standalone=standalone)
    for name, text in emitted.sources.items():
        (folder / name).write_text(text)
    return emitted


def complaints(command: tuple[str, ...], folder: Path, name: str) -> str:
    found = subprocess.run(
        [*command, "-I.", "-c", name, "-o", "out.o"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stderr


@pytest.mark.parametrize("standalone", [False, True])
def test_no_compiler_warns_about_generated_code(standalone, program, command, zig, tmp_path):
    optimize = "-O0" if command == zig.command else "-O2"  # gcc finds more when it follows values, clang does not
    emitted = emitted_into(tmp_path, program, standalone=standalone)
    files = [name for name in emitted.sources if name.endswith(".c")]
    assert files == [f"{emitted.stem}{part}.c" for part in (["_decode", ""] if not standalone else [""])]
    for name in files:
        assert complaints((*command, *C99, "-ffp-contract=off", optimize), tmp_path, name) == ""


@pytest.mark.parametrize("threads", [1, 2])
def test_no_compiler_warns_about_code_for_several_instruction_sets(
    threads, program, command, command_for, zig, tmp_path
):
    optimize = "-O0" if command == zig.command or threads == 2 else "-O2"
    for target in CHOOSING:
        emitted = emitted_into(tmp_path, program, standalone=threads == 1, target=target, threads=threads)
        files = [name for name in emitted.sources if name.endswith(".c")]
        assert len(files) == len(target.isas) + (1 if threads == 1 else 3)  # of two: with a pool and a decoder
        for name in files:
            assert complaints((*command_for(target), *C99, "-ffp-contract=off", optimize), tmp_path, name) == ""


def test_no_compiler_warns_about_a_program_of_one_operator(command, tmp_path):
    for name in integer_operators():
        text = "\n".join([*map(kernel_text, [*opening_files(isa=None), f"{name}.c"]), use_of(name)])
        (tmp_path / f"{name}.c").write_text(text)
        assert complaints((*command, *C99), tmp_path, f"{name}.c") == ""


def test_no_compiler_warns_about_all_operators_over_a_vocabulary(command_for, tmp_path):
    names = sorted(runnable_operators())
    for target in CHOOSING:
        for isa in target.isas:
            files = [*opening_files(isa=isa), *(kernel_file(name, simd=True) for name in names)]
            text = "\n".join([*map(kernel_text, files), *map(use_of, names), CLOSING])
            (tmp_path / f"{isa}.c").write_text(text)
            assert complaints((*command_for(target), *C99), tmp_path, f"{isa}.c") == ""


def use_of(name: str) -> str:
    arguments = "const void *const *in, void *const *out, void *scratch"
    head = f"void use_{name}(const struct pj_{name} *p, {arguments})"
    return f"{head};\n{head} {{ pj_{name}(p, in, out, scratch); }}\n"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_header_alone_is_valid(language, threads, edge_program, zig, tmp_path):
    target = host_target() if threads > 1 else PLAIN
    emitted = emitted_into(tmp_path, edge_program, standalone=False, target=target, threads=threads)
    up = emitted.stem.upper()
    (tmp_path / "user.txt").write_text(
        f'#include "{emitted.stem}.h"\n#include "{emitted.stem}.h"\n'
        f"int use(void);\nint use(void) {{ return {emitted.stem}_self_test() + {up}_ARENA_BYTES + {up}_OK; }}\n"
    )
    # zig brings both languages along; gcc's C++ is a package of its own
    assert complaints((*zig.command, *LANGUAGES[language]), tmp_path, "user.txt") == ""


def test_the_header_states_the_sizes_of_the_plan(edge_program, tmp_path):
    emitted, memory = emitted_into(tmp_path, edge_program, standalone=False), plan(edge_program)
    header = emitted.sources[f"{emitted.stem}.h"]
    for name, size in (
        ("INPUT", memory.input_bytes),
        ("OUTPUT", memory.output_bytes),
        ("ARENA", memory.arena_bytes),
        ("WEIGHTS", memory.weights_bytes),
    ):
        assert f"#define {emitted.stem.upper()}_{name}_BYTES {size}\n" in header


def test_the_same_program_gives_the_same_text(program):
    memory = plan(program)
    weights = pack_weights(program, memory).tobytes()
    assert emit_c(program, memory, weights).sources == emit_c(program, plan(program), weights).sources
    for target in TARGETS:
        first, second = (emit(prepare(program, target), standalone=False) for _ in range(2))
        assert first.sources == second.sources


@pytest.mark.parametrize("target", [PLAIN, *CHOOSING], ids=lambda target: target.name)
def test_no_generated_file_names_a_place_of_this_machine(target, program, tmp_path):
    for text in emitted_into(tmp_path, program, standalone=True, target=target).sources.values():
        assert str(Path.home()) not in text
        assert str(Path(__file__).parents[2]) not in text
