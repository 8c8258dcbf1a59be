"""The networks of the zoo as integer programs, and what their tests run on."""

import functools
from collections.abc import Callable, Sequence

import pytest

from penjing import api
from penjing.core.errors import CompileError
from penjing.ir.graph import Graph
from penjing.testing.op_suite import SANITIZE
from penjing.toolchain import Target, compile_executable, host_target
from penjing.zoo import catalog

CALIBRATION_SAMPLES = 16


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
def zoo_program() -> Callable[[str], Graph]:
    """`zoo_program("resnet20")`: the network with random weights, quantized on random inputs and lowered."""

    @functools.lru_cache(maxsize=2)
    def make(name: str) -> Graph:
        entry = catalog.find(name)
        graph = api.capture(catalog.create(name, trained_batchnorm=True), entry.random_inputs(2), name=name)
        inputs = entry.random_inputs(CALIBRATION_SAMPLES, seed=1)
        return api.lower(api.quantize(graph, [inputs[i : i + 4] for i in range(0, len(inputs), 4)]))

    return make
