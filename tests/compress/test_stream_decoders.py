"""Causal attention, step by step from a cache: every byte is that of the whole sequence, or it is refused."""

import numpy as np
import pytest

from penjing import api
from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.types import Type
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.attend import Attend
from penjing.ops.matmul import Matmul
from penjing.ops.permute import Permute
from penjing.ops.rotary import Rotary
from penjing.ops.slice import Select
from penjing.ops.softmax import Softmax
from penjing.program.interpret import interpret, interpret_samples, interpret_step
from penjing.program.plan import plan
from penjing.program.states import initial_states, most_calls
from penjing.testing.decoders import TOKENS, Form, decoder_network, quantized_decoder
from penjing.testing.networks import Network, batches
from penjing.testing.plan_check import plan_problems

STEPS = 7
FORMS = {
    "grouped": Form(),
    "alone": Form(groups=3, queries=1, interleaved=True),
    "one group": Form(groups=1, queries=3, learned=True),
    "learned": Form(rotary=False, learned=True),
    "biased": Form(rotary=False, biased=True),
    "nowhere": Form(rotary=False),
}


def ids(count=1, seed=0):
    return np.random.default_rng(seed).integers(0, TOKENS, (count, STEPS)).astype(np.int32)


def pieces(x, steps):
    return np.concatenate([x[:, at : at + steps] for at in range(0, x.shape[1] - steps + 1, steps)])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_steps_joined_are_the_whole_byte_for_byte(form):
    graph = quantized_decoder(form, STEPS)
    offline = api.lower(graph)
    for steps in (1, 3, STEPS):
        program = api.lower(api.stream(graph, steps=steps))
        assert plan_problems(program, plan(program)) == []
        for seed in range(3):
            x = ids(seed=seed)
            (want,), (got,) = interpret(offline, x), interpret_samples(program, pieces(x, steps))
            joined = got.reshape(1, -1, TOKENS)
            assert (joined != want[:, : joined.shape[1]]).sum() == 0
            assert len({row.tobytes() for row in joined[0]}) > 1


def test_one_call_may_be_all_that_there_is_room_for():
    """Golden vectors, which go on from each other, are no more than there is room for."""
    program = api.lower(api.stream(quantized_decoder(Form(), STEPS), steps=STEPS))
    golden = api.assemble(program, api.BuildOptions(targets=())).variants["default"].golden
    assert [len(x) for x in (*golden.inputs, *golden.outputs)] == [1, 1]


def test_a_prefill_and_steps_after_it_share_their_states():
    graph = quantized_decoder(FORMS["grouped"], STEPS)
    programs = {n: api.lower(api.stream(graph, steps=n)) for n in (1, 4)}
    x = ids()
    (want,) = interpret(api.lower(graph), x)
    states, at, got = initial_states(programs[1]), 0, []
    for n in (4, 1, 1, 1):
        (y,), states = interpret_step(programs[n], states, x[:, at : at + n])
        got, at = [*got, y], at + n
    np.testing.assert_array_equal(np.concatenate(got, axis=1), want)


def test_samples_side_by_side_stand_at_positions_of_their_own():
    program = api.lower(api.stream(quantized_decoder(FORMS["one group"], STEPS)))
    x = ids(2)
    alone = initial_states(program)
    _, ahead = interpret_step(program, alone, x[:1, :1])
    both = {name: np.concatenate([ahead[name], alone[name]]) for name in alone}
    (got,), _ = interpret_step(program, both, x[:, 1:2])
    for i, states in enumerate((ahead, alone)):
        np.testing.assert_array_equal(got[i : i + 1], interpret_step(program, states, x[i : i + 1, 1:2])[0][0])


def test_the_last_logits_alone_can_be_the_answer():
    graph = decoder_network(FORMS["grouped"], STEPS)
    last = graph.add_node(Select(1, STEPS - 1), graph.outputs, ("last",)).output
    graph.outputs = (last,)
    graph = api.quantize(graph, list(batches(graph, 16)), observer="min-max")
    (got,) = interpret_samples(api.lower(api.stream(graph)), pieces(ids(), 1))
    np.testing.assert_array_equal(got[-1:], interpret(api.lower(graph), ids())[0])


