"""Which cuts of a layer are worth a measurement. The first is always the rule's."""

from penjing.ir.graph import Graph, Node
from penjing.vector.bands import MOST_PIXELS
from penjing.vector.conv2d import VConv2d
from penjing.vector.tiles import Tile, tile_fault, tile_of

_LEAST = 4  # pixels: smaller tiles read weights too often
_BAND_HALVINGS = 4


def sizes(program: Graph, node: Node) -> list[Tile]:
    """Sizes of tiles. Those that cut the layer's rows as another one does are left out."""
    assert isinstance(node.op, VConv2d)
    rule, widths = tile_of(node.op), node.op.tiled_widths(program.output_types(node)[0])
    one, two = MOST_PIXELS
    tried = [rule]
    if node.op.blocks_per_group > 1:
        tried += [rule._replace(two=pixels) for pixels in range(two, _LEAST - 1, -1)]
        tried += [rule._replace(one=pixels, two=0) for pixels in range(one, _LEAST - 1, -1)]
    else:
        tried += [rule._replace(one=pixels) for pixels in range(one, _LEAST - 1, -1)]
    seen: dict[tuple[int, frozenset[int]], Tile] = {}
    for tile in tried:
        if tile_fault(program, node, tile) is not None:
            continue
        vectors = 2 if tile.two and node.op.blocks_per_group > 1 else 1
        taken = frozenset().union(
            *(node.op.tile_sizes(width, tile.two if vectors == 2 else tile.one) for width in widths)
        )
        seen.setdefault((vectors, taken), tile)
    return list(seen.values())


def bands(program: Graph, node: Node, size: Tile) -> list[Tile]:
    """Bands for tiles of one size: the rule's, and smaller ones; memory is planned for no larger."""
    assert isinstance(node.op, VConv2d)
    tried = [size]
    for shift in range(1, _BAND_HALVINGS + 1):
        if size.rows >> shift:
            tried.append(size._replace(rows=size.rows >> shift))
        elif size.rows == 1:
            tried.append(size._replace(columns=max(1, size.columns >> shift)))
    if size.rows == 1 and size.two:  # whole tiles only
        tried.append(size._replace(columns=max(1, size.columns // size.two * size.two)))
    return [tile for tile in dict.fromkeys(tried) if tile_fault(program, node, tile) is None]
