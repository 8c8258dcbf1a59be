"""Programs with states, compiled: every call of a session gives the interpreter's bytes, in every form of a library."""

import dataclasses

import pytest

from penjing import api
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.plan_check import plan_problems
from penjing.testing.stateful import STATEFUL, sequences
from penjing.toolchain import host_target
from penjing.vector.prepare import prepare

HOST = host_target()
PLAIN = dataclasses.replace(HOST, isas=())
CALLS = 12

ones = pytest.mark.parametrize("name", sorted(STATEFUL.keys() - {"streamed"}))  # see test_sequences_in_pieces_do_too


def checked(program, rng, target, **options):
    threads = options.get("threads", 1)
    assert plan_problems(prepare(program, target, threads).program, prepare(program, target, threads).plan) == []
    report = run_model_suite(program, corner_samples(program, rng, CALLS), target, optimize="-O1", **options)
    assert report.problems == ()


@ones
@pytest.mark.skipif(not native_isas(HOST), reason="this processor has none of the instruction sets")
def test_calls_shared_by_threads_give_the_interpreters_bytes_on_every_instruction_set(name, rng):
    checked(STATEFUL[name](), rng, HOST, threads=2)


@pytest.mark.parametrize("name", ("elman", "delay"))
def test_a_library_that_holds_its_weights_does_too(name, rng):
    checked(STATEFUL[name](), rng, PLAIN, standalone=True)


@ones
def test_plain_calls_do_too_and_touch_no_byte_beside_the_states(name, rng, sanitize):
    checked(STATEFUL[name](), rng, PLAIN, extra_flags=sanitize)


@pytest.mark.parametrize("steps", (1, 5))
def test_sequences_in_pieces_do_too(steps, rng, sanitize):
    checked(api.lower(api.stream(sequences(), steps=steps)), rng, PLAIN, extra_flags=sanitize)
