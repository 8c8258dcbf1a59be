"""Trays of the hand-made EdgeCNN: built once, and taken apart and packed again with valid digests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penjing import api
from penjing.bundle.pack import TrayParts
from penjing.ir.graph import Graph
from penjing.testing.networks import batches, edge_cnn

LABELS = [f"digit {i}" for i in range(10)]


@pytest.fixture(scope="session")
def program() -> Graph:
    graph = edge_cnn()
    return api.lower(api.quantize(graph, batches(graph, 16)))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(5, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def parts(program, images) -> TrayParts:
    """With a library for this machine."""
    port = api.Port(mean=(0.5,), std=(0.25,), value_range=(0.0, 1.0), color="gray")
    return api.assemble(program, api.BuildOptions(ports=[port], labels=LABELS, golden_inputs=[images[:2]]))


@pytest.fixture(scope="session")
def tray(parts, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tray") / "edgecnn.tray"
    api.save(api.pack(parts), path)
    return path


@pytest.fixture(scope="session")
def standalone(program) -> TrayParts:
    """With a library for this machine that holds its weights."""
    return api.assemble(program, api.BuildOptions(standalone=True))


@pytest.fixture
def packed(tmp_path) -> Callable[[TrayParts], Path]:
    """`packed(parts)`: the path of a tray of those parts."""

    def pack(parts: TrayParts) -> Path:
        path = tmp_path / "changed.tray"
        api.save(api.pack(parts), path, force=True)
        return path

    return pack
