"""A library holds the inner loops that its kernels ask for: the rule in Python is the rule in C."""

import pytest

from penjing.core.targets import find_target
from penjing.emit.c.inner_loops import inner_loop_lines
from penjing.vector.bands import MOST_PIXELS, cut
from penjing.vector.specialise import specialise


def asked_for(width: int, most: int) -> set[int]:
    """As pj_v_conv2d_row walks along a row that pj_v_conv2d_cut has cut."""
    tiles = (width + most - 1) // most
    small, larger = width // tiles, width % tiles
    sizes = set()
    while width > 0:
        pixels = small + 1 if larger > 0 else small
        sizes.add(pixels)
        width, larger = width - pixels, larger - 1
    assert width == 0
    return sizes


@pytest.mark.parametrize("most", range(1, max(MOST_PIXELS) + 1))
def test_every_tile_of_a_row_is_there(most):
    for width in range(1, 1000):
        sizes = asked_for(width, most)
        assert sizes == set(cut(width, most))
        assert max(sizes) <= most


def test_a_pool_takes_all_its_neighbours_from_one_tile(edge_program):
    lines = list(inner_loop_lines(specialise(edge_program, find_target("x86_64-linux"))))
    # 16 pools of 2 in a row of one vector, in two tiles; 8 in a row of two vectors, in two
    assert {f"#define PJ_CONV2D_SIZES_1 {1 << 16:#x}", f"#define PJ_CONV2D_SIZES_2 {1 << 8:#x}"} <= set(lines)
