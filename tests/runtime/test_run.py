"""A saved tray, loaded and run: reals, codes, pixels and labels, by the library and by the interpreter."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import penjing.runtime
from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidInput
from penjing.ir.types import Type
from penjing.ops.evaluate import evaluate
from penjing.ops.softmax import Softmax
from penjing.program.interpret import interpret
from penjing.runtime.engines import InterpreterEngine
from penjing.testing.networks import Network, batches, edge_cnn

ENGINES = ["library", "interpreter"]


@pytest.fixture(params=ENGINES)
def model(tray, request):
    return penjing.runtime.load(tray, engine=request.param)


def test_reals_go_through_codes_and_back(model, program, images):
    quants = [program.types[name].quant for name in (*program.inputs, *program.outputs)]
    (codes,) = interpret(program, quantize(images, quants[0].scale, quants[0].zero_point))
    got = model.run(images)
    assert got.dtype == np.float32 and got.shape == (5, 10)
    np.testing.assert_array_equal(got, dequantize(codes, quants[1].scale, quants[1].zero_point))


def test_the_model_is_close_to_the_network_it_was_made_of(model, images):
    (want,) = evaluate(edge_cnn(), images)
    np.testing.assert_allclose(model.run(images), want, atol=0.05 * np.abs(want).max())


def test_codes_go_in_and_come_out_as_the_program_defines(model, program):
    codes = np.random.default_rng(0).integers(0, 256, size=(70, 1, 32, 32), dtype=np.uint8)
    (got,) = model.run_codes(codes)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, interpret(program, codes)[0])


def test_a_sample_alone_gives_what_it_gives_in_a_batch(model, images):
    whole = model.run(images)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(model.run(image), whole[i : i + 1])
        np.testing.assert_array_equal(model.run(image[None]), whole[i : i + 1])


def test_results_do_not_change_when_the_model_runs_again(model, images):
    first = model.run(images[:1])
    kept = first.copy()
    model.run(images[1:])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(model.run(images[:1]), kept)


def test_inputs_may_lie_anyhow_in_memory(model, images):
    want = model.run(images)
    np.testing.assert_array_equal(model.run(np.asfortranarray(images)), want)
    np.testing.assert_array_equal(model.run(images.astype(">f4")), want)
    np.testing.assert_array_equal(model.run(images.astype(np.float64)), want)
    np.testing.assert_array_equal(model.run(np.repeat(images, 2, axis=0)[::2]), want)


def test_inputs_are_not_written(model, images):
    images = images.copy()
    images.flags.writeable = False
    model.run(images)


def test_the_engine_says_what_it_is(tray):
    assert penjing.runtime.load(tray, engine="interpreter").engine.name == "interpreter"
    assert penjing.runtime.load(tray, engine="library").engine.name.startswith("library ")


def test_the_self_test_finds_no_difference(model):
    assert model.self_test() == 0


def test_the_self_test_counts_the_bytes_that_differ(parts, packed):
    variant = parts.variants["default"]
    outputs = variant.golden.outputs[0].copy()
    outputs[1, 3] ^= 1
    outputs[-1, 0] ^= 255
    golden = dataclasses.replace(variant.golden, outputs=(outputs,))
    changed = dataclasses.replace(parts, variants={"default": dataclasses.replace(variant, golden=golden)})
    assert penjing.runtime.load(packed(changed), engine="interpreter").self_test() == 2


def test_the_golden_vectors_hold_the_real_inputs_and_random_codes(tray, program, images):
    golden = penjing.runtime.load(tray).tray.golden("default")
    quant = program.types["x"].quant
    np.testing.assert_array_equal(golden.inputs[0][:2], quantize(images[:2], quant.scale, quant.zero_point))
    assert golden.n_samples > 2
    np.testing.assert_array_equal(golden.outputs[0], interpret(program, *golden.inputs)[0])


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ((), "0 inputs were given, the model takes 1"),
        ((np.zeros((1, 1, 32, 32), np.float32),) * 2, "2 inputs were given, the model takes 1"),
        ((np.zeros((1, 1, 32, 31), np.float32),), r"input x has shape \(1, 1, 32, 31\), expected \(n, 1, 32, 32\)"),
        ((np.zeros((32, 32), np.float32),), r"input x has shape \(32, 32\)"),
        ((np.zeros((1, 1, 1, 32, 32), np.float32),), "input x has shape"),
        ((np.zeros((1, 1, 32, 32), np.uint8),), "input x must be float, not uint8"),
        ((np.zeros((1, 1, 32, 32), np.int64),), "input x must be float, not int64"),
        ((np.zeros((1, 1, 32, 32), bool),), "input x must be float, not bool"),
        ((np.full((1, 1, 32, 32), np.nan, np.float32),), "holds NaN or infinity in 1024 places"),
        ((np.full((2, 1, 32, 32), np.inf, np.float32),), "holds NaN or infinity in 2048 places"),
        ((np.zeros((0, 1, 32, 32), np.float32),), "at least one"),
    ],
)
def test_reals_that_do_not_fit_are_refused(model, inputs, what):
    with pytest.raises(InvalidInput, match=what):
        model.run(*inputs)


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ((), "0 inputs were given"),
        ((np.zeros((1, 1, 32, 32), np.float32),), "must hold u8 codes, not float32"),
        ((np.zeros((1, 1, 32, 32), np.int8),), "must hold u8 codes, not int8"),
        ((np.zeros((1, 1, 32, 33), np.uint8),), r"expected \(n, 1, 32, 32\)"),
        ((np.zeros((1, 32, 32), np.uint8),), r"expected \(n, 1, 32, 32\)"),
        ((np.zeros((0, 1, 32, 32), np.uint8),), "at least one"),
    ],
)
def test_codes_that_do_not_fit_are_refused(model, inputs, what):
    with pytest.raises(InvalidInput, match=what):
        model.run_codes(*inputs)


def test_pixels_are_scaled_to_the_value_range_and_normalised(model):
    pixels = np.arange(1024, dtype=np.uint8).reshape(1, 32, 32)
    real = model.prepare(pixels)
    assert real.dtype == np.float32 and real.shape == (1, 1, 32, 32)
    np.testing.assert_allclose(real[0], (pixels / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.prepare(pixels[None]), real)


def test_floats_lie_in_the_value_range_already(model):
    raw = np.linspace(0, 1, 1024, dtype=np.float32).reshape(1, 32, 32)
    np.testing.assert_allclose(model.prepare(raw)[0], (raw - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (np.zeros((1, 32, 32), np.int32), "must be uint8 or float, not int32"),
        (np.full((1, 32, 32), np.nan, np.float32), "NaN or infinity"),
        (np.zeros((3, 32, 32), np.uint8), "has shape"),
        (np.zeros((32, 32), np.uint8), "has shape"),
        (np.zeros((1, 28, 28), np.uint8), "has shape"),
    ],
)
def test_raw_inputs_that_do_not_fit_are_refused(model, raw, what):
    with pytest.raises(InvalidInput, match=what):
        model.prepare(raw)


def test_classify_names_the_most_likely_labels_with_probabilities(model):
    pixels = np.random.default_rng(3).integers(0, 256, size=(1, 32, 32), dtype=np.uint8)
    scores = model.run(model.prepare(pixels))[0].astype(np.float64)
    want = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    got = model.classify(pixels, top=10)
    assert [label for label, _ in got] == [f"digit {i}" for i in np.argsort(-want, kind="stable")]
    np.testing.assert_allclose([p for _, p in got], np.sort(want)[::-1], rtol=1e-5)
    assert model.classify(pixels) == got[:5]
    assert model.classify(pixels, top=1) == got[:1]


def test_scores_of_a_softmax_layer_are_probabilities_as_they_are(model):
    after_softmax = np.array([0.25, 0.703125, 0.05078125, 0, 0, 0, 0, 0, 0, 0], np.float32)
    assert model.top_labels(after_softmax, top=2) == [("digit 1", 0.703125), ("digit 0", 0.25)]
    assert model.top_labels(np.zeros(10, np.float32), top=1)[0][1] == pytest.approx(0.1)


def test_classify_takes_one_sample(model):
    with pytest.raises(InvalidInput, match="classify takes one sample, not 2"):
        model.classify(np.zeros((2, 1, 32, 32), np.uint8))


def test_outputs_without_labels_are_numbered(parts, packed):
    spec = dataclasses.replace(parts.outputs[0], labels=None)
    model = penjing.runtime.load(packed(dataclasses.replace(parts, outputs=(spec,))), engine="interpreter")
    assert {label for label, _ in model.classify(np.zeros((1, 32, 32), np.uint8), top=10)} == set("0123456789")


@pytest.mark.parametrize("engine", ENGINES)
def test_several_inputs_and_outputs_go_through(packed, engine):
    net = Network("pair")
    a, b = net.input(2, 4, 4, name="a"), net.input(6, name="b")
    y = net.linear(net.flatten(net.conv(a, 3, out="conv"), out="flat"), 4, out="y")
    graph = net.done(y, net.node(Softmax(1), net.linear(b, 3, out="fc"), out="p"), b, y)
    program = api.lower(api.quantize(graph, batches(graph, 16)))
    model = penjing.runtime.load(packed(api.assemble(program)), engine=engine)
    (inputs,) = batches(graph, 16)
    got = model.run(*inputs)
    assert isinstance(got, tuple) and len(got) == 4
    for y, want in zip(got, evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(y, want, atol=0.05 * np.abs(want).max())
    assert model.self_test() == 0
    with pytest.raises(InvalidInput, match=r"same number of samples, at least one, not \[1, 2\]"):
        model.run(inputs[0][:1], inputs[1][:2])


def test_a_program_of_a_fixed_batch_of_one_takes_any_number_of_samples():
    net = Network("fixed")
    net.graph.add_input("x", Type((1, 6)))
    graph = net.done(net.linear("x", 3, out="y"))
    x = np.random.default_rng(0).normal(size=(1, 6)).astype(np.float32)
    engine = InterpreterEngine(api.lower(api.quantize(graph, [x])))
    codes = np.random.default_rng(1).integers(0, 256, size=(9, 6), dtype=np.uint8)
    (got,) = engine.run(codes)
    assert got.shape == (9, 3)
    for i in range(9):
        np.testing.assert_array_equal(engine.run(codes[i : i + 1])[0], got[i : i + 1])


def test_importing_the_runtime_loads_neither_numpy_nor_torch():
    code = "import sys, penjing.runtime; print([m for m in ('numpy', 'torch', 'onnx', 'ctypes') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_running_a_tray_loads_numpy_and_no_other_library(tray):
    code = (
        "import sys, penjing.runtime, numpy\n"
        f"m = penjing.runtime.load({str(tray)!r})\n"
        "m.run(numpy.zeros((1, 32, 32), numpy.float32))\n"
        "heavy = ('torch', 'onnx', 'onnxruntime', 'scipy', 'sklearn', 'PIL', 'rich', 'typer', 'penjing.api')\n"
        "print(m.engine.name.split()[0], m.self_test(), [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "library 0 []"


def test_a_tray_loads_the_operators_that_it_uses_and_no_slow_module(tray):
    """Each of these would take longer to import than a small network takes to load."""
    program = """
