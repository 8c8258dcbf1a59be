"""The networks of the zoo as integer programs, and what their tests run on."""

import functools
from collections.abc import Callable

import pytest

from penjing import api
from penjing.ir.graph import Graph
from penjing.zoo import catalog

CALIBRATION_SAMPLES = 16


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
