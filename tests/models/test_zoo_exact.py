"""Every network of the zoo: the library of a tray equals the interpreter, within the memory that was foretold.

The weights are random, with batch norms that keep activations in the ranges of a trained network; where trained
weights matter, see test_accuracy.py. Inputs are random codes, the two extremes, smooth images and normalised values.
"""

import re
from collections.abc import Iterator

import numpy as np
import pytest

from penjing import api
from penjing.bundle.tray import Tray, read_tray
from penjing.core import knobs
from penjing.core.arithmetic import quantize
from penjing.ir.graph import Graph
from penjing.program.interpret import interpret, rows_at_a_time
from penjing.program.plan import align, plan
from penjing.program.symbols import c_stem
from penjing.runtime.loading import from_tray
from penjing.runtime.model import Model
from penjing.testing.differences import describe_difference
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.plan_check import plan_problems
from penjing.toolchain import host_target
from penjing.vector.prepare import prepare
from penjing.zoo import catalog

N_INPUTS = {"edgecnn": 10_000, "mobilenetv2": 40, "resnet56": 80}  # all others: 300
ON_EVERY_ISA = ("edgecnn", "resnet20")  # with all inputs; all others with the first few
LARGE = ("mobilenetv2", "resnet56")
SLOW = ("edgecnn", *LARGE)


# Of the module, so that all tests of one network follow one another and share its capture and its tray.
@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in catalog.names()],
)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def program(name, zoo_program) -> Graph:
    return zoo_program(name)


@pytest.fixture(scope="module")
def tray(program) -> Tray:
    return read_tray(api.build(program))


def input_codes(program: Graph, name: str, count: int) -> np.ndarray:
    """u8 (count, ...): all 0, all 255; then a third each of random codes, smooth images and real inputs as codes."""
    type_ = program.types[program.inputs[0]]
    shape = type_.bounds[1:]
    rng = np.random.default_rng(0)
    flat = np.stack([np.full(shape, code, np.uint8) for code in (0, 255)])
    third = count // 3
    real = catalog.find(name).random_inputs(third, seed=2)
    random_codes = rng.integers(0, 256, (count - 2 - 2 * third, *shape), np.uint8)
    parts = [
        flat,
        random_codes,
        smooth_codes(rng, (third, *shape)),
        quantize(real, type_.quant.scale, type_.quant.zero_point),
    ]
    return np.concatenate(parts)


def smooth_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Patches of even colour and a little noise: neighbours are alike, as in images, and sums grow large."""
    patch = [6 if axis >= max(1, len(shape) - 2) else 1 for axis in range(len(shape))]
    coarse = [-(-size // step) for size, step in zip(shape, patch, strict=True)]
    values = rng.integers(0, 256, coarse)
    for axis, step in enumerate(patch):
        values = values.repeat(step, axis=axis)
    values = values[tuple(slice(size) for size in shape)] + rng.integers(-8, 9, shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def library_on_each_isa(tray: Tray, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """The tray's library as it chooses by itself, then held to each lesser instruction set."""
    yield from_tray(tray, engine="library")
    for isa in native_isas(host_target())[1:]:
        monkeypatch.setenv(knobs.ISA.name, isa)
        model = from_tray(tray, engine="library")
        assert isa in model.engine.name
        yield model


def test_the_library_of_a_tray_equals_the_interpreter(name, program, tray, monkeypatch):
    models = [*library_on_each_isa(tray, monkeypatch)]
    codes = input_codes(program, name, N_INPUTS.get(name, 300))
    chunk = rows_at_a_time(program)
    outputs = []
    for start in range(0, len(codes), chunk):
        part = codes[start : start + chunk]
        (want,) = interpret(program, part)
        for model in models if start == 0 or name in ON_EVERY_ISA else models[:1]:
            (got,) = model.run_codes(part)
            difference = describe_difference(got, want)
            assert not difference, f"{name}, {model.engine.name}, from input {start}: output {difference}"
        outputs.append(want.reshape(len(want), -1))
    n_different = len(np.unique(np.concatenate(outputs), axis=0))
    assert n_different > 0.9 * len(codes), f"only {n_different} of {len(codes)} outputs differ: the network is dead"


def test_the_foretold_arena_and_weights_are_those_that_are_used(name, program, host, sanitize):
    """Compiled with sanitizers and run on blocks of exactly the foretold sizes, whose every arena byte is then used."""
    prepared = prepare(program, host)
    samples = corner_samples(program, np.random.default_rng(0), 1)
    optimize = "-O1" if name in LARGE else "-O0"  # of a large network, the run costs more than the build
    report = run_model_suite(program, samples, host, sanitize, optimize=optimize)
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes == report.planned_bytes
    assert prepared.plan.arena_bytes == align(report.touched_bytes)
    sizes = [constant.array.nbytes for constant in prepared.program.constants.values()]
    assert prepared.plan.weights_bytes == sum(align(size) for size in sizes[:-1]) + sizes[-1]
    assert not plan_problems(prepared.program, prepared.plan)


def test_manifest_header_and_plan_state_the_same_sizes(program, tray, host):
    plain, memory = plan(program), prepare(program, host).plan
    variant, built = tray.variant("default"), tray.manifest.targets[host.name]["default"]
    assert (variant.arena_bytes, variant.weights_bytes) == (plain.arena_bytes, plain.weights_bytes)
    assert (built.arena_bytes, built.packed_bytes) == (memory.arena_bytes, memory.weights_bytes)
    header = tray.source()[f"src/{host.name}/{c_stem(program.name)}.h"].decode()
    stated = {key: int(value) for key, value in re.findall(r"#define \w+_(ARENA|WEIGHTS)_BYTES (\d+)", header)}
    assert stated == {"ARENA": memory.arena_bytes, "WEIGHTS": memory.weights_bytes}
