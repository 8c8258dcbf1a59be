"""The `.graph` file: a network on its way between commands, with all that is known of it (`docs/spec/graph-file.md`).

It is the container of a tray (`penjing.bundle.container`) with other members: `manifest.json`, the text form
`graph.txt`, all tensors in the pack `tensors`, and `record.json` once a recipe was applied. Nothing in it is code, all
of it is covered by a digest, sizes are bounded, and one network with one description has exactly one file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np

from penjing.bundle import strict_json
from penjing.bundle.coding.tensors import pack_tensors, read_pack
from penjing.bundle.container import DEFAULT_LIMITS, MANIFEST, read_container, write_container
from penjing.core.digests import digest_bytes
from penjing.core.errors import CorruptBundle, InvalidGraph, InvalidInput, PenjingError, UnsupportedBundle
from penjing.core.files import write_atomically
from penjing.core.port import Port
from penjing.ir.graph import Graph
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.recipe.record import Record, dump_record, parse_record

FORMAT = 1
SUFFIX = ".graph"
STAGES = ("imported", "cleaned", "compressed")
_GRAPH, _RECORD, _TENSORS = "graph.txt", "record.json", "tensors"
_MAGIC = b"PK\x03\x04"
_MAX_LINE = 400


@dataclass(frozen=True, eq=False)
class SavedGraph:
    """A network as a file carries it.

    Attributes:
        graph: in stage imported, cleaned or compressed.
        port: how its first input is prepared.
        labels: names of the classes, where known.
        origin: where it came from, one line for the model card.
        record: what was done to it; None when nothing was.
    """

    graph: Graph
    port: Port = field(default_factory=Port)
    labels: tuple[str, ...] | None = None
    origin: str = "a graph"
    record: Record | None = None


@dataclass(frozen=True)
class _Port:
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    value_range: tuple[float, float]
    color: str | None


@dataclass(frozen=True)
class _Manifest:
    """`members`: all others, and their digests."""

    format: int
    kind: str
    port: _Port
    labels: tuple[str, ...] | None
    origin: str
    members: Mapping[str, str]


def pack_graph(saved: SavedGraph) -> bytes:
    """The bytes of the file.

    Raises:
        InvalidGraph: a stage that has no place in such a file, or a graph that breaks a rule.
        InvalidInput: a port or labels that do not fit the graph.
    """
    graph = saved.graph
    if graph.stage not in STAGES:
        raise InvalidGraph(
            f"a graph in stage {graph.stage} is no longer a network to work on", hint="pack a program into a tray"
        )
    verify(graph)
    fault = _description_fault(saved)
    if fault is not None:
        raise InvalidInput(fault, where=f"graph {graph.name}")
    members: dict[str, bytes] = {_GRAPH: print_graph(graph).encode()}
    if saved.record is not None:
        members[_RECORD] = dump_record(saved.record)
    members[_TENSORS] = pack_tensors({name: constant.array for name, constant in graph.constants.items()})
    digests = {name: digest_bytes(data) for name, data in members.items()}
    port = _Port(saved.port.mean, saved.port.std, saved.port.value_range, saved.port.color)
    manifest = _Manifest(FORMAT, "graph", port, saved.labels, saved.origin, digests)
    try:
        document = strict_json.dump(strict_json.encode(manifest))
    except strict_json.JsonError as error:
        raise InvalidInput(error.what, where=f"graph {graph.name}, {error.path}") from error
    return write_container({MANIFEST: document, **members})


def save_graph(saved: SavedGraph, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the file whole or not at all.

    Raises:
        OutputExists: it exists and `force` is false.
        WriteFailed: the disk is full or read-only, or the folder is missing.
    """
    write_atomically(Path(path), pack_graph(saved), force=force)


def load_graph(path: str | os.PathLike[str]) -> SavedGraph:
    """Read and verify a `.graph` file.

    Raises:
        InvalidInput: no such file.
        CorruptBundle: truncated, altered, or no graph file.
        UnsupportedBundle: written by a newer penjing.
    """
    place = Path(path)
    if not place.is_file():
        raise InvalidInput(f"there is no file {place}", where=str(place), hint=f"give a {SUFFIX} file")
    with place.open("rb") as stream:
        data = stream.read(DEFAULT_LIMITS.file_bytes + 1)
    return read_graph(data, where=str(place))


