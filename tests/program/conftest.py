"""Quantized networks and their programs."""

from collections.abc import Callable

import pytest

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.program.lower import lower
from penjing.testing.networks import batches, edge_cnn


def _quantized(graph: Graph, *inputs) -> Graph:
    ranges = calibrate(graph, [inputs] if inputs else batches(graph, 16), "min-max")
    return run_passes(graph, [QuantizeStatic(ranges)])[0]


@pytest.fixture(scope="session")
def quantized() -> Callable[..., Graph]:
    """A network in stage `compressed`, with the ranges of the inputs given, or of 16 normal ones."""
    return _quantized


@pytest.fixture(scope="session")
def edge_program() -> Graph:
    """EdgeCNN with random weights, lowered."""
    return lower(_quantized(edge_cnn()))
