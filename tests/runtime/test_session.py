"""Sessions: calls that go on from each other, the same with any engine, saved and taken up."""

from functools import cache

import numpy as np
import pytest

from penjing import api
from penjing.bundle.tray import read_tray
from penjing.core.errors import InvalidInput
from penjing.ops.embedding import id_rows
from penjing.program.interpret import interpret, interpret_step
from penjing.program.states import initial_states
from penjing.runtime.loading import from_tray
from penjing.testing.stateful import STATEFUL, sequences

ENGINES = ("interpreter", "library")


@cache
def built(name):
    program = STATEFUL[name]()
    return program, read_tray(api.build(program, api.BuildOptions(with_source=False)))


@pytest.fixture(scope="module")
def models():
    _, tray = built("elman")
    return {engine: from_tray(tray, engine=engine) for engine in ENGINES}


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).normal(size=(30, 1, 8)).astype(np.float32)


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("engine", ENGINES)
def test_steps_are_those_of_the_program(name, engine):
    program, tray = built(name)
    session = from_tray(tray, engine=engine).session()
    states, rng, rows = initial_states(program), np.random.default_rng(2), id_rows(program)
    kinds = [(rows[x], np.int32) if x in rows else (256, np.uint8) for x in program.inputs]
    shapes = [(1, *program.types[x].bounds[1:]) for x in program.inputs]
    for _ in range(8):
        codes = [rng.integers(0, n, shape, kind) for (n, kind), shape in zip(kinds, shapes, strict=True)]
        wanted, states = interpret_step(program, states, *codes)
        for got, want in zip(session.step_codes(*codes), wanted, strict=True):
            assert np.array_equal(got, want)


def test_the_window_of_a_stream_computes_what_the_whole_sequence_does(models):
    """y of every pair of frames is the convolution over the last five, zeros before the first."""
    program, tray = built("window")
    session = from_tray(tray, engine="library").session()
    zero = program.types["x"].quant.zero_point
    stream = np.random.default_rng(3).integers(0, 256, (1, 6, 20), np.uint8)
    padded = np.concatenate([np.full((1, 6, 4), zero, np.uint8), stream], axis=2)
    for at in range(0, 20, 2):
        (y,) = session.step_codes(np.ascontiguousarray(stream[:, :, at : at + 2]))
        window = initial_states(program)
        for part in (padded[:, :, at : at + 2], padded[:, :, at + 2 : at + 4]):  # the window, filled from its start
            _, window = interpret_step(program, window, np.ascontiguousarray(part))
        (want,), _ = interpret_step(program, window, np.ascontiguousarray(padded[:, :, at + 4 : at + 6]))
        assert np.array_equal(y, want)


@pytest.fixture(scope="module")
def offline():
    return api.lower(sequences())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_gives_the_bytes_of_whole_sequences(engine, offline):
    session, rng = from_tray(built("streamed")[1], engine=engine).session(), np.random.default_rng(4)
    for x in (*rng.integers(0, 256, (20, 1, 15, 3), np.uint8), np.zeros((1, 15, 3), np.uint8)):
        session.reset()
        got = [session.step_codes(np.ascontiguousarray(x[:, at : at + 3]))[0] for at in range(0, 15, 3)]
        assert (np.concatenate(got, axis=1) != interpret(offline, x)[0]).sum() == 0


def test_a_stream_is_saved_in_mid_sequence_and_goes_on_elsewhere(offline):
    model, other = (from_tray(built("streamed")[1], engine=engine) for engine in ENGINES)
    x = np.random.default_rng(5).integers(0, 256, (1, 15, 3), np.uint8)
    parts = [np.ascontiguousarray(x[:, at : at + 3]) for at in range(0, 15, 3)]
    (want,) = interpret(offline, x)
    session = model.session()
    got = [session.step_codes(part)[0] for part in parts[:2]]
    saved = session.save()
    assert len(saved) == 32 + sum(state.type.nbytes for state in model.engine.program.states.values())
    session.step_codes(parts[0])  # what comes after does not count
    for again in (other.session(), model.session()):
        again.restore(saved)
        rest = [again.step_codes(part)[0] for part in parts[2:]]
        np.testing.assert_array_equal(np.concatenate([*got, *rest], axis=1), want)


def test_a_stream_in_pieces_of_another_length_is_another_model():
    model = from_tray(built("streamed")[1], engine="interpreter")
    options = api.BuildOptions(targets=(), with_source=False)
    longer = read_tray(api.build(api.lower(api.stream(sequences(), steps=5)), options))
    with pytest.raises(InvalidInput, match="no session of this model"):
        from_tray(longer, engine="interpreter").session().restore(model.session().save())


def test_engines_agree_on_reals_and_reset_begins_anew(models, frames):
    a, b = (models[engine].session() for engine in ENGINES)
    first = [a.step(frame) for frame in frames]
    assert all(np.array_equal(y, b.step(frame)[0]) for (y, _), frame in zip(first, frames, strict=True))
    assert a.steps == len(frames)
    assert not np.array_equal(a.step(frames[0])[0], first[0][0])  # it remembers
    a.reset()
    assert a.steps == 0
    assert np.array_equal(a.step(frames[0])[0], first[0][0])