def read_graph(data: bytes, *, where: str = "graph file") -> SavedGraph:
    """The network in `data`; errors as `load_graph`."""
    if data[:4] != _MAGIC:
        raise CorruptBundle("this is no graph file", where=where, hint=f"give a {SUFFIX} file that penjing wrote")
    members = read_container(data, where=where)
    manifest = _manifest(members[MANIFEST], where)
    _check_members(manifest, members, where)
    arrays = read_pack(members[_TENSORS], where=f"{where}, {_TENSORS}")
    graph = _graph(members[_GRAPH], arrays, where)
    record = parse_record(members[_RECORD], where) if _RECORD in members else None
    color = cast(Literal["rgb", "gray"] | None, manifest.port.color)
    port = Port(manifest.port.mean, manifest.port.std, manifest.port.value_range, color)
    saved = SavedGraph(graph, port, manifest.labels, manifest.origin, record)
    fault = _description_fault(saved)
    if fault is not None:
        raise _refused(fault, where)
    return saved


def _manifest(data: memoryview, where: str) -> _Manifest:
    try:
        document = strict_json.parse(data)
        if not isinstance(document, dict) or document.get("kind") != "graph":
            raise CorruptBundle("this is no graph file", where=where, hint=f"a tray is not one: give a {SUFFIX} file")
        version = document.get("format")
        if isinstance(version, int) and version > FORMAT:
            what = f"the file has format {version}; this release reads up to {FORMAT}"
            raise UnsupportedBundle(what, where=where, hint="upgrade penjing")
        manifest = strict_json.decode(_Manifest, document)
        if manifest.format != FORMAT or strict_json.dump(document) != bytes(data):
            raise strict_json.JsonError("it is not in the one form that penjing writes")
    except strict_json.JsonError as error:
        raise _refused(f"the manifest is refused: {error.what}", f"{where}, {error.path or MANIFEST}") from error
    return manifest


def _check_members(manifest: _Manifest, members: Mapping[str, memoryview], where: str) -> None:
    stated = manifest.members
    needed = {_GRAPH, _TENSORS}
    if stated.keys() != members.keys() - {MANIFEST} or not needed <= set(stated) <= {*needed, _RECORD}:
        raise _refused("its members are not those that its manifest names", where)
    for name, digest in stated.items():
        if digest_bytes(members[name]) != digest:
            raise _refused("its contents do not match their digest", f"{where}, {name}")


def _graph(text: memoryview, arrays: Mapping[str, np.ndarray], where: str) -> Graph:
    try:
        decoded = bytes(text).decode("utf-8")
        graph = parse_graph(decoded, arrays, registry())
    except UnicodeDecodeError as error:
        raise _refused(f"the graph is not UTF-8 at byte {error.start}", where) from error
    except PenjingError as error:
        raise _refused(f"the graph is not valid: {error.what}", f"{where}, {error.where or _GRAPH}") from error
    if graph.stage not in STAGES:
        raise _refused(f"the graph is in stage {graph.stage}", where)
    if graph.constants.keys() != arrays.keys() or print_graph(graph) != decoded:
        raise _refused("the graph is not in the one form that penjing writes", where)
    return graph


def _description_fault(saved: SavedGraph) -> str | None:
    """Why port, labels or origin do not fit the graph."""
    graph, port = saved.graph, saved.port
    if not graph.inputs:
        return "the graph has no inputs"
    taken, given = graph.types[graph.inputs[0]].bounds, graph.types[graph.outputs[0]].bounds
    channels = taken[1] if len(taken) > 1 else 1
    for name, values in (("mean", port.mean), ("std", port.std)):
        if values is not None and (len(values) != channels or not np.isfinite(values).all()):
            return f"{name} has not one number for each of {channels} channels"
    if port.std is not None and min(port.std) <= 0:
        return "std is not above 0"
    if not -np.inf < port.value_range[0] < port.value_range[1] < np.inf:
        return "value_range is not a low and a higher number"
    if port.color not in (None, "rgb", "gray"):
        return "color is not rgb or gray"
    if saved.labels is not None and len(saved.labels) not in given[1:]:
        return f"{len(saved.labels)} labels do not fit an output of {'x'.join(map(str, given[1:]))}"
    for line in (saved.origin, *(saved.labels or ())):
        if not 1 <= len(line) <= _MAX_LINE or not line.isprintable():
            return f"a label or origin is not one line of 1 to {_MAX_LINE} characters"
    return None


def _refused(what: str, where: str) -> CorruptBundle:
    return CorruptBundle(what, where=where, hint="the file is damaged or was changed: write it again")
