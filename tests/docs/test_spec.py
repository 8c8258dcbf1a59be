"""The Python in the specification runs, and prints what the pages show."""

import dataclasses
from pathlib import Path

import pytest

from penjing import api
from penjing.testing.networks import Network, batches

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec"


def small_tray() -> bytes:
    """A tray without libraries, with one variant, named as in the pages."""
    net = Network("small")
    graph = net.done(net.linear(net.flatten(net.conv(net.input(1, 4, 4), 2, out="conv"), out="flat"), 3, out="y"))
    parts = api.assemble(api.lower(api.quantize(graph, batches(graph, 4))), api.BuildOptions(targets=()))
    return api.pack(dataclasses.replace(parts, variants={"w8a8": parts.variants["default"]}))


@pytest.mark.parametrize("page", sorted(page.name for page in SPEC.glob("*.md")))
def test_the_examples_of_a_page_run_and_print_what_it_shows(run_page, tmp_path, page):
    (tmp_path / "model.tray").write_bytes(small_tray())
    run_page(f"docs/spec/{page}")
