"""Run an executable of any target here: natively, under qemu's user mode, or in Node's WASI."""

import errno
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from penjing.core.errors import ToolchainError, WriteFailed
from penjing.core.targets import Target
from penjing.toolchain.compilers import is_host
from penjing.toolchain.processes import process_group

_TAIL_LINES = 8

# Arguments: the module's file, then the program's own.
_WASI_RUNNER = """
const { WASI } = require('node:wasi');
const { readFileSync } = require('node:fs');
const [file, ...rest] = process.argv.slice(1);
const wasi = new WASI({ version: 'preview1', args: ['program', ...rest], returnOnExit: true });
const module_ = new WebAssembly.Module(readFileSync(file));
process.exitCode = wasi.start(new WebAssembly.Instance(module_, wasi.getImportObject()));
"""


def has_emulator(target: Target, *, emulated: bool = False) -> bool:
    """Whether `run_executable` can run executables of `target` on this machine."""
    return (is_host(target) and not emulated) or _emulator(target) is not None


def run_executable(
    data: bytes,
    target: Target,
    *,
    stdin: bytes = b"",
    args: Sequence[str] = (),
    timeout_s: float = 120,
    emulated: bool = False,
) -> bytes:
    """Run the executable `data`, built for `target`, and return what it wrote to its standard output.

    With `emulated`, an emulator runs it even where this machine could: it may know instructions that this one lacks.

    Raises:
        ToolchainError: nothing here can run it, it ended with another status than 0, or it took longer than
            `timeout_s`.
        WriteFailed: the temporary folder cannot hold it.
    """
    runner = _runner(target, emulated)
    try:
        with tempfile.TemporaryDirectory(prefix="penjing-") as name:
            folder = Path(name).resolve()
            program = folder / "program"
            program.write_bytes(data)
            program.chmod(0o700)
            (folder / "stdin").write_bytes(stdin)
            code = _run((*runner, str(program), *args), folder, target, timeout_s)
            if code != 0:
                raise _failure(target, code, (folder / "stderr").read_bytes())
            return (folder / "stdout").read_bytes()
    except PermissionError as error:
        raise ToolchainError(
            f"the program cannot be started: {error.strerror}",
            where="the temporary folder",
            hint="set TMPDIR to a folder that may hold programs (not mounted noexec)",
        ) from error
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise ToolchainError("this is no program for this machine", where=f"target {target.name}") from error
        raise WriteFailed(
            f"the program could not be run from its temporary folder: {error.strerror or error}",
            where="the temporary folder",
            hint="free some space there, or set TMPDIR to a folder that has it",
        ) from error


def _run(command: Sequence[str], folder: Path, target: Target, timeout_s: float) -> int:
    """The exit status. Files, not pipes: no end waits for the other, and WASI reads and writes them whole."""
    with (
        (folder / "stdin").open("rb") as stdin,
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
        process_group(command, folder=folder, stdin=stdin, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ToolchainError(
                f"the program for {target.name} did not end within {timeout_s:g} s",
                where=command[0],
                hint="emulation is slow: allow more time or give it less work",
            ) from None


def _runner(target: Target, emulated: bool) -> tuple[str, ...]:
    """The words before the program's own."""
    if is_host(target) and not emulated:
        return ()
    emulator = _emulator(target)
    if emulator is None:
        raise _cannot_run(target)
    return (emulator, "--no-warnings", "-e", _WASI_RUNNER, "--") if target.kind == "wasm" else (emulator,)


def _emulator(target: Target) -> str | None:
    found = (shutil.which(name) for name in target.emulator)
    return next((path for path in found if path is not None), None)


def _cannot_run(target: Target) -> ToolchainError:
    if not target.emulator:
        return ToolchainError(
            f"programs for {target.name} run on such a machine only",
            where=f"target {target.name}",
            hint="build it here and run it there",
        )
    return ToolchainError(
        f"nothing here can run programs for {target.name}",
        where=f"target {target.name}; looked for {', '.join(target.emulator)} on PATH",
        hint=f"install {target.emulator_package}, for example by apt install {target.emulator_package.split()[0]}",
    )


def _failure(target: Target, code: int, stderr: bytes) -> ToolchainError:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    tail = stderr.decode("utf-8", errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return ToolchainError("\n".join([f"the program for {target.name} {how}", *tail]), where=f"target {target.name}")
