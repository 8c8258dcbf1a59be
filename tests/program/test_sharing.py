"""Values that share bytes: other names, tables in place, and parts of concats that are computed in their places."""

import pytest

from penjing.ops.operator import Pieces
from penjing.ops.slice import QSlice
from penjing.ops.transpose import QTranspose
from penjing.program.plan import Plan, align, moved_inputs
from penjing.testing.programs import Program


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
