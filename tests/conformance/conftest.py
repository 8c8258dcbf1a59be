"""What the conformance tests run on: targets, compilers, and the programs that they compare."""

import dataclasses

import numpy as np
import pytest

from penjing import api
from penjing.core.errors import MissingCompiler
from penjing.ir.graph import Graph
from penjing.ops import integer_operators
from penjing.testing.networks import batches, edge_cnn
from penjing.testing.op_suite import OpCase, op_cases, runnable_operators
from penjing.testing.sample_graphs import operator_samples, sample_graph
from penjing.toolchain import Compiler, find_compiler, find_target


@pytest.fixture(scope="session")
def zig(host) -> Compiler:
    """zig's clang for this machine, beside the compiler that `find_compiler` prefers."""
    try:
        return dataclasses.replace(find_compiler(find_target("wasm32")), target=host)
    except MissingCompiler as error:
        pytest.skip(error.what)


@pytest.fixture(scope="session")
def every_case() -> tuple[OpCase, ...]:
    """All samples of all integer operators that programs hold."""
    return tuple(case for name in integer_operators() for case in op_cases(name))


@pytest.fixture(scope="session")
def every_simd_case() -> tuple[OpCase, ...]:
    """The same and all samples of those that take their place where there is SIMD."""
    return tuple(case for name in runnable_operators() for case in op_cases(name))


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
