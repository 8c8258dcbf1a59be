"""PENJING_ISA holds a compiled library to an instruction set; the bytes are the same."""

import numpy as np
import pytest

import penjing.runtime
from penjing.core import knobs
from penjing.core.errors import InvalidInput
from penjing.testing.isas import native_isas
from penjing.toolchain import host_target

HOST = host_target()
NATIVE = native_isas(HOST)
LACKING = [isa for isa in HOST.isas if isa not in NATIVE]


@pytest.mark.parametrize("best", NATIVE[:1])
def test_the_best_that_the_processor_has_is_used_and_named(best, tray, monkeypatch):
    monkeypatch.delenv(knobs.ISA.name, raising=False)
    assert penjing.runtime.load(tray, engine="library").engine.name == f"library {HOST.name} ({best})"


@pytest.mark.parametrize("isa", NATIVE)
def test_another_can_be_asked_for_and_computes_the_same(isa, tray, images, monkeypatch):
    monkeypatch.setenv(knobs.ISA.name, isa)
    model = penjing.runtime.load(tray, engine="library")
    assert model.engine.name == f"library {HOST.name} ({isa})"
    np.testing.assert_array_equal(model.run(images), penjing.runtime.load(tray, engine="interpreter").run(images))


@pytest.mark.parametrize("isa", LACKING)
def test_one_that_the_processor_lacks_is_refused(isa, tray, monkeypatch):
    monkeypatch.setenv(knobs.ISA.name, isa)
    with pytest.raises(InvalidInput, match=f"{knobs.ISA.name}={isa}: this processor lacks it"):
        penjing.runtime.load(tray, engine="library")


@pytest.mark.parametrize("best", NATIVE[:1])
def test_one_that_does_not_exist_is_refused_with_those_that_do(best, tray, monkeypatch):
    monkeypatch.setenv(knobs.ISA.name, "x86_mmx")
    with pytest.raises(InvalidInput, match=f"{knobs.ISA.name}=x86_mmx") as caught:
        penjing.runtime.load(tray, engine="library")
    assert best in caught.value.hint


@pytest.mark.parametrize("best", NATIVE[:1])
def test_no_other_engine_hides_that_one_does_not_exist(best, tray, monkeypatch):
    monkeypatch.setenv(knobs.ISA.name, "x86_mmx")
    with pytest.raises(InvalidInput, match="x86_mmx"):
        penjing.runtime.load(tray)
    monkeypatch.setenv(knobs.ISA.name, best)
    assert best in penjing.runtime.load(tray).engine.name