import sys, numpy, penjing.runtime
before = set(sys.modules)
penjing.runtime.load(sys.argv[1], engine="library").bind().run()
print(*sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", program, str(tray)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert {"penjing.ops.conv2d", "penjing.ops.linear"} <= loaded
    assert not loaded & {f"penjing.ops.{name}" for name in ("softmax", "conv_transpose2d", "resize", "concat", "mean")}
    assert not loaded & {"numpy.random", "numpy.ma"}


def test_the_largest_floats_are_inputs_like_others(model):
    largest = np.finfo(np.float32).max
    x = np.full((1, 1, 32, 32), largest, np.float32)
    x[0, 0, 0] = -largest
    with np.errstate(over="ignore"):  # the interpreter divides by the scale
        assert np.isfinite(model.run(x)).all()
    x[0, 0, 5, 5] = np.nan
    with pytest.raises(InvalidInput, match="NaN or infinity in 1 places"):
        model.run(x)


def test_the_package_offers_load_and_model():
    assert sorted(penjing.runtime.__all__) == ["Model", "load"]
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = penjing.runtime.train


@pytest.mark.parametrize(
    "first", ["penjing.runtime", "penjing.api", "penjing.runtime.loading", "penjing.runtime.model"]
)
def test_load_is_a_function_whatever_was_imported_before_and_however_often_it_is_taken(first):
    taken = "penjing.runtime.load.__name__, penjing.runtime.load.__name__, penjing.runtime.Model.__name__"
    code = f"import {first}, penjing.runtime; print({taken}, penjing.load is penjing.runtime.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["load", "load", "Model", "True"]
