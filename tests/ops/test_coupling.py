"""What operators say of their axes is true: removing coupled slices from the inputs removes them from the output."""

from itertools import product

import numpy as np
import pytest

from penjing.ir.types import DType, Type
from penjing.ops import operators
from penjing.ops.coupling import FREE, Coupling, Port, Tie
from penjing.ops.mean import Mean
from penjing.ops.operator import Operator, Sample
from penjing.ops.pad import Pad
from penjing.ops.recurrent import Recurrent
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Slice
from penjing.ops.softmax import Softmax

TOLERANCE = 2e-6  # of the largest output: the same sums, in another order
MOST = 4  # removals tried of each tie

# slices of one element each of many axes: what a removal names
Removed = dict[tuple[Port, int], np.ndarray]

SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, operator in operators().items()
    for i, sample in enumerate(operator.samples())
]


def values(sample: Sample) -> dict[Port, np.ndarray]:
    assert isinstance(sample.op, Operator)
    found: dict[Port, np.ndarray] = {("input", i): x for i, x in enumerate(sample.inputs) if x is not None}
    for i, y in enumerate(sample.op.float_reference(*sample.inputs)):
        found["output", i] = y
    return found


def coupling(sample: Sample) -> Coupling:
    assert isinstance(sample.op, Operator)
    types = tuple(None if x is None else Type(x.shape, DType.of(x)) for x in sample.inputs)
    return sample.op.coupling(types, sample.op.infer(*sample.types))


def arrangements(said: Coupling) -> list[tuple[Tie, ...]]:
    """All ties that hold at once, for every way to choose."""
    return [(*said.ties, *chosen) for chosen in product(*said.choices)]


def removals(tie: Tie, rng: np.random.Generator) -> list[Removed]:
    """What may go by one tie: all slices of some labels, and some of the free ones, but never a whole axis."""
    labels = np.unique(np.concatenate([end.labels for end in tie]))
    labels = labels[labels != FREE]
    chosen = [rng.permutation(labels)[: 1 + i] for i in range(min(MOST, len(labels) - 1))]
    found = [{(e.port, e.axis): np.flatnonzero(np.isin(e.labels, some)) for e in tie} for some in chosen]
    for end in tie:
        free = np.flatnonzero(end.labels == FREE)
        if len(free):
            found.append({(end.port, end.axis): rng.permutation(free)[: 1 + len(free) // 2]})
    extents = {(end.port, end.axis): len(end.labels) for end in tie}
    return [removed for removed in found if all(len(gone) < extents[end] for end, gone in removed.items())]


def without(array: np.ndarray, port: Port, removed: Removed) -> np.ndarray:
    for (place, axis), gone in removed.items():
        if place == port:
            array = np.delete(array, gone, axis)
    return array


def kept(port: Port, array: np.ndarray, removed: Removed) -> tuple[np.ndarray, ...]:
    none: list[int] = []
    return tuple(np.delete(np.arange(n), removed.get((port, axis), none)) for axis, n in enumerate(array.shape))


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_removed_from_the_inputs_is_what_is_missing_in_the_outputs(sample: Sample) -> None:
    assert isinstance(sample.op, Operator)
    rng = np.random.default_rng(0)
    found = values(sample)
    for ties in arrangements(coupling(sample)):
        for tie in ties:
            for removed in removals(tie, rng):
                inputs = [found.get(("input", i)) for i in range(len(sample.inputs))]
                # a sum over these, be it at the next step: what goes adds nothing
                if isinstance(sample.op, Recurrent) or all(end.port[0] == "input" for end in tie):
                    inputs = [zeroed(x, i, removed) if i in sample.constant else x for i, x in enumerate(inputs)]
                want = sample.op.float_reference(*inputs)
                op = sample.op.shrunk(
                    tuple(None if x is None else kept(("input", i), x, removed) for i, x in enumerate(inputs)),
                    tuple(kept(("output", i), y, removed) for i, y in enumerate(want)),
                )
                small = [None if x is None else without(x, ("input", i), removed) for i, x in enumerate(inputs)]
                got = op.float_reference(*small)
                announced = op.infer(*(Type(x.shape, DType.of(x)) for x in small if x is not None))
                assert [t.shape for t in announced] == [y.shape for y in got]
                for i, y in enumerate(want):
                    left = without(y, ("output", i), removed)
                    limit = TOLERANCE * max(1.0, float(np.abs(y).max()))
                    np.testing.assert_allclose(got[i], left, rtol=0, atol=limit, err_msg=f"{sample.op} {removed}")


def zeroed(x: np.ndarray | None, place: int, removed: Removed) -> np.ndarray | None:
    if x is None:
        return None
    x = x.copy()
    for (port, axis), gone in removed.items():
        if port == ("input", place):
            x[(slice(None),) * axis + (gone,)] = 0
    return x


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_axis_is_in_one_tie_and_has_a_label_for_every_slice(sample: Sample) -> None:
    found = values(sample)
    constants = {("input", place) for place in sample.constant}
    for ties in arrangements(coupling(sample)):
        ends = [end for tie in ties for end in tie]
        assert len({(end.port, end.axis) for end in ends}) == len(ends)
        for end in ends:
            assert len(end.labels) == found[end.port].shape[end.axis]
            assert end.labels.min() >= FREE
            if end.axis == 0 and end.port not in constants:
                # only constants lose slices of axis 0, and an operand like (C, 1, 1), which has no batch
                assert found[end.port].ndim < found["output", 0].ndim


@pytest.mark.parametrize("name", sorted(operators().keys() - {"advance"}))  # which has no axis but that of the batch
def test_every_operator_says_how_some_axis_is_coupled(name: str) -> None:
    assert any(coupling(sample).ties or coupling(sample).choices for sample in operators()[name].samples())


def tied(op: Operator, *shapes: tuple[int, ...]) -> set[tuple[Port, int]]:
    inputs = tuple(Type(shape) for shape in shapes)
    said = op.coupling(inputs, op.infer(*inputs))
    return {(end.port, end.axis) for tie in said.ties for end in tie}


def test_axes_whose_slices_are_computed_from_one_another_stay_whole() -> None:
    x = (2, 6, 8, 8)
    assert tied(Softmax(1), x) == {(port, axis) for port in (("input", 0), ("output", 0)) for axis in (2, 3)}
    assert (("input", 0), 2) not in tied(Mean((2, 3)), x)
    assert (("input", 0), 1) not in tied(Pad((0, 0, 1, 1, 0, 0, 0, 0), "reflect"), x)
    assert (("input", 0), 1) not in tied(Slice(1, 0, 6, 2), x)
    assert tied(Reshape((2, 4, 12, 8)), x) == {(("input", 0), 3), (("output", 0), 3)}


def test_of_a_flattened_image_channels_can_go_or_rows_or_columns() -> None:
    x = Type((1, 3, 2, 4))
    said = Reshape((1, 24)).coupling((x,), (Type((1, 24)),))
    (options,) = said.choices
    assert [tie[0].axis for tie in options] == [1, 2, 3]
    np.testing.assert_array_equal(options[0][1].labels, np.repeat([0, 1, 2], 8))
    np.testing.assert_array_equal(options[2][1].labels, np.tile([0, 1, 2, 3], 6))
