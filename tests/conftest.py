"""What every test may use: data, outside programs, one hypothesis profile; and what the suite promises about skips.

A machine that lacks data or a program skips the tests that need it, with the reason. With `PENJING_NO_SKIP` set, which
is how CI runs, each such skip is a failure. A failing test prints the command that repeats it.
"""

import os
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from penjing.core import knobs
from penjing.core.errors import CompileError, MissingCompiler, ToolchainError
from penjing.testing.isas import runnable_isas
from penjing.testing.op_suite import SANITIZE
from penjing.toolchain import Target, compile_executable, find_compiler, find_target, has_emulator, host_target

NO_SKIP = "PENJING_NO_SKIP"

# Derandomised: the same examples everywhere, so that a failure seen in CI is the failure seen at home.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=100)
settings.register_profile("quick", derandomize=True, deadline=None, print_blob=True, max_examples=20)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    # Started in the background by a shell, a process ignores Ctrl-C, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes more than about ten seconds; `make test-quick` leaves it out")

    if not hasattr(config, "workerinput"):
        _compile_once(config)


def _compile_once(config: pytest.Config) -> None:
    """Let all that is built for this machine, by this process and those that it starts, share the objects of gcc.

    That building twice gives the same bytes is for tests/toolchain, which goes without. So does test_pedantic.py.
    """
    try:
        compiler = find_compiler(host_target())
    except ToolchainError:
        return
    script = Path(__file__).with_name("compile_once.sh")
    if compiler.family != "gcc" or knobs.CC.text() or not script.is_file():
        return
    folder = tempfile.mkdtemp(prefix="penjing-objects-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.add_cleanup(lambda: os.environ.pop(knobs.CC.name))
    os.environ[knobs.CC.name] = shlex.join(["sh", str(script), folder, *compiler.command])


def pytest_report_header() -> str:
    """Which instruction sets the tests of SIMD kernels run on: those that nothing here can run are left out."""
    host = host_target()
    here = runnable_isas(host)
    missing = [isa for isa in host.isas if isa not in here]
    return f"instruction sets: {', '.join(here) or 'no choice'}" + (f"; NOT HERE: {', '.join(missing)}" * bool(missing))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test whose list of cases is empty on this machine is left out; pytest would count it as skipped."""
    items[:] = [item for item in items if not any(_has_no_case(mark) for mark in item.iter_markers("skip"))]


def _has_no_case(mark: pytest.Mark) -> bool:
    return str(mark.kwargs.get("reason", "")).startswith("got empty parameter set")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of `PENJING_DATA` (mnist.npz and others)."""
    folder = knobs.DATA.path()
    if folder is None:
        pytest.skip(f"{knobs.DATA.name} is not set: it names the folder with mnist.npz and the other data sets")
    if not folder.is_dir():
        pytest.skip(f"{knobs.DATA.name} names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def require() -> Callable[[str], Path]:
    """`require("qemu-aarch64")`: the path of an outside program; the test is skipped where it is not installed."""

    def find(tool: str) -> Path:
        path = shutil.which(tool)
        if path is None:
            pytest.skip(f"the program {tool!r} is not on PATH")
        return Path(path)

    return find


@pytest.fixture(scope="session")
def host() -> Target:
    return host_target()


@pytest.fixture(scope="session")
def sanitize(host) -> Sequence[str]:
    """The options of the address and undefined-behaviour sanitizers; skipped where they cannot be linked."""
    try:
        compile_executable({"main.c": "int main(void) { return 0; }"}, host, extra=SANITIZE)
    except CompileError as error:
        pytest.skip(f"the host's compiler cannot link its sanitizers: {error.what.splitlines()[-1]}")
    return SANITIZE


@pytest.fixture(scope="session")
def runnable() -> Callable[[str], Target]:
    """`runnable("wasm32")`: the target; the test is skipped where its programs cannot be built or run."""

    def find(name: str) -> Target:
        target = find_target(name)
        try:
            find_compiler(target)
        except MissingCompiler as error:
            pytest.skip(error.what)
        if not has_emulator(target):
            pytest.skip(f"none of {', '.join(target.emulator)} is on PATH")
        return target

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    if report.failed:
        report.sections.append(("repeat", f".venv/bin/pytest {shlex.quote(item.nodeid)}\n"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:  # a whole file: importorskip, or skip(allow_module_level=True)
        _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get(NO_SKIP):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped although {NO_SKIP} is set: {reason.removeprefix('Skipped: ')}"
