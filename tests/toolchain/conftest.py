"""What the toolchain's tests ask of a machine, and the programs that they build."""

from collections.abc import Callable

import pytest

from penjing.core.errors import MissingCompiler
from penjing.toolchain import Target, find_compiler, find_target, has_emulator


@pytest.fixture
def buildable() -> Callable[[str], Target]:
    """`buildable("wasm32")`: the target; the test is skipped where nothing builds for it."""

    def find(name: str) -> Target:
        target = find_target(name)
        try:
            find_compiler(target)
        except MissingCompiler as error:
            pytest.skip(error.what)
        return target

    return find


@pytest.fixture
def runnable(buildable) -> Callable[[str], Target]:
    """`runnable("wasm32")`: the target; the test is skipped where its programs cannot be built or run."""

    def find(name: str) -> Target:
        target = buildable(name)
        if not has_emulator(target):
            pytest.skip(f"none of {', '.join(target.emulator)} is on PATH")
        return target

    return find
