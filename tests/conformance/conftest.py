"""What the conformance tests run on: targets, compilers, and the programs that they compare."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from penjing import api
from penjing.core.errors import CompileError, MissingCompiler
from penjing.ir.graph import Graph
from penjing.ops import integer_operators
from penjing.testing.networks import batches, edge_cnn
from penjing.testing.op_suite import SANITIZE, OpCase, op_cases
from penjing.testing.sample_graphs import operator_samples, sample_graph
from penjing.toolchain import (
    Compiler,
    Target,
    compile_executable,
    find_compiler,
    find_target,
    has_emulator,
    host_target,
)


@pytest.fixture(scope="session")
def host() -> Target:
    return host_target()


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


@pytest.fixture(scope="session")
def zig(host) -> Compiler:
    """zig's clang for this machine, beside the compiler that `find_compiler` prefers."""
    try:
        return dataclasses.replace(find_compiler(find_target("wasm32")), target=host)
    except MissingCompiler as error:
        pytest.skip(error.what)


@pytest.fixture(scope="session")
def sanitize(host) -> Sequence[str]:
    """The options of the address and undefined-behaviour sanitizers; skipped where they cannot be linked."""
    try:
        compile_executable({"main.c": "int main(void) { return 0; }"}, host, extra=SANITIZE)
    except CompileError as error:
        pytest.skip(f"the host's compiler cannot link its sanitizers: {error.what.splitlines()[-1]}")
    return SANITIZE


@pytest.fixture(scope="session")
def every_case() -> tuple[OpCase, ...]:
    """All samples of all integer operators."""
    return tuple(case for name in integer_operators() for case in op_cases(name))


@pytest.fixture(scope="session")
def edge_program() -> Graph:
    """EdgeCNN with random weights, lowered."""
    graph = edge_cnn()
    return api.lower(api.quantize(graph, batches(graph, 32)))


@pytest.fixture(scope="session")
def every_operator_program() -> Graph:
    """One program in which every operator of networks occurs, by all its samples."""
    made = sample_graph("every operator", list(operator_samples()))
    return api.lower(api.quantize(made.graph, [made.inputs], observer="min-max"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
