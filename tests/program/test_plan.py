"""The memory plan: no two living values share a byte, and the sizes are exact, aligned and as small as they can be."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.concat import QConcat
from penjing.ops.operator import IntegerOperator
from penjing.ops.transpose import QTranspose
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.program.plan import ALIGNMENT, align, moved_inputs, peak_activation_bytes, plan
from penjing.program.weights import pack_weights
from penjing.testing.networks import Network, edge_cnn
from penjing.testing.plan_check import plan_problems
from penjing.testing.programs import Program
from penjing.testing.random_graphs import float_graphs


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
