"""The judge of memory plans finds each kind of fault in a plan that was sound."""

import dataclasses

import numpy as np
import pytest

from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Quant, Type
from penjing.ops.concat import QConcat
from penjing.ops.operator import Pieces
from penjing.ops.table import QTable
from penjing.ops.transpose import QTranspose
from penjing.program.plan import Place, Plan, plan
from penjing.testing.plan_check import plan_problems


@pytest.fixture
def memory(edge_program) -> Plan:
    return plan(edge_program)


def moved(memory: Plan, name: str, **changes: object) -> Plan:
    places = {**memory.places, name: dataclasses.replace(memory.places[name], **changes)}
    return dataclasses.replace(memory, places=places)


def in_arena(program: Graph, memory: Plan) -> list[str]:
    return [n for node in program.nodes for n in node.outputs if memory.places[n].base == "arena"]


def test_a_sound_plan_has_no_problems(edge_program, memory):
    assert plan_problems(edge_program, memory) == []


def test_an_output_over_an_input_that_is_still_read_is_found(edge_program, memory):
    first, second = in_arena(edge_program, memory)[:2]
    assert memory.places[first].offset != memory.places[second].offset
    broken = moved(memory, second, offset=memory.places[first].offset)
    assert any("overlaps its input" in problem for problem in plan_problems(edge_program, broken))


def test_a_value_overwritten_before_its_use_is_found(edge_program, every_operator_program):
    memory = plan(every_operator_program)
    program = every_operator_program
    names = in_arena(program, memory)
    last_use = {name: i for i, node in enumerate(program.nodes) for name in node.inputs}
    made = {name: i for i, node in enumerate(program.nodes) for name in node.outputs}
    victim, intruder = next(
        (a, b)
        for a in names
        for b in names
        if made[a] < made[b] < last_use.get(a, -1) and memory.places[b].nbytes <= memory.places[a].nbytes
    )
    broken = moved(memory, intruder, offset=memory.places[victim].offset)
    assert any("was overwritten before this use" in problem for problem in plan_problems(program, broken))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"offset": 32}, "not 64-byte aligned"),
        ({"offset": 1 << 20}, "outside the"),
        ({"offset": -64}, "outside the"),
        ({"nbytes": 1}, "its place 1"),
        ({"base": "in"}, "is written into in"),
        ({"base": "weights"}, "is written into weights"),
    ],
)
def test_a_misplaced_value_is_found(changes, complaint, edge_program, memory):
    broken = moved(memory, in_arena(edge_program, memory)[0], **changes)
    assert any(complaint in problem for problem in plan_problems(edge_program, broken))


@pytest.mark.parametrize("field", ["arena_bytes", "input_bytes", "output_bytes", "weights_bytes"])
@pytest.mark.parametrize("change", [-64, 64])
def test_a_size_that_does_not_fit_is_found(field, change, edge_program, memory):
    assert plan_problems(edge_program, dataclasses.replace(memory, **{field: getattr(memory, field) + change}))


def test_a_lower_bound_over_the_arena_is_found(edge_program, memory):
    broken = dataclasses.replace(memory, lower_bound_bytes=memory.arena_bytes + 64)
    assert any("lower bound" in problem for problem in plan_problems(edge_program, broken))


@pytest.fixture
def joined() -> tuple[Graph, Plan]:
    """Pixels of 40 codes, of which one part of a concat is laid between those of another."""
    program = Graph("joined", stage="lowered")
    x = program.add_input("x", Type((1, 6, 40), DType.U8, Quant((1.0,), 0)))
    program.add_constant("table", Constant(np.arange(256, dtype=np.uint8)))
    program.add_node(QTable(), (x, "table"), ("a",))
    program.add_node(QTranspose((0, 1, 2)), (x,), ("b",))
    program.add_node(QConcat(2), ("b", "a"), ("both",))
    program.add_node(QTranspose((0, 2, 1)), ("both",), ("y",))
    program.outputs = ("y",)
    memory = plan(program)
    assert memory.places["a"].pieces == Pieces(40, 80)
    assert plan_problems(program, memory) == []
    return program, memory


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("a", {"pieces": None}, "overlaps its input"),
        ("a", {"pieces": Pieces(20, 40)}, "cannot be written in pieces of 20 bytes"),
        ("a", {"pieces": Pieces(40, 79)}, "is read where it lies in pieces"),
        ("b", {"offset": 40, "pieces": Pieces(40, 80)}, "cannot be written in pieces of 40 bytes"),
        ("b", {"offset": 40, "pieces": Pieces(40, 80)}, "%a was overwritten before this use"),
        ("a", {"offset": 0}, "is read where it lies in pieces"),
        ("a", {"offset": 400}, "lies at 400, outside the"),
    ],
)
def test_a_part_that_does_not_lie_where_the_concat_wants_it_is_found(name, changes, complaint, joined):
    program, memory = joined
    assert any(complaint in problem for problem in plan_problems(program, moved(memory, name, **changes)))


def test_a_part_in_pieces_that_something_else_reads_is_found(joined):
    program, memory = joined
    read = program.copy()
    read.add_node(QTranspose((0, 1, 2)), ("a",), ("z",))
    broken = moved(dataclasses.replace(memory, places={**memory.places, "z": memory.places["b"]}), "a")
    assert any("%a is read where it lies in pieces" in problem for problem in plan_problems(read, broken))


def test_scratch_over_an_output_is_found(edge_program, memory):
    name = in_arena(edge_program, memory)[0]
    index = next(i for i, node in enumerate(edge_program.nodes) if name in node.outputs)
    scratch = {**memory.scratch, index: Place("arena", memory.places[name].offset, memory.places[name].nbytes)}
    broken = dataclasses.replace(memory, scratch=scratch)
    assert any(f"scratch and %{name} overlap" in problem for problem in plan_problems(edge_program, broken))


def test_scratch_that_is_missing_is_found(edge_program, memory, monkeypatch):
    op = type(edge_program.nodes[-1].op)
    monkeypatch.setattr(op, "scratch_bytes", lambda *_: 1 << 20)
    assert any("needs 1048576 bytes of scratch" in problem for problem in plan_problems(edge_program, memory))
