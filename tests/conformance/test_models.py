"""Whole programs, compiled for this machine, equal the interpreter, and keep what their header promises."""

import dataclasses

import pytest

from penjing import api
from penjing.emit.c import emit
from penjing.ir.graph import Graph
from penjing.ops.pool2d import MaxPool2d
from penjing.program.plan import plan
from penjing.testing import model_suite
from penjing.testing.isas import runnable_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import Network, batches
from penjing.testing.plan_check import plan_problems
from penjing.testing.sample_graphs import network_operators, operator_samples, sample_graph
from penjing.toolchain import TARGETS, Target, host_target
from penjing.vector.prepare import prepare

HOST = host_target()


def test_edge_cnn_equals_the_interpreter_on_a_thousand_inputs(edge_program, host, rng):
    report = run_model_suite(edge_program, corner_samples(edge_program, rng, 1000), host)
    assert not report.problems, "\n".join(report.problems)
    assert report.samples == 1002
    assert report.isas == runnable_isas(host)


@pytest.mark.parametrize("optimize", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("standalone", [False, True])
def test_edge_cnn_is_the_same_at_every_optimisation(optimize, standalone, edge_program, host, rng):
    samples = corner_samples(edge_program, rng, 20)
    report = run_model_suite(edge_program, samples, host, optimize=optimize, standalone=standalone)
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("standalone", [False, True])
def test_a_program_of_every_operator_equals_the_interpreter(standalone, every_operator_program, host, rng):
    prepared = prepare(every_operator_program, host)
    assert not plan_problems(prepared.program, prepared.plan)
    samples = corner_samples(every_operator_program, rng, 10)
    report = run_model_suite(every_operator_program, samples, host, standalone=standalone)
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes == report.planned_bytes


@pytest.mark.parametrize("threads", [2, 3] if HOST.isas else [])
def test_several_threads_give_the_bytes_of_one(threads, edge_program, host, rng):
    samples = corner_samples(edge_program, rng, 20)
    report = run_model_suite(edge_program, samples, host, threads=threads, standalone=threads == 3)
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes <= report.planned_bytes


@pytest.mark.parametrize("threads", [2] if HOST.isas else [])
def test_several_threads_compute_a_program_of_every_operator(threads, every_operator_program, host, rng):
    prepared = prepare(every_operator_program, host, threads)
    assert not plan_problems(prepared.program, prepared.plan)
    samples = corner_samples(every_operator_program, rng, 10)
    report = run_model_suite(every_operator_program, samples, host, optimize="-O1", threads=threads)
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("name", network_operators())
def test_the_plan_of_an_operator_is_sound(name):
    made = sample_graph(name, list(operator_samples((name,))))
    program = api.lower(api.quantize(made.graph, [made.inputs], observer="min-max"))
    assert not plan_problems(program, plan(program))
    for target in TARGETS:
        prepared = prepare(program, target)
        assert not plan_problems(prepared.program, prepared.plan)


def test_the_predicted_arena_of_edge_cnn_is_the_one_that_is_used(edge_program, host, rng):
    memory = prepare(edge_program, host).plan
    report = run_model_suite(edge_program, corner_samples(edge_program, rng, 2), host)
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes == report.planned_bytes
    assert memory.lower_bound_bytes <= memory.arena_bytes
    assert memory.arena_bytes - report.touched_bytes < 64


def pass_through() -> Graph:
    """A network of no layers: its input is its output."""
    net = Network("pass through")
    return net.done(net.input(3, 5, 4))


def test_a_network_without_layers_needs_no_arena_and_copies(host, rng):
    graph = pass_through()
    program = api.lower(api.quantize(graph, batches(graph, 4)))
    assert prepare(program, host).plan.arena_bytes == 0
    report = run_model_suite(program, corner_samples(program, rng, 3), host)
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize(
    "name", ["a */ name", "/* open", "trigraph ??/", "line\nbreak \\", "\u202emirrored", "树", "a?b"]
)
def test_no_name_of_a_value_can_leave_its_comment(name, host, rng):
    net = Network(f"net {name}" if name.isascii() else "net")
    value = net.conv(net.input(2, 4, 4, name=name), 3, out=f"{name}.conv")
    graph = net.done(net.linear(net.flatten(value, out=f"{name}.flat"), 2, out=f"{name}.out"))
    program = api.lower(api.quantize(graph, batches(graph, 4)))
    report = run_model_suite(program, corner_samples(program, rng, 1), host, optimize="-O0")
    assert not report.problems, "\n".join(report.problems)


# What the suite itself must see.


def test_a_byte_written_beside_the_arena_is_seen(edge_program, host, rng, monkeypatch):
    def short(program: Graph, target: Target, threads: int):
        made = prepare(program, target, threads)
        return dataclasses.replace(made, plan=dataclasses.replace(made.plan, arena_bytes=made.plan.arena_bytes - 64))

    monkeypatch.setattr(model_suite, "prepare", short)
    report = run_model_suite(edge_program, corner_samples(edge_program, rng, 1), host, optimize="-O0")
    assert "a byte beside the arena was written" in report.problems[0]


def test_a_program_that_counts_on_a_zeroed_arena_is_seen(host, rng, monkeypatch):
    net = Network()
    value = net.node(MaxPool2d((3, 3), (2, 2)), net.input(16, 7, 7), out="pool")
    graph = net.done(net.linear(net.flatten(value, out="flat"), 4, out="fc"))
    program = api.lower(api.quantize(graph, batches(graph, 4)))
    text, file = emit.kernel_text, emit.kernel_file
    monkeypatch.setattr(emit, "kernel_text", lambda name: text(name).replace("memset(y, 0, (size_t)p->c);", ""))
    monkeypatch.setattr(emit, "kernel_file", lambda op, simd: file(op, simd=simd and op != "q_max_pool2d"))
    report = run_model_suite(program, corner_samples(program, rng, 1), host, optimize="-O0")
    assert any("exact" in problem or "guarded" in problem for problem in report.problems)


def test_a_failed_self_test_is_seen(edge_program, host, rng, monkeypatch):
    original = emit.kernel_text
    wrong = ("value + 12582912.0f", "value + 0.5f + 12582912.0f")
    monkeypatch.setattr(emit, "kernel_text", lambda name: original(name).replace(*wrong))
    report = run_model_suite(edge_program, corner_samples(edge_program, rng, 1), host, optimize="-O0")
    assert "the self-test failed" in report.problems[0]
