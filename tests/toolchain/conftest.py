"""What the toolchain's tests ask of a machine, and the programs that they build."""

from collections.abc import Callable

import pytest

from penjing.core import knobs
from penjing.core.errors import MissingCompiler
from penjing.toolchain import Target, find_compiler, find_target


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch) -> None:
    """Every build compiles anew, by the compiler itself."""
    monkeypatch.delenv(knobs.CC.name, raising=False)


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
