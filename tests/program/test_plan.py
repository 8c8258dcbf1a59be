"""The memory plan: no two living values share a byte, and the sizes are exact, aligned and as small as they can be."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, DType, Quant, Type
from penjing.ir.verify import verify
from penjing.ops.add import QAdd
from penjing.ops.concat import QConcat
from penjing.ops.operator import IntegerOperator, Pieces
from penjing.ops.reshape import QReshape
from penjing.ops.slice import QSlice
from penjing.ops.table import QTable
from penjing.ops.transpose import QTranspose
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.program.plan import ALIGNMENT, Plan, align, moved_inputs, peak_activation_bytes, plan
from penjing.program.weights import pack_weights
from penjing.testing.networks import BATCH, Network, edge_cnn
from penjing.testing.plan_check import plan_problems
from penjing.testing.random_graphs import float_graphs

CODES = Quant((1.0,), 0)
TABLE = np.arange(256, dtype=np.uint8)


class Program:
    """Builds a program of moves and tables, whose sizes are easy to see."""

    def __init__(self, *inputs: int) -> None:
        self.graph = Graph("by hand", stage="lowered")
        for i, n in enumerate(inputs):
            self.graph.add_input(f"x{i}", Type((BATCH, n), DType.U8, CODES))
        self.graph.add_constant("t", Constant(TABLE))

    def add(self, op: IntegerOperator, *names: str, out: str) -> str:
        self.graph.add_node(op, names, (out,))
        self.graph.types[out] = self.graph.types[out].with_quant(CODES)
        return out

    def table(self, x: str, out: str) -> str:
        return self.add(QTable(), x, "t", out=out)

    def moved(self, x: str, out: str) -> str:
        """A copy that needs bytes of its own: a transpose of one sample with itself."""
        return self.add(QTranspose((0, 1)), x, out=out)

    def sum(self, a: str, b: str, out: str) -> str:
        return self.add(QAdd(1.0, 0, 1.0, 0, 0, 0, 255), a, b, out=out)

    def joined(self, axis: int, *parts: str, out: str) -> str:
        return self.add(QConcat(axis), *parts, out=out)

    def reshaped(self, x: str, out: str, *shape: int) -> str:
        return self.add(QReshape((BATCH, *shape)), x, out=out)

    def done(self, *outputs: str) -> tuple[Graph, Plan]:
        self.graph.outputs = outputs
        self.graph.drop_unused_constants()
        verify(self.graph)
        made = plan(self.graph)
        assert plan_problems(self.graph, made) == []
        return self.graph, made


def test_the_plan_of_edge_cnn_is_the_one_worked_out_by_hand(edge_program):
    made = plan(edge_program)
    assert made.input_bytes == 32 * 32
    assert made.output_bytes == 10
    # the first convolution's output and its pooled form live together: nothing needs more, scratch included
    assert made.arena_bytes == made.lower_bound_bytes == 32 * 32 * 16 + 16 * 16 * 16
    weights = [144 * 1, 32 * 16 * 9, 128 * 2048, 10 * 128]
    tables = [4 * n for n in (16, 16, 32, 32, 128, 128, 10, 10)]  # biases and multipliers
    constants = [constant.array.nbytes for constant in edge_program.constants.values()]
    assert sorted(constants) == sorted(weights + tables)
    *rest, last = constants
    assert made.weights_bytes == sum(map(align, rest)) + last
    assert plan_problems(edge_program, made) == []


def test_aligning_rounds_up_to_the_next_64():
    assert [align(n) for n in (0, 1, 63, 64, 65, 128)] == [0, 64, 64, 64, 128, 128]
    assert ALIGNMENT == 64


def test_the_same_program_gets_the_same_plan(edge_program):
    assert plan(edge_program) == plan(edge_program.copy())


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(float_graphs(max_layers=10))
def test_the_plan_of_any_program_is_sound(made):
    every = dict.fromkeys(made.graph.activations(), (-3.0, 4.0))
    program = lower(run_passes(made.graph, [QuantizeStatic(Ranges(every, 1))])[0])
    memory = plan(program)
    assert plan_problems(program, memory) == []
    assert memory == plan(program)
    for name in program.outputs:
        assert memory.places[name].base == "out"


def beside(bounds: tuple[int, ...], axis: int) -> tuple[object, ...]:
    return (len(bounds), bounds[:axis], bounds[axis + 1 :])


@st.composite
def moves(draw) -> Program:
    """Programs of copies, tables, aliases and sums over values of any size: what the planner decides about, densely."""
    program = Program(*draw(st.lists(st.integers(1, 200), min_size=1, max_size=2)))
    values = list(program.graph.inputs)
    for i in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(values[-5:]))
        bounds = program.graph.types[x].bounds
        kind = draw(st.sampled_from(["table", "moved", "alias", "joined", "joined", "sum", "table", "pixels"]))
        out = f"v{i}"
        if kind == "table":
            program.table(x, out)
        elif kind == "moved":
            program.add(QTranspose(tuple(range(len(bounds)))), x, out=out)
        elif kind == "alias":
            flat = int(np.prod(bounds))
            program.reshaped(x, out, *((flat,) if len(bounds) > 2 else (1, flat)))
        elif kind == "pixels":
            flat = int(np.prod(bounds))
            rows = draw(st.sampled_from([n for n in range(1, 7) if flat % n == 0]))
            program.reshaped(x, out, rows, flat // rows)
        elif kind == "joined":
            axis = draw(st.integers(1, len(bounds) - 1))
            fitting = [v for v in values if beside(program.graph.types[v].bounds, axis) == beside(bounds, axis)]
            others = st.lists(st.sampled_from(fitting), max_size=3)
            program.joined(axis, *draw(st.permutations([x, *draw(others)])), out=out)
        else:
            same = [v for v in values if program.graph.types[v].bounds == bounds]
            program.sum(x, draw(st.sampled_from(same)), out)
        values.append(out)
    made = [v for v in values if v not in program.graph.inputs]
    users = program.graph.users()
    ends = [v for v in made if not users[v]]
    program.graph.outputs = tuple(dict.fromkeys([*ends, *draw(st.lists(st.sampled_from(made), max_size=2))]))
    return program


@settings(max_examples=150)
@given(moves())
def test_the_plan_of_any_tangle_of_aliases_and_tables_in_place_is_sound(program):
    graph = program.graph
    verify(graph)
    assert plan_problems(graph, plan(graph)) == []


@given(moves())
def test_running_a_program_in_its_planned_memory_gives_what_the_interpreter_gives(program):
    """Independent of any reasoning about lifetimes: one array of bytes, each node reading and writing its places."""
    graph = program.graph
    made = plan(graph)
    memory = {
        "in": np.zeros(made.input_bytes, np.uint8),
        "out": np.full(made.output_bytes, 0xA5, np.uint8),
        "arena": np.full(made.arena_bytes, 0x5A, np.uint8),
        "weights": pack_weights(graph, made),
    }

    def where(name: str) -> tuple[np.ndarray, np.ndarray]:
        """The memory that holds a value, and the address of each of its bytes."""
        place = made.places[name]
        byte = np.arange(place.nbytes)
        if place.pieces is not None:
            byte = byte // place.pieces.nbytes * place.pieces.step + byte % place.pieces.nbytes
        return memory[place.base], place.offset + byte

    def read(name: str) -> np.ndarray:
        block, addresses = where(name)
        return block[addresses].view(graph.types[name].dtype.numpy).reshape(graph.types[name].bounds)

    def write(name: str, array: np.ndarray) -> None:
        block, addresses = where(name)
        block[addresses] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 256, size=graph.types[n].bounds, dtype=np.uint8) for n in graph.inputs]
    for name, codes in zip(graph.inputs, inputs, strict=True):
        write(name, codes)
    for node in graph.nodes:
        assert isinstance(node.op, IntegerOperator)
        if not moved_inputs(graph, made, node):
            continue
        arrays = [read(name) for name in node.inputs]
        for name, array in zip(node.outputs, node.op.integer_reference(*arrays), strict=True):
            write(name, array)
    for name, want in zip(graph.outputs, interpret(graph, *inputs), strict=True):
        np.testing.assert_array_equal(read(name), want)


def test_an_alias_shares_the_bytes_of_what_it_renames():
    program = Program(24)
    a = program.moved("x0", "a")
    b = program.reshaped(a, "b", 4, 6)
    c = program.reshaped(b, "c", 24)
    graph, made = program.done(program.moved(c, "y"))
    assert made.places["a"] == made.places["b"] == made.places["c"]
    assert made.arena_bytes == 64
    assert graph.types["b"].bounds == (1, 4, 6)


def test_an_alias_of_an_input_stays_in_the_input_and_one_of_an_output_in_the_output():
    program = Program(24)
    renamed = program.reshaped("x0", "a", 4, 6)
    y = program.add(QTranspose((0, 2, 1)), renamed, out="y")
    z = program.moved(program.reshaped(y, "b", 24), "z")
    _, made = program.done(y, z)
    assert (made.places["a"].base, made.places["b"].base) == ("in", "out")
    assert made.places["b"].offset == made.places["y"].offset
    assert made.arena_bytes == 0


def test_a_renamed_value_that_is_returned_has_its_own_bytes():
    program = Program(24)
    a = program.moved("x0", "a")
    y = program.reshaped(a, "y", 4, 6)
    _, made = program.done(y, program.moved(a, "z"))
    assert made.places["y"].base == "out"
    assert made.places["a"].base == "arena"


def test_a_value_that_is_returned_under_another_shape_gives_its_own_bytes_back_at_once():
    program = Program(64)
    y = program.reshaped(program.moved("x0", "a"), "y", 8, 8)
    b = program.moved("x0", "b")
    _, made = program.done(y, program.sum(b, program.reshaped(y, "again", 64), out="z"))
    assert made.places["a"] == made.places["b"]
    assert made.arena_bytes == made.lower_bound_bytes == 64


def test_a_table_works_in_place_when_its_input_is_read_for_the_last_time():
    program = Program(100)
    a = program.moved("x0", "a")
    _, made = program.done(program.moved(program.table(a, "b"), "y"))
    assert made.places["a"] == made.places["b"]
    assert made.arena_bytes == align(100)


@pytest.mark.parametrize("later", ["node", "alias", "output"])
def test_a_table_leaves_an_input_that_is_needed_later_alone(later):
    program = Program(100)
    a = program.moved("x0", "a")
    alias = program.reshaped(a, "alias", 10, 10) if later == "alias" else a
    b = program.table(a, "b")
    y = program.moved(b, "y")
    outputs = [y]
    if later == "node":
        outputs.append(program.moved(a, "z"))
    elif later == "alias":
        outputs.append(program.add(QTranspose((0, 2, 1)), alias, out="z"))
    else:
        outputs.append(a)
    _, made = program.done(*outputs)
    assert made.places["a"] != made.places["b"]


def test_a_table_never_writes_over_an_input_or_a_constant_of_the_program():
    program = Program(256)
    first = program.table("x0", "a")
    _, made = program.done(program.moved(first, "y"))
    assert made.places["a"].base == "arena"


def inside(made: Plan, part: str, whole: str) -> int:
    """Where `part` begins in `whole`, which must hold all of it."""
    a, b = made.places[part], made.places[whole]
    assert a.base == b.base and b.offset <= a.offset and a.end <= b.end
    return a.offset - b.offset


def test_the_parts_of_a_concat_lie_in_it_and_nothing_is_moved():
    program = Program(10, 20)
    both = program.joined(1, program.moved("x0", "a"), program.table(program.moved("x1", "b"), "c"), out="both")
    graph, made = program.done(program.moved(both, "y"))
    assert [inside(made, name, "both") for name in "abc"] == [0, 10, 10]
    assert [moved_inputs(graph, made, node) for node in graph.nodes] == [(0,), (0,), (0, 1), (), (0,)]
    assert made.arena_bytes == made.lower_bound_bytes == 64


def test_parts_of_nested_concats_lie_in_the_outermost():
    program = Program(10)
    a, b, c = (program.moved("x0", name) for name in "abc")
    ab = program.joined(1, a, b, out="ab")
    cab = program.joined(1, c, program.reshaped(program.reshaped(ab, "r", 4, 5), "ab2", 20), out="cab")
    _, made = program.done(program.sum(program.moved(cab, "m"), cab, "y"))
    assert [inside(made, name, "cab") for name in ("c", "a", "b", "ab", "r")] == [0, 10, 20, 10, 10]


def test_parts_of_a_concat_that_is_returned_lie_in_the_output():
    program = Program(100)
    a, b = program.moved("x0", "a"), program.moved("x0", "b")
    _, made = program.done(program.joined(1, a, b, out="y"), program.sum(a, b, "z"))
    assert (made.places["a"].base, inside(made, "b", "y")) == ("out", 100)
    assert made.arena_bytes == 0


def test_inputs_outputs_and_parts_that_lie_elsewhere_are_copied():
    program = Program(8)
    a, b = program.moved("x0", "a"), program.moved("x0", "b")
    first = program.joined(1, "x0", a, a, b, out="first")  # an input, and one value twice
    second = program.joined(1, b, program.reshaped(a, "r", 8), out="second")  # both lie in the first
    graph, made = program.done(program.moved(first, "y"), program.moved(second, "z"), b)
    assert moved_inputs(graph, made, graph.nodes[2]) == (0, 2, 3)
    assert moved_inputs(graph, made, graph.nodes[4]) == (0, 1)


def test_a_table_does_not_write_over_a_part_while_the_concat_is_needed():
    program = Program(8)
    a, b = program.moved("x0", "a"), program.moved("x0", "b")
    both = program.joined(1, a, b, out="both")
    late = program.table(a, "late")
    _, made = program.done(program.moved(both, "y"), program.moved(late, "z"))
    assert inside(made, "a", "both") == 0
    assert made.places["late"] != made.places["a"]


def test_channels_that_a_table_makes_lie_in_pieces_between_those_of_others():
    program = Program(400)
    x = program.reshaped("x0", "r", 2, 5, 40)
    made_by_table = program.table(program.add(QTranspose((0, 2, 1, 3)), x, out="a"), "c")
    copied = program.add(QTranspose((0, 2, 1, 3)), x, out="b")
    both = program.joined(3, copied, made_by_table, out="both")
    graph, made = program.done(program.add(QTranspose((0, 2, 1, 3)), both, out="y"))
    assert made.places["c"].pieces == Pieces(40, 80)
    assert made.places["a"].pieces is None
    assert inside(made, "c", "both") == 40
    assert moved_inputs(graph, made, graph.nodes[4]) == (0,)


def test_channels_that_something_else_reads_lie_together():
    program = Program(400)
    x = program.reshaped("x0", "r", 2, 5, 40)
    a, b = program.table(x, "a"), program.table(x, "b")
    both = program.joined(3, a, b, out="both")
    _, made = program.done(both, program.add(QTranspose((0, 2, 1, 3)), a, out="y"))
    assert made.places["a"].pieces is None
    assert (made.places["b"].base, made.places["b"].pieces) == ("out", Pieces(40, 80))


def test_concats_of_channels_nest():
    program = Program(400)
    x = program.reshaped("x0", "r", 2, 5, 40)
    a, b, c, d = (program.table(x, name) for name in "abcd")
    inner = program.joined(3, a, x, b, out="inner")
    middle = program.joined(3, c, inner, out="middle")
    rows = program.joined(1, d, program.add(QSlice(1, 1, 1, 1), x, out="s"), out="rows")
    _, made = program.done(middle, rows)
    assert [made.places[name].pieces for name in "abc"] == [Pieces(40, 160)] * 3
    assert made.places["inner"].pieces == Pieces(120, 160)
    assert [inside(made, name, "middle") for name in ("c", "inner", "b")] == [0, 40, 120]
    assert made.places["d"].pieces is None and inside(made, "s", "rows") == 400


def test_an_early_part_is_copied_where_its_place_would_cost_bytes():
    program = Program(64)
    small = program.moved("x0", "small")
    value = program.joined(1, *["x0"] * 16, out="wide")
    for i in range(3):
        value = program.moved(value, f"wide{i}")  # 2 of 1024 bytes at a time
    large = program.moved(value, "large")
    both = program.joined(1, small, large, out="both")
    graph, made = program.done(program.moved(both, "y"))
    assert inside(made, "large", "both") == 64
    assert moved_inputs(graph, made, graph.nodes[6]) == (0,)
    assert made.arena_bytes == made.lower_bound_bytes == 64 + 1024 + 1088


def test_values_that_are_never_alive_together_share_bytes():
    program = Program(64)
    value = "x0"
    for i in range(10):
        value = program.moved(value, f"v{i}")
    _, made = program.done(program.moved(value, "y"))
    assert made.arena_bytes == made.lower_bound_bytes == 128


def test_a_hole_between_living_values_is_filled():
    program = Program(64)
    big = program.add(QConcat(1), "x0", "x0", "x0", "x0", out="big")  # 256 bytes
    small = program.moved("x0", "small")  # alive beside big, to the end
    end = program.moved(big, "end1")
    late = program.moved("x0", "late")  # alive after big: fits where big was
    _, made = program.done(end, program.sum(small, late, out="end2"))
    assert made.places["late"].offset == made.places["big"].offset
    assert made.arena_bytes == 256 + 64


def test_a_value_that_nobody_reads_has_bytes_while_it_is_written():
    program = Program(64)
    a = program.moved("x0", "a")
    program.moved(a, "dead")
    _, made = program.done(program.moved(a, "y"))
    assert made.places["dead"] != made.places["a"]
    assert made.arena_bytes == 128


def test_inputs_and_outputs_lie_one_after_another_aligned():
    program = Program(10, 70)
    y = program.table("x0", "y")
    z = program.table("x1", "z")
    _, made = program.done(y, z)
    assert [made.places[n].offset for n in ("x0", "x1")] == [0, 64]
    assert (made.input_bytes, made.output_bytes) == (134, 134)
    assert made.arena_bytes == 0


def test_scratch_is_kept_apart_from_everything_alive(monkeypatch):
    monkeypatch.setattr(QTranspose, "scratch_bytes", lambda self, inputs, outputs: 100)
    program = Program(64)
    a = program.moved("x0", "a")
    b = program.moved(a, "b")
    _, made = program.done(program.moved(b, "y"))
    assert set(made.scratch) == {0, 1, 2}
    assert all(place.nbytes == 100 and place.offset % 64 == 0 for place in made.scratch.values())
    # two values of 64 bytes and 100 bytes of scratch while b is made
    assert made.lower_bound_bytes == 128 + 128
    assert made.arena_bytes >= made.lower_bound_bytes


def test_the_weights_block_holds_each_constant_at_its_place_and_zeros_between(edge_program):
    made = plan(edge_program)
    block = pack_weights(edge_program, made)
    assert block.dtype == np.uint8 and block.shape == (made.weights_bytes,)
    covered = np.zeros(made.weights_bytes, bool)
    for name, constant in edge_program.constants.items():
        place = made.places[name]
        raw = block[place.offset : place.offset + place.nbytes]
        assert raw.tobytes() == constant.array.astype(constant.array.dtype.newbyteorder("<")).tobytes()
        covered[place.offset : place.offset + place.nbytes] = True
    assert not block[~covered].any()
    assert (~covered).any()


def test_weights_of_any_byte_order_are_packed_little_endian():
    program = Program(2)
    program.graph.add_constant("w", Constant(np.array([1, -2], ">i4")))
    program.graph.add_constant("m", Constant(np.array([0.5], ">f4")))
    made = plan(program.graph)
    block = pack_weights(program.graph, made)
    offset = {name: made.places[name].offset for name in ("w", "m")}
    assert block[offset["w"] : offset["w"] + 8].tobytes() == bytes([1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF])
    assert block[offset["m"] : offset["m"] + 4].tobytes() == np.array([0.5], "<f4").tobytes()


def test_a_program_without_constants_has_no_weights():
    program = Program(4)
    _, made = program.done(program.moved("x0", "y"))
    assert made.weights_bytes == 0


def test_the_peak_of_a_float_network_counts_what_is_alive_at_once():
    graph = edge_cnn()
    # the first convolution and its rectifier, unfused, in float32
    assert peak_activation_bytes(graph) == 2 * 4 * 32 * 32 * 16
    net = Network()
    assert peak_activation_bytes(net.done(net.flatten(net.input(2, 3, 3), out="y"))) == 2 * 4 * 18
