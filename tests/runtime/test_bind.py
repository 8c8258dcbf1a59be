"""A bound model: the library's own memory, without copies; and one call shared by threads."""

import gc

import numpy as np
import pytest

import penjing.runtime
from penjing import api
from penjing.bundle.tray import read_tray
from penjing.core.errors import BundleError, InvalidInput
from penjing.core.targets import host_target
from penjing.runtime.loading import from_tray


def codes_of(model, count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *model.inputs[0].shape[1:]), dtype=np.uint8)


def test_codes_are_computed_in_place(tray):
    model = penjing.runtime.load(tray, engine="library")
    bound = model.bind()
    for sample in codes_of(model, 3):
        bound.inputs[0][0] = sample
        bound.run()
        np.testing.assert_array_equal(bound.outputs[0], model.run_codes(sample[None])[0])


def test_reals_are_computed_in_place(tray, images):
    model = penjing.runtime.load(tray, engine="library")
    bound = model.bind(reals=True)
    for image in images:
        bound.inputs[0][0] = image
        bound.run()
        np.testing.assert_array_equal(bound.outputs[0], model.run(image))


def test_what_is_bound_outlives_the_model(tray):
    model = penjing.runtime.load(tray, engine="library")
    codes = codes_of(model, 1)
    want = model.run_codes(codes)[0]
    bound = model.bind()
    del model
    gc.collect()
    for _ in range(100):
        bound.inputs[0][:] = codes
        bound.run()
    np.testing.assert_array_equal(bound.outputs[0], want)


def test_the_interpreter_has_nothing_to_bind(tray):
    model = penjing.runtime.load(tray, engine="interpreter")
    with pytest.raises(BundleError, match="interpreter"):
        model.bind()


@pytest.fixture(scope="module")
def threaded(program):
    """A tray whose library lets three threads share a call."""
    if not host_target().isas:
        pytest.skip(f"{host_target().name} has no kernels that threads share")
    return read_tray(api.build(program, api.BuildOptions(with_source=False, threads=3)))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_give_the_same_bytes(threaded, threads):
    alone = from_tray(threaded, engine="library")
    together = from_tray(threaded, engine="library", threads=threads)
    codes = codes_of(alone, 50)
    np.testing.assert_array_equal(together.run_codes(codes)[0], alone.run_codes(codes)[0])
    assert together.self_test() == 0
    assert f"{threads} threads" in together.engine.name


@pytest.mark.parametrize("threads", [0, 4])
def test_more_threads_than_a_library_has_are_refused(threaded, threads):
    with pytest.raises(InvalidInput, match="built for 3"):
        from_tray(threaded, engine="library", threads=threads)


def test_pools_start_and_end_many_times(threaded):
    for _ in range(20):
        assert from_tray(threaded, engine="library", threads=2).self_test() == 0
    gc.collect()