def test_two_sessions_of_one_model_do_not_disturb_each_other(models, frames):
    model = models["library"]
    alone = [y for y, _ in map(model.session().step, frames[:10])]
    a, b = model.session(), model.session()
    for i in range(10):
        y, _ = a.step(frames[i])
        b.step(frames[-1 - i])
        assert np.array_equal(y, alone[i])


def test_run_takes_every_sample_as_a_first_call(models, frames):
    for model in models.values():
        y, _ = model.run(frames[:6, 0])
        for i in range(6):
            assert np.array_equal(y[i : i + 1], model.session().step(frames[i])[0])


def test_the_bound_memory_goes_on_until_it_is_reset(models, frames):
    bound = models["library"].bind(reals=True)
    wanted = [y for y, _ in map(models["library"].session().step, frames[:5])]
    for _ in range(2):
        bound.reset()
        for frame, want in zip(frames, wanted, strict=False):
            bound.inputs[0][...] = frame
            bound.run()
            assert np.array_equal(bound.outputs[0], want)


def test_a_saved_session_goes_on_with_any_engine(models, frames):
    a, b = (models[engine].session() for engine in ENGINES)
    for frame in frames[:7]:
        a.step(frame)
    saved = a.save()
    assert len(saved) == 32 + 12
    b.restore(saved)
    for frame in frames[7:]:
        assert np.array_equal(a.step(frame)[0], b.step(frame)[0])


def test_the_self_test_is_one_session(models):
    for model in models.values():
        assert model.self_test() == 0
    golden = models["library"].tray.golden("default")
    apart = models["library"].run_codes(*golden.inputs)
    assert not np.array_equal(apart[0], golden.outputs[0])


@pytest.mark.parametrize("change", (lambda s: s[:-1], lambda s: s + b"\0", lambda s: bytes(32) + s[32:], lambda _: b""))
def test_what_is_no_session_of_this_model_is_refused_and_changes_nothing(models, frames, change):
    session = models["library"].session()
    session.step(frames[0])
    saved = session.save()
    with pytest.raises(InvalidInput, match="session"):
        session.restore(change(saved))
    assert session.save() == saved


def test_the_session_of_a_model_with_other_weights_is_refused(models, frames):
    other = from_tray(built("average")[1], engine="interpreter").session()
    with pytest.raises(InvalidInput, match="no session of this model"):
        models["library"].session().restore(other.save())


def test_a_model_without_states_has_no_session(model_without_states):
    with pytest.raises(InvalidInput, match="carries nothing from call to call"):
        model_without_states.session()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_takes_one_sample_at_a_time(models, engine):
    with pytest.raises(InvalidInput, match="one sample"):
        models[engine].session().step(np.zeros((2, 8), np.float32))
    with pytest.raises(InvalidInput, match="shape"):
        models[engine].session().step(np.zeros((1, 9), np.float32))
    with pytest.raises(InvalidInput, match="NaN"):
        models[engine].session().step(np.full((1, 8), np.nan, np.float32))
    with pytest.raises(InvalidInput):
        models[engine].session().step_codes(np.zeros((1, 8), np.int8))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_that_is_full_says_so_stays_as_it_was_and_can_begin_anew(engine):
    model = from_tray(built("decoder")[1], engine=engine)
    session, ids = model.session(), np.arange(41, dtype=np.int32).reshape(41, 1, 1) % 9
    first = session.step(ids[0])
    for one in ids[1:38]:
        session.step(one)
    near = session.save()
    answers = [session.step(one) for one in ids[38:40]]
    full = session.save()
    with pytest.raises(InvalidInput, match="40 steps is at step 40: there is no room") as caught:
        session.step(ids[40])
    assert "reset the session" in caught.value.hint and session.save() == full and session.steps == 40
    session.restore(near)
    assert all(np.array_equal(session.step(one), answer) for one, answer in zip(ids[38:40], answers, strict=True))
    session.reset()
    assert np.array_equal(session.step(ids[0]), first)


def test_the_librarys_own_memory_is_full_too():
    model = from_tray(built("decoder")[1], engine="library")
    for bound in (model.bind(), model.bind(reals=True)):
        bound.reset()
        bound.inputs[0][...] = 3
        for _ in range(40):
            bound.run()
        last = bound.outputs[0].copy()
        with pytest.raises(InvalidInput, match="no room for more steps"):
            bound.run()
        assert np.array_equal(bound.outputs[0], last)
        bound.reset()
        bound.run()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("position", (40, 2**31 - 1, -1, -(2**31)))
def test_a_forged_position_reads_and_writes_nothing(engine, position):
    program, tray = built("decoder")
    session = from_tray(tray, engine=engine).session()
    assert next(iter(program.states)) == "position"
    saved = session.save()
    session.restore(saved[:32] + np.int32(position).tobytes() + saved[36:])
    with pytest.raises(InvalidInput, match=f"at step {position}: there is no room"):
        session.step(np.zeros((1, 1), np.int32))


def test_the_manifest_says_what_a_session_needs(models):
    for model in models.values():
        assert model.tray.variant("default").session_bytes == 2 * 64


@pytest.fixture
def model_without_states(tray):
    return from_tray(read_tray(tray.read_bytes()), engine="interpreter")
