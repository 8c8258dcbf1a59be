"""Recurrent layers and convolutions along a length: one library runs as many steps as there are, exactly."""

import dataclasses

import numpy as np
import pytest

from penjing import api
from penjing.core.length import Length
from penjing.ir.types import is_length
from penjing.program.interpret import interpret
from penjing.runtime.loading import load
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.toolchain import host_target

torch = pytest.importorskip("torch")

LONGEST, FEATURES = 27, 5  # more than the 24 steps whose inputs kernels multiply at once
HOST = host_target()
PLAIN = dataclasses.replace(HOST, isas=())


class Tagger(torch.nn.Module):
    """A tag for each step, by windows and layers that read both ways; one answer from the states at the ends."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.windows = torch.nn.Sequential(
            torch.nn.Conv1d(FEATURES, 40, 5, padding=2),
            torch.nn.ReLU(),
            torch.nn.Conv1d(40, 40, 3, padding=2, dilation=2, groups=40),
            torch.nn.Conv1d(40, 9, 1),
        )
        self.lstm = torch.nn.LSTM(9, 6, batch_first=True, bidirectional=True)
        self.gru = torch.nn.GRU(12, 17, batch_first=True, bidirectional=True)
        self.plain = torch.nn.RNN(34, 7, batch_first=True)
        self.head = torch.nn.Linear(7, 4)

    def forward(self, x):
        y, (_, cell) = self.lstm(self.windows(x.transpose(1, 2)).transpose(1, 2))
        y, last = self.gru(y)
        return self.head(self.plain(y)[0]), torch.cat([*cell, *last], 1)


def sequences(count, length, seed=0):
    return np.random.default_rng(seed).normal(size=(count, length, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def program():
    graph = api.capture(Tagger().eval(), sequences(2, 7), name="tagger", length=Length(LONGEST))
    return api.lower(api.quantize(graph, [sequences(8, n, n) for n in (LONGEST, 1, 8)]))


def test_a_sequence_is_computed_as_by_a_network_of_its_own_length(program):
    for length in (1, 4, 25, LONGEST):
        fixed = program.copy()
        fixed.types = {name: _fixed(type_, length) for name, type_ in program.types.items()}
        x = np.random.default_rng(1).integers(0, 256, size=(2, length, FEATURES), dtype=np.uint8)
        for one, other in zip(interpret(program, x), interpret(fixed, x), strict=True):
            np.testing.assert_array_equal(one, other)


def _fixed(type_, length):
    return type_.with_shape(tuple(length if is_length(extent) else extent for extent in type_.shape))


def test_the_reverse_direction_begins_at_the_end_that_there_is(program):
    """What follows a sequence in a longer one changes its answers: they have read it."""
    x = np.random.default_rng(2).integers(0, 256, size=(1, LONGEST, FEATURES), dtype=np.uint8)
    short, long = interpret(program, x[:, :9]), interpret(program, x)
    assert not np.array_equal(short[0], long[0][:, :9])
    assert short[0].shape == (1, 9, 4)


def test_every_instruction_set_gives_the_interpreters_bytes_at_every_length(program, tmp_path, monkeypatch):
    api.save(api.build(program), tmp_path / "tagger.tray")
    for isa in native_isas(HOST):
        monkeypatch.setenv("PENJING_ISA", isa)
        model = load(tmp_path / "tagger.tray", engine="library")
        assert isa in model.engine.name
        assert model.self_test() == 0
        for length in range(1, LONGEST + 1):
            x = np.random.default_rng(length).integers(0, 256, size=(3, length, FEATURES), dtype=np.uint8)
            for got, want in zip(model.run_codes(x), interpret(program, x), strict=True):
                assert (got != want).sum() == 0, (isa, length)


def test_so_does_plain_c(program, rng):
    report = run_model_suite(program, corner_samples(program, rng, 12), PLAIN, optimize="-O1")
    assert report.problems == ()
