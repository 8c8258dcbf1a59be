"""Which tile sizes the convolutions of a program take, so that its library holds code for these only.

The rule is that of the kernels: rows of pixels are cut into as few tiles as the registers allow, of sizes as equal as
can be. Instruction sets with few registers have few sizes, and keep them all.
"""

from collections.abc import Iterable, Iterator

from penjing.ir.graph import Graph
from penjing.ops.operator import Rows

# Vectors of 16 channels in a tile -> most pixels, with 32 registers of 512 bits.
MOST_PIXELS = {1: 16, 2: 12}


def tile_lines(program: Graph) -> Iterator[str]:
    """Macros that narrow the lists `PJ_TILES_1` and `PJ_TILES_2`, by family of kernels."""
    needed: dict[tuple[str, int], set[int]] = {}
    for node in program.nodes:
        tiled = getattr(node.op, "tiled_rows", None)
        if tiled is None:
            continue
        rows: Rows = tiled(program.input_types(node), program.output_types(node))
        for vectors in rows.vectors:
            sizes = needed.setdefault((rows.family, vectors), set())
            most = MOST_PIXELS[vectors] // rows.pool
            sizes.update(rows.pool * size for width in rows.widths for size in cut(width, most))
    if not needed:
        return
    yield "#if PJ_VECTORS == 2"
    for family in sorted({family for family, _ in needed}):
        for vectors in MOST_PIXELS:
            listed = sorted(needed.get((family, vectors), ()))
            yield f"#define PJ_{family.upper()}_TILES_{vectors}(T) {' '.join(f'T({size})' for size in listed)}".rstrip()
    yield "#endif"


def cut(width: int, most: int) -> Iterable[int]:
    """Sizes of the tiles of a row of `width` pixels, at most `most` in each."""
    tiles = -(-width // most)
    small, larger = divmod(width, tiles)
    return {small, small + 1} if larger else {small}