@pytest.mark.parametrize("steps", (1, 3))
def test_a_full_cache_is_an_error_that_changes_nothing(steps):
    program = api.lower(api.stream(quantized_decoder(FORMS["grouped"], STEPS), steps=steps))
    states, x = initial_states(program), ids()
    assert most_calls(program) == STEPS // steps
    for _ in range(STEPS // steps):
        _, states = interpret_step(program, states, x[:, :steps])
    before = {name: codes.copy() for name, codes in states.items()}
    with pytest.raises(InvalidInput, match=f"a session of {STEPS} steps is at step {STEPS // steps * steps}") as caught:
        interpret_step(program, states, x[:, :steps])
    assert "reset" in caught.value.hint
    assert all(np.array_equal(states[name], before[name]) for name in states)


def test_keys_and_values_of_a_layer_are_written_where_they_lie():
    program = api.lower(api.stream(quantized_decoder(FORMS["grouped"], STEPS)))
    memory = plan(program)
    kinds = sorted((str(s.type.dtype), s.type.bounds) for s in program.states.values())
    assert kinds == [("s32", (1, 1)), *[("u8", (1, 2, 1, 4, 7))] * 2, *[("u8", (1, 2, 1, 7, 4))] * 2]
    caches = [s for s in program.states.values() if s.type.elements > 1]
    assert all(memory.places[s.update].base == "state" for s in caches)
    assert memory.session_bytes == 64 * 5 + 64  # the position, four caches, and the next position
    for name in program.states:
        moved = [node.op.name for node in program.users()[name]]
        assert set(moved) <= {"q_append", "q_advance", "q_matmul", "q_attend", "q_rotary"}


def test_layers_that_read_the_same_keys_share_a_cache():
    net = Network("shared")
    x = net.input(STEPS, 4)
    keys = net.node(Permute((0, 2, 1)), net.linear(x, 4, out="k"), out="kt")
    values = net.linear(x, 3, out="v")
    for k in range(2):
        scores = net.node(Matmul(), net.linear(x, 4, out=f"q{k}"), keys, out=f"scores{k}")
        net.node(Attend(True), scores, values, out=f"y{k}")
    graph = net.done("y0", "y1")
    graph = api.quantize(graph, list(batches(graph, 8)))
    streamed = api.stream(graph)
    assert len(streamed.states) == 3
    x = np.random.default_rng(0).integers(0, 256, (1, STEPS, 4), np.uint8)
    results = zip(interpret_samples(api.lower(streamed), pieces(x, 1)), interpret(api.lower(graph), x), strict=True)
    for got, want in results:
        np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_attention_to_what_is_given_streams_without_a_cache():
    net = Network("cross")
    x, memory = net.input(STEPS, 4), net.input(5, 4, name="memory")
    keys = net.node(Permute((0, 2, 1)), net.linear(memory, 4, out="k"), out="kt")
    scores = net.node(Matmul(0.5), net.linear(x, 4, out="q"), keys, out="scores")
    graph = net.done(net.node(Attend(), scores, net.linear(memory, 3, out="v"), out="y"))
    graph = api.quantize(graph, list(batches(graph, 8)))
    streamed = api.stream(graph, axis={"x": 1})
    assert not streamed.states
    rng = np.random.default_rng(0)
    x, memory = (rng.integers(0, 256, (1, n, 4), np.uint8) for n in (STEPS, 5))
    (got,) = interpret(api.lower(streamed), pieces(x, 1), np.repeat(memory, STEPS, axis=0))
    np.testing.assert_array_equal(got.reshape(1, STEPS, 3), interpret(api.lower(graph), x, memory)[0])


def test_streams_with_caches_are_written_and_read_as_text():
    graph = api.stream(quantized_decoder(FORMS["learned"], STEPS), steps=2)
    for one in (graph, api.lower(graph)):
        verify(one)
        text = print_graph(one)
        arrays = {name: constant.array for name, constant in one.constants.items()}
        assert print_graph(parse_graph(text, arrays, registry())) == text


def attended(net, x, op=None, keys=None, between=None):
    """Attention with one head."""
    kt = net.node(Permute((0, 2, 1)), keys or net.linear(x, 4, out="k"), out="kt")
    scores = net.node(Matmul(), net.linear(x, 4, out="q"), kt, out="scores")
    return net.node(op or Attend(True), between(scores) if between else scores, net.linear(x, 4, out="v"), out="y")


def masked(net, x):
    near = np.tri(STEPS) - np.tri(STEPS, k=-2)
    kt = net.node(Permute((0, 2, 1)), x, out="kt")
    return net.node(Attend(), net.node(Matmul(), x, kt, out="scores"), x, net.constant("near", near), out="y")


def by_hand(net, x):
    kt = net.node(Permute((0, 2, 1)), x, out="kt")
    p = net.node(Softmax(2), net.node(Matmul(), x, kt, out="scores"), out="p")
    return net.node(Matmul(), p, x, out="y")


def values_of_others(net, x):
    kt = net.node(Permute((0, 2, 1)), x, out="kt")
    return net.node(Attend(True), net.node(Matmul(), x, kt, out="scores"), net.input(STEPS, 4, name="z"), out="y")


def gram(net, x):
    return net.node(Matmul(), net.node(Permute((0, 2, 1)), x, out="xt"), x, out="y")


def causal_to_others(net, x):
    kt = net.node(Permute((0, 2, 1)), net.input(STEPS, 4, name="z"), out="kt")
    return net.node(Attend(True), net.node(Matmul(), x, kt, out="scores"), net.linear("z", 4, out="v"), out="y")


def turned_in_time(net, x):
    tables = [net.constant(name, net.rng.normal(size=(4, 6))) for name in ("cos", "sin")]
    line = net.node(Permute((0, 2, 1)), net.linear(x, 4, out="fc"), out="line")
    return net.node(Rotary(1), line, *tables, out="y")


REFUSED = {
    (lambda net, x: attended(net, x, Attend())): "attends to others than those up to it",
    masked: "attends to others than those up to it",
    by_hand: "scores of steps with all those before",
    values_of_others: "not those of the steps",
    gram: "sums over all steps",
    causal_to_others: "what they attend to is not",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_what_needs_the_future_is_refused_by_name(build):
    net = Network("refused")
    graph = net.done(build(net, net.input(STEPS, 4)))
    graph = api.quantize(graph, list(batches(graph, 8)))
    with pytest.raises(UnsupportedOp, match=f"cannot be streamed.*{REFUSED[build]}") as caught:
        api.stream(graph, axis={"x": 1})
    assert caught.value.where.startswith("node ")


def test_a_rotation_of_features_that_are_steps_is_refused():
    net = Network("refused")
    x = net.input(6, 4)
    graph = net.done(turned_in_time(net, x))
    graph = api.quantize(graph, list(batches(graph, 8)))
    with pytest.raises(UnsupportedOp, match="turns pairs of axis 2, which is time"):
        api.stream(graph)


def test_more_steps_than_a_cache_holds_are_refused():
    with pytest.raises(InvalidInput, match=f"{STEPS + 1} steps, of sequences of {STEPS}"):
        api.stream(quantized_decoder(FORMS["nowhere"], STEPS), steps=STEPS + 1)


def test_a_cache_for_several_samples_at_once_is_refused():
    net = Network("three")
    x = net.graph.add_input("x", Type((3, STEPS, 4)))
    graph = net.done(attended(net, x))
    graph = api.quantize(graph, [np.random.default_rng(0).normal(size=(3, STEPS, 4)).astype(np.float32)])
    with pytest.raises(UnsupportedOp, match="a batch of 3"):
        api.stream(graph)
