"""Random networks of up to 20 operators: compiled C equals the interpreter, and every stage keeps its rules."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis.strategies import integers, just, none, one_of, sampled_from

from penjing import api
from penjing.core.errors import CalibrationError, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.parse import parse_graph
from penjing.ir.passes import Pass, PassResult
from penjing.ir.text import print_graph
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.evaluate import evaluate
from penjing.ops.floats import float_rule
from penjing.ops.layers import layer_nodes
from penjing.ops.operator import FloatRule
from penjing.program import lower as lowering
from penjing.program.interpret import interpret
from penjing.program.plan import plan
from penjing.program.simplify import FoldTransposeIntoLinear
from penjing.testing.isas import runnable_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.plan_check import plan_problems
from penjing.testing.random_graphs import RandomGraph, batch_norm_graphs, drawn_operators, flatten_graphs, float_graphs
from penjing.toolchain import host_target
from penjing.vector.prepare import prepare

SAMPLES = 6
HOST = host_target()
ISAS = runnable_isas(HOST)
KEPT = one_of(just(0), integers(0, 2**20))  # which layers are kept in float32
# graphs are large examples, and building one takes many draws
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def lowered(random: RandomGraph, in_float: int = 0) -> Graph | None:
    """The program of a random graph; None when its numbers leave float32, which calibration must refuse.

    Of its layers that can be kept in float32, those are whose bits in `in_float` are set.
    """
    try:
        with np.errstate(all="ignore"):
            cleaned = api.clean(random.graph)
            able = [layer.weight for layer in layer_nodes(cleaned) if float_rule(layer.node) is FloatRule.KEPT]
            unable = {layer.weight for layer in layer_nodes(cleaned) if float_rule(layer.node) is not FloatRule.KEPT}
            names = [name for name in dict.fromkeys(able) if name not in unable]
            keep = [name for i, name in enumerate(names) if in_float >> i & 1]
            program = api.lower(api.quantize(cleaned, [random.batch], observer="min-max", keep_float=keep))
    except (CalibrationError, QuantizationError) as error:
        event(type(error).__name__)
        return None
    event("lowered")
    note(print_graph(program))
    return program


@pytest.mark.slow
@patient
@given(float_graphs(), sampled_from(ISAS) if ISAS else none(), KEPT)
def test_compiled_c_equals_the_interpreter(random, isa, in_float):
    program = lowered(random, in_float)
    if program is None:
        return
    samples = corner_samples(program, np.random.default_rng(len(program.nodes)), SAMPLES)
    report = run_model_suite(program, samples, HOST, optimize="-O1", isas=None if isa is None else (isa,))
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes <= report.planned_bytes <= prepare(program, HOST).plan.arena_bytes


@patient
@given(float_graphs(), KEPT)
def test_every_plan_is_sound(random, in_float):
    program = lowered(random, in_float)
    if program is not None:
        assert plan_problems(program, plan(program)) == []
        prepared = prepare(program, HOST)
        assert plan_problems(prepared.program, prepared.plan) == []


def round_trip(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    again = parse_graph(text, {name: constant.array for name, constant in graph.constants.items()}, registry())
    verify(again)
    assert print_graph(again) == text


@patient
@given(float_graphs())
def test_every_stage_prints_and_parses_back(random):
    round_trip(random.graph)
    round_trip(api.clean(random.graph))
    program = lowered(random)
    if program is not None:
        with np.errstate(all="ignore"):
            round_trip(api.quantize(random.graph, [random.batch], observer="min-max"))
        round_trip(program)


@patient
@given(batch_norm_graphs())
def test_folding_batch_norm_keeps_the_meaning(random):
    folded = api.clean(random.graph)
    event(f"{len(random.graph.nodes) - len(folded.nodes)} folded")
    with np.errstate(all="ignore"):
        before, after = (evaluate(graph, *random.batch) for graph in (random.graph, folded))
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        if np.isfinite(a).all():
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


class _Nothing(Pass):
    """In the place of a pass, to see a program without it."""

    name = "nothing"

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph)


@patient
@given(flatten_graphs())
def test_folding_a_transpose_into_a_linear_layer_changes_no_byte(random):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "FoldTransposeIntoLinear", _Nothing)
        program = lowered(random)
    if program is None:
        return
    result = FoldTransposeIntoLinear().run(program)
    verify(result.graph)
    event(f"{len(result.changed)} changed")
    for sample in corner_samples(program, np.random.default_rng(0), SAMPLES):
        for a, b in zip(interpret(program, *sample), interpret(result.graph, *sample), strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_operator_of_the_registry_is_drawn():
    drawn: set[str] = set()
    refused = 0

    @settings(patient, max_examples=300, database=None)
    @given(float_graphs())
    def draw(random: RandomGraph) -> None:
        nonlocal refused
        drawn.update(node.op.name for node in random.graph.nodes)
        refused += lowered(random) is None

    draw()
    missing = set(drawn_operators()) - drawn
    assert not missing, f"never drawn: {sorted(missing)}"
    assert refused <= 30, f"{refused} of 300 graphs could not be lowered"
    print(f"{len(drawn)} operators drawn, {refused} graphs refused", file=sys.stderr)
