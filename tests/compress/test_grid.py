"""Weights on a grid: what is written is read back, and `quantize-static` takes it as it is."""

import numpy as np
import pytest

from penjing import api
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes, least_squares_scales, on_grid
from penjing.ir.types import Constant, Dim, Type
from penjing.ops.linear import Linear


def layer(weight: Constant) -> Graph:
    graph = Graph("layer", "cleaned")
    graph.add_input("x", Type((Dim("n", 64), weight.array.shape[1])))
    graph.add_constant("w", weight)
    graph.add_node(Linear(), ("x", "w"), ("y",))
    graph.outputs = ("y",)
    return graph


@pytest.mark.parametrize("axis", [0, 1, None])
def test_codes_come_back_whatever_the_scales(axis):
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, size=(5, 7)).astype(np.int8)
    scales = rng.uniform(1e-6, 10, size=1 if axis is None else codes.shape[axis]).astype(np.float32)
    constant = on_grid(codes, scales, axis)
    assert constant.array.dtype == np.float32
    np.testing.assert_array_equal(grid_codes(constant), codes)


@pytest.mark.parametrize("codes", [np.array([[-128]]), np.array([[128]]), np.array([[0.5]])])
def test_codes_beyond_the_narrow_range_are_refused(codes):
    with pytest.raises(InvalidInput, match="codes of a weight"):
        on_grid(codes, np.ones(1), None)


@pytest.mark.parametrize("scales", [np.ones(2), np.zeros(3), np.array([1, np.nan, 1])])
def test_scales_that_do_not_fit_are_refused(scales):
    with pytest.raises(InvalidInput, match="scales do not fit"):
        on_grid(np.ones((3, 2), np.int8), scales, 0)


def test_a_weight_that_has_moved_is_found():
    constant = on_grid(np.arange(-6, 6, dtype=np.int8).reshape(3, 4), np.ones(3), 0)
    with pytest.raises(QuantizationError, match="moved off its grid"):
        grid_codes(Constant(constant.array + np.float32(0.25), quant=constant.quant))


@pytest.mark.parametrize("axis", [0, None])
def test_quantize_static_keeps_the_codes_of_the_grid(axis):
    rng = np.random.default_rng(1)
    codes = rng.integers(-3, 4, size=(6, 8)).astype(np.int8)
    codes[0] = 0
    scales = rng.uniform(0.1, 1, size=1 if axis is None else 6).astype(np.float32)
    x = rng.normal(size=(32, 8)).astype(np.float32)
    program = api.lower(api.quantize(layer(on_grid(codes, scales, axis)), [x]))
    (kept,) = [c.array for c in program.constants.values() if c.array.ndim == 2]
    np.testing.assert_array_equal(kept, codes)


def test_scales_along_another_axis_are_refused():
    weight = on_grid(np.ones((3, 4), np.int8), np.ones(4), 1)
    with pytest.raises(QuantizationError, match="scales along axis 1"):
        api.quantize(layer(weight), [np.ones((1, 4), np.float32)])


@pytest.mark.parametrize("top", [1, 7, 127])
def test_scales_of_least_squared_error_are_no_worse_than_the_whole_range(top):
    rows = np.random.default_rng(0).standard_t(3, size=(6, 50)).astype(np.float32)
    rows[2] = 0

    def error(steps):
        return np.square(np.clip(np.rint(rows / steps), -top, top) * steps - rows).sum(axis=1)

    steps = least_squares_scales(rows, top)[:, None]
    assert (steps > 0).all() and steps.dtype == np.float32
    whole = np.abs(rows).max(axis=1, keepdims=True) / top
    assert (error(steps) <= error(np.where(whole > 0, whole, 1)) + 1e-6).all()
    if top == 1:
        assert error(steps).sum() < 0.6 * error(np.where(whole > 0, whole, 1)).sum()
