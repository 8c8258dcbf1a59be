"""Other cuts of single layers than the rule's: measured on one machine, and recorded so that a build can be repeated.

A cut is a matter of the library alone. Memory is planned, and weights are packed, by the rule, so whoever loads the
library need not know it; a cut may stage no more than the rule has memory for. No output byte depends on it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.vector.bands import MOST_PIXELS
from penjing.vector.conv2d import VConv2d

_HINT = "take tiles that were measured for this network"


class Tile(NamedTuple):
    """How one convolution is cut.

    Attributes:
        one: most pixels in a tile of one vector of 16 channels.
        two: the same of two vectors; 0 where there shall be none.
        rows, columns: of output in a band.
    """

    one: int
    two: int
    rows: int
    columns: int


Tiles = Mapping[str, Tile]  # by the name of a node's output


def tile_of(op: VConv2d) -> Tile:
    """The cut that a layer has."""
    return Tile(*op.pixels, *op.band)


def with_tile(op: VConv2d, tile: Tile) -> VConv2d:
    """The layer with another cut."""
    return replace(op, pixels=(tile.one, tile.two), band=(tile.rows, tile.columns))


def tiled_nodes(program: Graph) -> dict[str, Node]:
    """The nodes that can be cut in another way, by the name of their output."""
    return {node.outputs[0]: node for node in program.nodes if isinstance(node.op, VConv2d)}


def with_tiles(program: Graph, tiles: Tiles) -> Graph:
    """A specialised program with other cuts.

    Raises:
        InvalidInput: a name that no convolution has, or a cut that is none.
    """
    nodes = tiled_nodes(program)
    for name, tile in tiles.items():
        if name not in nodes:
            raise InvalidInput(
                "there are tiles for a convolution that the program does not have with SIMD kernels",
                where=name[:80],
                hint=_HINT,
            )
        fault = tile_fault(program, nodes[name], tile)
        if fault is not None:
            raise InvalidInput(f"it cannot be cut by {tuple(tile)}: {fault}", where=name[:80], hint=_HINT)
    if not tiles:
        return program
    changed = program.copy()
    changed.nodes[:] = [_with(node, tiles.get(node.outputs[0])) for node in program.nodes]
    return changed


def tile_fault(program: Graph, node: Node, tile: Tile) -> str | None:
    """Why a convolution cannot be cut so, or None."""
    assert isinstance(node.op, VConv2d)
    if not (1 <= tile.one <= MOST_PIXELS[0] and 0 <= tile.two <= MOST_PIXELS[1]):
        return f"a tile has 1..{MOST_PIXELS[0]} pixels of one vector and 0..{MOST_PIXELS[1]} of two"
    pool = node.op.pool[1]
    if tile.one < pool or 0 < tile.two < pool:
        return f"a tile holds all {pool} pixels of a pool"
    types = program.input_types(node), program.output_types(node)
    height, width = node.op.rows(types[1][0])[1:]
    if not (1 <= tile.rows <= height and 1 <= tile.columns <= width):
        return f"a band has 1..{height} rows and 1..{width} columns"
    if with_tile(node.op, tile).scratch_bytes(*types) > node.op.scratch_bytes(*types):
        return "it stages more than memory is planned for"
    return None


def _with(node: Node, tile: Tile | None) -> Node:
    if tile is None:
        return node
    assert isinstance(node.op, VConv2d)
    return replace(node, op=with_tile(node.op, tile))
