"""Sequences of any length: one library computes each at its own length, and every byte is the interpreter's."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidInput
from penjing.core.length import Length
from penjing.emit.c import steps
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret
from penjing.program.lengths import Polynomial, node_fields
from penjing.runtime.loading import load
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.plan_check import plan_problems
from penjing.toolchain import host_target
from penjing.vector.prepare import prepare

torch = pytest.importorskip("torch")

LONGEST, FEATURES = 19, 12
HOST = host_target()
PLAIN = dataclasses.replace(HOST, isas=())
LEAST_DB = 20.0  # of random layers on random data: 23 to 30 dB measured at the lengths below


class Encoder(torch.nn.Module):
    """Positions, layers of self-attention, and what is made of them: of one step, the mean of all, of each step."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.positions = torch.nn.Embedding(LONGEST + 4, FEATURES)  # more than the bound
        self.register_buffer("ids", torch.arange(LONGEST + 4)[None])
        layer = torch.nn.TransformerEncoderLayer(FEATURES, 2, 20, activation="gelu", batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 1 if causal else 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(FEATURES, 5)
        self.causal = causal

    def forward(self, x):
        steps = x.size(1)
        mask = torch.full((steps, steps), -torch.inf).triu(1) if self.causal else None
        y = self.layers(x + self.positions(self.ids[:, :steps]), mask=mask, is_causal=self.causal)
        return self.head(y[:, -1 if self.causal else 0]), torch.softmax(y.transpose(1, 2), -1).mean(2), torch.tanh(y)


def sequences(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, length, FEATURES)).astype(np.float32)


def captured(causal: bool = False):
    return api.capture(Encoder(causal), sequences(2, 7), name="encoder", length=Length(LONGEST))


@pytest.fixture(scope="module")
def network():
    return captured()


@pytest.fixture(scope="module")
def program(network):
    return api.lower(api.quantize(network, [sequences(8, n, n) for n in (LONGEST, 1, 8)]))


@pytest.fixture(scope="module")
def tray(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("lengths") / "encoder.tray"
    api.save(api.build(program), path)
    return path


@pytest.mark.parametrize("length", (1, 2, 7, LONGEST))
def test_the_program_stays_near_the_network_at_every_length(network, program, length):
    x = sequences(16, length, 100 + length)
    source = program.types[program.inputs[0]].quant
    want, got = evaluate(network, x), interpret(program, quantize(x, source.scale, source.zero_point))
    for name, real, codes in zip(program.outputs, want, got, strict=True):
        quant = program.types[name].quant
        error = dequantize(codes, quant.scale, quant.zero_point) - real
        spread = np.square(real).sum() / np.square(error).sum()
        assert codes.shape == real.shape
        assert 10 * np.log10(spread) > LEAST_DB, (name, 10 * np.log10(spread))


def test_a_sequence_is_computed_as_by_a_network_of_its_own_length(program):
    """Which has no length at all: nothing of the bound is left in the bytes."""
    for length in (1, 4, LONGEST):
        fixed = program.copy()
        fixed.types = {name: _fixed(type_, length) for name, type_ in program.types.items()}
        x = np.random.default_rng(1).integers(0, 256, size=(2, length, FEATURES), dtype=np.uint8)
        for one, other in zip(interpret(program, x), interpret(fixed, x), strict=True):
            np.testing.assert_array_equal(one, other)


def _fixed(type_, length):
    return type_.with_shape(tuple(length if str(n).startswith("length") else n for n in type_.shape))


def test_plain_c_gives_the_interpreters_bytes_at_many_lengths_and_touches_no_other(rng, sanitize):
    program = api.lower(api.quantize(captured(causal=True), [sequences(8, LONGEST)]))
    prepared = prepare(program, PLAIN)
    assert plan_problems(prepared.program, prepared.plan) == []
    report = run_model_suite(
        program, corner_samples(program, rng, 12), PLAIN, optimize="-O1", extra_flags=sanitize, standalone=True
    )
    assert report.problems == ()


@pytest.mark.parametrize("isa", native_isas(HOST))
def test_so_does_every_instruction_set_at_every_length(tray, program, isa, monkeypatch):
    monkeypatch.setenv("PENJING_ISA", isa)
    model = load(tray, engine="library")
    assert isa in model.engine.name
    for length in range(1, LONGEST + 1):
        x = np.random.default_rng(length).integers(0, 256, size=(2, length, FEATURES), dtype=np.uint8)
        for got, want in zip(model.run_codes(x), interpret(program, x), strict=True):
            np.testing.assert_array_equal(got, want)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, LONGEST), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_loaded_model_takes_any_length_in_any_order(tray, length, count, seed):
    model, oracle = _loaded(tray)
    x = np.random.default_rng(seed).normal(size=(count, length, FEATURES)).astype(np.float32)
    for got, want, shape in zip(model.run(x), oracle.run(x), ((5,), (FEATURES,), (length, FEATURES)), strict=True):
        assert got.shape == (count, *shape)
        np.testing.assert_array_equal(got, want)


_LOADED = {}


def _loaded(tray):
    if tray not in _LOADED:
        _LOADED[tray] = load(tray), load(tray, engine="interpreter")
    return _LOADED[tray]


@pytest.mark.parametrize("engine", ("library", "interpreter"))
def test_a_length_that_is_none_is_refused_with_the_bound(tray, engine):
    model = load(tray, engine=engine)
    for length in (0, LONGEST + 1):
        with pytest.raises(InvalidInput, match=f"1 to {LONGEST}, {FEATURES}"):
            model.run(np.zeros((1, length, FEATURES), np.float32))
        with pytest.raises(InvalidInput, match=f"1 to {LONGEST}"):
            model.run_codes(np.zeros((1, length, FEATURES), np.uint8))


def test_bound_memory_is_that_of_its_length(tray):
    model, _ = _loaded(tray)
    short, whole = model.bind(length=3), model.bind()
    assert [x.shape for x in (short.inputs[0], whole.inputs[0])] == [(1, 3, FEATURES), (1, LONGEST, FEATURES)]
    x = np.random.default_rng(3).integers(0, 256, size=(1, 3, FEATURES), dtype=np.uint8)
    short.inputs[0][...] = x
    short.run()
    np.testing.assert_array_equal(short.outputs[2], model.run_codes(x)[2])
    for length in (0, LONGEST + 1, 2.0, True):
        with pytest.raises(InvalidInput, match=f"1 to {LONGEST}"):
            model.bind(length=length)


def test_golden_vectors_are_of_several_lengths_and_find_a_wrong_byte(tray):
    model, _ = _loaded(tray)
    golden = model.tray.golden(model.variant)
    lengths = [len(group.inputs[0][0]) for _, group in golden.groups()]
    assert lengths == [LONGEST, 1, LONGEST // 2]
    assert model.self_test() == 0


def test_a_wrong_polynomial_is_found(program, rng, monkeypatch):
    """One more row for short sequences in each node that counts rows: no sample of the longest could tell."""

    def wrong(*args):
        found = node_fields(*args)
        return found | {field: _more(p) for field, p in found.items() if field == "rows"}

    def _more(p):
        return Polynomial(p.a + LONGEST, p.b - 1, p.c)

    monkeypatch.setattr(steps, "node_fields", wrong)
    report = run_model_suite(program, corner_samples(program, rng, 5), PLAIN, optimize="-O0")
    assert report.problems != ()


def test_several_threads_are_refused(program):
    with pytest.raises(InvalidInput, match="threads for sequences of any length"):
        api.build(program, api.BuildOptions(threads=2))
