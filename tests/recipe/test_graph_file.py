"""A graph file gives back the network that was written, bit for bit, and anything else is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.api import lower, quantize
from penjing.bundle import strict_json
from penjing.bundle.coding.tensors import pack_tensors, read_pack
from penjing.bundle.container import MANIFEST, read_container, write_container
from penjing.core.digests import digest_bytes
from penjing.core.errors import (
    BundleError,
    CorruptBundle,
    InvalidGraph,
    InvalidInput,
    OutputExists,
    PenjingError,
    UnsupportedBundle,
)
from penjing.core.port import Port
from penjing.ir.graph import Graph
from penjing.ir.grid import on_grid
from penjing.ir.text import print_graph
from penjing.ops.evaluate import evaluate
from penjing.recipe.apply import apply_recipe
from penjing.recipe.data import Data
from penjing.recipe.graph_file import SavedGraph, load_graph, pack_graph, read_graph, save_graph
from penjing.recipe.recipe import Recipe, step
from penjing.testing.networks import Network, batches
from penjing.testing.random_graphs import float_graphs


def small() -> Graph:
    net = Network("small")
    x = net.conv(net.input(2, 4, 4), 4, out="conv", groups=2)
    return net.done(net.linear(net.flatten(x, out="flat"), 3, out="fc"))


def described(graph: Graph) -> SavedGraph:
    port = Port((0.5, 0.25), (1.0, 2.0), (0.0, 255.0), None)
    return SavedGraph(graph, port, ("ant", "bee", "盆景"), "somewhere")


@given(float_graphs(max_layers=6))
@settings(max_examples=10)
def test_any_network_comes_back(random):
    graph = random.graph
    data = pack_graph(SavedGraph(graph))
    back = read_graph(data).graph
    assert print_graph(back) == print_graph(graph)
    assert all(np.array_equal(back.constants[name].array, c.array) for name, c in graph.constants.items())
    assert pack_graph(SavedGraph(back)) == data


def test_all_that_is_known_comes_back():
    graph = small()
    codes = np.arange(36).reshape(4, 1, 3, 3) - 18
    graph.set_constant("conv.weight", on_grid(codes, np.array([0.5, 0.25, 0.1, 3.0]), 0))
    applied = apply_recipe(Recipe([step("prune-magnitude", ratio=0.5)]), small(), Data())
    saved = replace(described(graph), record=applied.record)
    back = read_graph(pack_graph(saved))
    assert (back.port, back.labels, back.origin, back.record) == (saved.port, saved.labels, saved.origin, saved.record)
    assert back.graph.constants["conv.weight"].quant == graph.constants["conv.weight"].quant
    (x,) = next(batches(graph, 3))
    assert np.array_equal(evaluate(back.graph, x)[0], evaluate(graph, x)[0])


def test_a_quantized_network_comes_back_and_lowers_to_the_same_program():
    graph = quantize(small(), [batch[0] for batch in batches(small(), 8)])
    back = read_graph(pack_graph(SavedGraph(graph))).graph
    assert back.stage == "compressed"
    assert print_graph(lower(back)) == print_graph(lower(graph))


def test_a_program_is_no_network_any_more():
    program = lower(quantize(small(), [batch[0] for batch in batches(small(), 8)]))
    with pytest.raises(InvalidGraph, match="stage lowered"):
        pack_graph(SavedGraph(program))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"port": Port(mean=(0.5,))}, "mean has not one number for each of 2 channels"),
        ({"port": Port(std=(0.5, 0.0))}, "std is not above 0"),
        ({"port": Port(mean=(0.5, float("nan")))}, "mean"),
        ({"port": Port(value_range=(1.0, 1.0))}, "value_range"),
        ({"port": Port(color="blue")}, "color"),
        ({"labels": ("a", "b")}, "2 labels do not fit an output of 3"),
        ({"labels": ("a", "b", "two\nlines")}, "one line"),
        ({"origin": ""}, "one line"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_writer_and_reader(change, what):
    saved = SavedGraph(small())
    with pytest.raises(InvalidInput, match=what):
        pack_graph(replace(saved, **change))
    if "nan" in str(change):
        return  # which JSON cannot say
    members = {name: bytes(data) for name, data in read_container(pack_graph(saved)).items()}
    manifest = strict_json.parse(members[MANIFEST])
    port = change.get("port", saved.port)
    fields = {"mean": port.mean, "std": port.std, "value_range": port.value_range, "color": port.color}
    manifest["port"] = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    manifest |= {key: list(value) if key == "labels" else value for key, value in change.items() if key != "port"}
    with pytest.raises(CorruptBundle, match=what):
        read_graph(write_container({**members, MANIFEST: strict_json.dump(manifest)}))


def test_every_changed_byte_is_noticed():
    data = pack_graph(described(small()))
    rng = np.random.default_rng(0)
    for at in {*range(0, 64), *range(len(data) - 64, len(data)), *map(int, rng.integers(len(data), size=200))}:
        altered = bytearray(data)
        altered[at] ^= int(rng.integers(1, 256))
        with pytest.raises(BundleError):
            read_graph(bytes(altered))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_part_of_a_file_is_refused(share):
    data = pack_graph(SavedGraph(small()))
    with pytest.raises(CorruptBundle):
        read_graph(data[: int(len(data) * share)])


def members_of(saved: SavedGraph) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in read_container(pack_graph(saved)).items()}


def with_manifest(parts: dict[str, bytes], **changes: object) -> bytes:
    manifest = strict_json.parse(parts[MANIFEST])
    return write_container({**parts, MANIFEST: strict_json.dump(manifest | changes)})


def with_tensors(parts: dict[str, bytes], tensors: dict[str, np.ndarray]) -> bytes:
    packed = pack_tensors(tensors)
    named = strict_json.parse(parts[MANIFEST])["members"]
    return with_manifest({**parts, "tensors": packed}, members={**named, "tensors": digest_bytes(packed)})


def test_members_that_the_manifest_does_not_name_are_refused():
    members = members_of(SavedGraph(small()))
    with pytest.raises(CorruptBundle, match="members"):
        read_graph(write_container({**members, "hidden": b"x"}))
    with pytest.raises(CorruptBundle, match="members"):
        read_graph(write_container({name: data for name, data in members.items() if name != "tensors"}))
    with pytest.raises(CorruptBundle, match="digest"):
        read_graph(write_container({**members, "tensors": members["tensors"][:-1] + b"\x07"}))
    with pytest.raises(CorruptBundle, match="members"):
        read_graph(with_manifest(members, members={}))


def test_tensors_of_other_constants_are_refused():
    members = members_of(SavedGraph(small()))
    tensors = dict(read_pack(members["tensors"]))
    with pytest.raises(CorruptBundle, match="not the array"):
        read_graph(with_tensors(members, {**tensors, "fc.bias": tensors["fc.bias"] + 1}))
    with pytest.raises(CorruptBundle, match="one form"):
        read_graph(with_tensors(members, {**tensors, "more": tensors["fc.bias"]}))


def test_other_files_and_newer_ones_are_told_apart(tmp_path):
    members = members_of(SavedGraph(small()))
    with pytest.raises(UnsupportedBundle, match="format 2"):
        read_graph(with_manifest(members, format=2))
    with pytest.raises(CorruptBundle, match="no graph file"):
        read_graph(with_manifest(members, kind="tray"))
    with pytest.raises(CorruptBundle, match="no graph file"):
        read_graph(b"\x93NUMPY")
    with pytest.raises(InvalidInput, match="no file"):
        load_graph(tmp_path / "missing.graph")
    with pytest.raises(InvalidInput, match="no file"):
        load_graph(tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    for prefix in (b"", b"PK\x03\x04"):
        with pytest.raises(PenjingError):
            read_graph(prefix + data)


def test_a_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "net.graph"
    save_graph(SavedGraph(small()), path)
    with pytest.raises(OutputExists):
        save_graph(SavedGraph(small()), path)
    save_graph(described(small()), path, force=True)
    assert load_graph(path).origin == "somewhere"
