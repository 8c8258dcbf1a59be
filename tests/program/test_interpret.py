"""The interpreter: the definition of a program, and the inputs that it refuses."""

import numpy as np
import pytest

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, DType, Quant, Type
from penjing.ir.verify import verify
from penjing.ops.add import Add, QAdd
from penjing.ops.reshape import QReshape
from penjing.ops.table import QTable
from penjing.program.interpret import interpret, rows_at_a_time
from penjing.program.lower import lower
from penjing.testing.networks import BATCH, Network

CODES = Quant((1.0,), 0)


def small() -> Graph:
    """y = table(a) + b, z = y as (2, 2): by hand."""
    program = Graph("small", stage="lowered")
    for name in ("a", "b"):
        program.add_input(name, Type((BATCH, 4), DType.U8, CODES))
    program.add_constant("t", Constant(np.arange(256, dtype=np.uint8)[::-1]))
    program.add_node(QTable(), ("a", "t"), ("mapped",))
    program.add_node(QAdd(1.0, 0, 1.0, 0, 0, 0, 255), ("mapped", "b"), ("y",))
    program.add_node(QReshape((BATCH, 2, 2)), ("y",), ("z",))
    for name in ("mapped", "y", "z"):
        program.types[name] = program.types[name].with_quant(CODES)
    program.outputs = ("z", "mapped")
    verify(program)
    return program


def test_a_program_by_hand_gives_what_its_operators_say():
    a = np.uint8([[0, 1, 200, 255]])
    b = np.uint8([[0, 5, 100, 255]])
    z, mapped = interpret(small(), a, b)
    assert mapped.tolist() == [[255, 254, 55, 0]]
    assert z.tolist() == [[[255, 255], [155, 255]]]


def test_every_sample_is_computed_alone(edge_program):
    codes = np.random.default_rng(0).integers(0, 256, size=(5, 1, 32, 32), dtype=np.uint8)
    (whole,) = interpret(edge_program, codes)
    assert whole.shape == (5, 10) and whole.dtype == np.uint8
    for i in range(5):
        np.testing.assert_array_equal(interpret(edge_program, codes[i : i + 1])[0], whole[i : i + 1])
    np.testing.assert_array_equal(interpret(edge_program, codes[::-1])[0], whole[::-1])


def test_inputs_and_constants_are_left_alone(edge_program):
    codes = np.full((2, 1, 32, 32), 7, np.uint8)
    before = {name: constant.array.copy() for name, constant in edge_program.constants.items()}
    interpret(edge_program, codes)
    assert (codes == 7).all()
    for name, array in before.items():
        np.testing.assert_array_equal(edge_program.constants[name].array, array)


def test_an_output_that_later_nodes_read_is_still_returned(quantized):
    net = Network()
    x = net.input(3)
    y = net.node(Add(), x, net.constant("c", [[1.0, 2.0, 3.0]]), out="y")
    program = lower(quantized(net.done(y, net.node(Add(), y, y, out="z"))))
    first, second = interpret(program, np.uint8([[0, 128, 255]]))
    assert first.shape == second.shape == (1, 3)


@pytest.mark.parametrize(
    "inputs",
    [
        (),
        (np.zeros((1, 4), np.uint8),),
        (np.zeros((1, 4), np.uint8),) * 3,
        (np.zeros((1, 4), np.int8), np.zeros((1, 4), np.uint8)),
        (np.zeros((1, 4), np.float32), np.zeros((1, 4), np.uint8)),
        (np.zeros((1, 5), np.uint8), np.zeros((1, 4), np.uint8)),
        (np.zeros(4, np.uint8), np.zeros((1, 4), np.uint8)),
        (np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8)),
        (np.zeros((1, 1, 4), np.uint8), np.zeros((1, 4), np.uint8)),
    ],
    ids=["none", "too few", "too many", "s8", "float", "wide", "no batch axis", "no samples", "rank 3"],
)
def test_inputs_that_do_not_fit_are_refused(inputs):
    with pytest.raises(InvalidInput):
        interpret(small(), *inputs)


def test_the_refusal_names_the_input_and_what_was_expected():
    with pytest.raises(InvalidInput, match=r"input %b has shape \(1, 5\), expected \(batch, 4\)"):
        interpret(small(), np.zeros((1, 4), np.uint8), np.zeros((1, 5), np.uint8))
    with pytest.raises(InvalidInput, match="input %a must be u8, not int16"):
        interpret(small(), np.zeros((1, 4), np.int16), np.zeros((1, 4), np.uint8))


def test_inputs_of_different_batch_sizes_are_refused():
    with pytest.raises(InvalidInput, match="batch = 3"):
        interpret(small(), np.zeros((2, 4), np.uint8), np.zeros((3, 4), np.uint8))


def test_a_fixed_batch_takes_that_many_samples_and_no_others():
    program = small()
    for name in ("a", "b", "mapped", "y"):
        program.types[name] = Type((2, 4), DType.U8, CODES)
    program.types["z"] = Type((2, 2, 2), DType.U8, CODES)
    program.nodes[2] = type(program.nodes[2])(QReshape((2, 2, 2)), ("y",), ("z",))
    verify(program)
    assert interpret(program, *(np.zeros((2, 4), np.uint8),) * 2)[0].shape == (2, 2, 2)
    with pytest.raises(InvalidInput, match=r"has shape \(3, 4\)"):
        interpret(program, *(np.zeros((3, 4), np.uint8),) * 2)


def test_other_symbolic_extents_may_have_any_length_but_one_for_all():
    program = Graph("lengths", stage="lowered")
    length = Dim("n", 16)
    for name in ("a", "b"):
        program.add_input(name, Type((BATCH, length), DType.U8, CODES))
    program.add_node(QAdd(1.0, 0, 1.0, 0, 0, 0, 255), ("a", "b"), ("y",))
    program.types["y"] = program.types["y"].with_quant(CODES)
    program.outputs = ("y",)
    ones = np.ones((1, 7), np.uint8)
    assert interpret(program, ones, ones)[0].tolist() == [[2] * 7]
    with pytest.raises(InvalidInput, match="n = 1"):
        interpret(program, ones, ones[:, :1])


def test_a_fixed_batch_is_taken_whole_and_a_free_one_in_pieces_of_bounded_memory():
    net = Network("fixed")
    fixed = net.done(net.input(4, name="x"))
    fixed.types["x"] = Type((3, 4), DType.U8, fixed.types["x"].quant)
    assert rows_at_a_time(fixed) == 3
    wide = Network("wide")
    graph = wide.done(wide.input(2**21, name="x"))
    assert rows_at_a_time(graph) == 2
    assert rows_at_a_time(small()) > 1000
